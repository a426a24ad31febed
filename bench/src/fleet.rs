//! A source and its agents: real processes of the release binary on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::process::{self, Daemon, wait_for};

const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Events are dated in whole milliseconds.
pub(crate) const EVENT_STEP: Duration = Duration::from_millis(1);

/// How a fleet is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The binary.
    pub(crate) codevol: &'a Path,
    /// A directory for all that the fleet writes.
    pub(crate) dir: &'a Path,
    /// The source tree.
    pub(crate) tree: &'a Path,
    /// How long the tree must be quiet; the default where nothing is said.
    pub(crate) settle: Option<&'a str>,
    /// Whether saves are published by themselves.
    pub(crate) watched: bool,
}

/// The processes. The agents stop before the source.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The agents.
    pub(crate) agents: Vec<Agent>,
    codevol: PathBuf,
    dir: PathBuf,
    file: PathBuf,
    _source: Daemon,
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Its volume's root.
    pub(crate) root: PathBuf,
    file: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Fleet {
    /// Starts a source, and waits until it has published the tree.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self> {
        let dir = setup.dir.join("fleet");
        fs::create_dir_all(&dir)?;
        let file = dir.join("source.toml");
        let mut init = Command::new(setup.codevol);
        init.arg("-C").arg(&file).arg("init").arg(setup.tree);
        process::output(init.args(["--volume", "bench", "--listen", "127.0.0.1:0"]))?;
        let mut source = Command::new(setup.codevol);
        source.arg("-C").arg(&file).arg("source");
        if let Some(settle) = setup.settle {
            source.env("CODEVOL_VOLUME__0__WATCH__SETTLE", settle);
        }
        if !setup.watched {
            source.env("CODEVOL_VOLUME__0__PUBLISH", "manual");
        }
        let source = Daemon::start(&mut source, &dir.join("source.log"))?;
        let fleet = Self {
            agents: Vec::new(),
            codevol: setup.codevol.to_owned(),
            dir,
            file,
            _source: source,
        };
        wait_for("the source answers", START_TIMEOUT, || {
            fleet.status().is_ok()
        })?;
        if !setup.watched {
            process::output(fleet.command().args(["push", "--yes"]))?;
        }
        wait_for("the first release", START_TIMEOUT, || {
            fleet
                .status()
                .is_ok_and(|status| status.pointer("/volumes/0/live").is_some_and(Value::is_u64))
        })?;
        Ok(fleet)
    }

    /// Lets one more agent join; it does not run yet.
    pub(crate) fn join(&mut self, address: Option<&str>, code_server: Option<&str>) -> Result<()> {
        let name = format!("agent-{:02}", self.agents.len() + 1);
        let token = process::output(self.command().args(["invite", "--name", &name]))?;
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir)?;
        let (file, root) = (dir.join("agent.toml"), dir.join("root"));
        let mut join = Command::new(&self.codevol);
        join.arg("-C").arg(&file).args(["join", token.trim()]);
        join.arg("--root").arg(&root);
        for (flag, value) in [("--source", address), ("--code-server", code_server)] {
            if let Some(value) = value {
                join.args([flag, value]);
            }
        }
        process::output(&mut join)?;
        self.agents.push(Agent {
            root,
            file,
            log: dir.join("agent.log"),
            daemon: None,
        });
        Ok(())
    }

    /// Starts every agent.
    pub(crate) fn run_agents(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            let mut command = Command::new(&self.codevol);
            command.arg("-C").arg(&agent.file).arg("agent");
            agent.daemon = Some(Daemon::start(&mut command, &agent.log)?);
        }
        Ok(())
    }

    /// Waits until every agent has activated something.
    pub(crate) fn wait_until_active(&self) -> Result<()> {
        wait_for("the first sync", START_TIMEOUT, || {
            self.agents.iter().all(|agent| agent.current().is_some())
        })
    }

    /// Returns a command of the source's host.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.codevol);
        command.arg("-C").arg(&self.file);
        command
    }

    /// Returns how the fleet stands.
    pub(crate) fn status(&self) -> Result<Value> {
        let text = process::output(self.command().args(["status", "--json"]))?;
        serde_json::from_str(&text).context("status is no JSON")
    }

    /// Returns where the source listens.
    pub(crate) fn address(&self) -> Result<String> {
        let status = self.status()?;
        let listen = status.get("listen").and_then(Value::as_str);
        listen.map(str::to_owned).context("status names no address")
    }
}

/// Returns when the source told of something; at most [`EVENT_STEP`] before it happened.
pub(crate) fn told_at(events: &str, kind: &str) -> Result<SystemTime> {
    let event = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event.get("event").is_some_and(|event| event == kind))
        .with_context(|| format!("the push told of no `{kind}`"))?;
    let at = event.get("at").and_then(Value::as_str);
    let at: Timestamp = at.context("an event has no time")?.parse()?;
    Ok(SystemTime::from(at))
}

impl Agent {
    /// Returns what `current` names.
    pub(crate) fn current(&self) -> Option<PathBuf> {
        fs::read_link(self.tree()).ok()
    }

    /// Returns the path by which the tree is read.
    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join("current")
    }
}
