//! An agent: its root, its configuration, its daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::binary::codevol;
use crate::place::Place;
use crate::{Address, Ended, FleetStatus, Process, Relay, Source, wait_for};

/// An agent's host.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    name: String,
    folder: PathBuf,
    root: PathBuf,
    env: Vec<(String, String)>,
    place: Arc<Place>,
}

impl Agent {
    /// Makes the host of an agent, which is no member yet.
    #[must_use]
    pub fn new(place: &Arc<Place>, name: &str) -> Self {
        let folder = place.folder(name);
        Self {
            process: None,
            name: name.to_owned(),
            root: folder.join("root"),
            folder,
            env: Vec::new(),
            place: Arc::clone(place),
        }
    }

    /// Enrols an agent and starts it.
    #[must_use]
    pub fn join_and_start(source: &Source, name: &str, code_server: Option<&Address>) -> Self {
        let mut agent = Self::join(source, name, code_server);
        agent.start();
        agent
    }

    /// Enrols an agent that dials a relay, and starts it.
    #[must_use]
    pub fn join_through(source: &Source, name: &str, relay: &Relay) -> Self {
        let mut agent = Self::new(source.place(), name);
        let joined = agent.run_join(&source.invite(name), &["--source", &relay.address()]);
        joined.succeeds();
        agent.start();
        agent
    }

    /// Enrols an agent.
    #[must_use]
    pub fn join(source: &Source, name: &str, code_server: Option<&Address>) -> Self {
        let agent = Self::new(source.place(), name);
        agent.enrol(&source.invite(name), code_server).succeeds();
        agent
    }

    /// Tries to enrol with a token.
    #[must_use]
    pub fn enrol(&self, token: &str, code_server: Option<&Address>) -> Ended {
        match code_server {
            Some(address) => self.run_join(token, &["--code-server", &address.to_string()]),
            None => self.run_join(token, &[]),
        }
    }

    /// Tries to enrol with a token, and with more arguments.
    #[must_use]
    pub fn run_join(&self, token: &str, more: &[&str]) -> Ended {
        let root = self.root.to_str().expect("the path is text");
        let join = ["join", token, "--root", root, "--name", &self.name];
        self.run(&[&join, more].concat())
    }

    /// Sets a value of its configuration, as `VOLUME__0__KEEP`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("CODEVOL_{key}"), value.to_owned()));
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        wait_for("the agent answers", || {
            assert!(
                self.process().is_running(),
                "the agent ended:\n{}",
                self.process().log()
            );
            let health = self.run(&["health"]);
            (health.code == Some(0))
                .then_some(())
                .ok_or_else(|| health.to_string())
        });
    }

    /// Starts the daemon, whatever becomes of it.
    pub fn spawn(&mut self) {
        let mut command = self.command();
        command.arg("agent");
        self.process = Some(Process::start(&self.name, &self.place.logs(), command));
    }

    /// Returns the daemon.
    ///
    /// # Panics
    /// When it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// Runs `codevol` with this agent's configuration.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.command();
        command.args(args);
        Ended::run(command)
    }

    /// Returns a command that runs `codevol` with this agent's configuration.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = codevol(&self.folder);
        let env = self.env.iter().map(|(key, value)| (key, value));
        command.envs(env).arg("-C").arg(self.file());
        command
    }

    /// Returns how it stands by its own account.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        FleetStatus(self.run(&["status", "--json"]).exits(0).json())
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the folder that holds `current`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("codevol.toml")
    }

    /// Returns what `readlink current` prints; nothing before the first release.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        let target = fs::read_link(self.root.join("current")).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// Returns the release that `current` names, by its number.
    #[must_use]
    pub fn current_seq(&self) -> Option<u64> {
        let current = self.current()?;
        let name = current.strip_prefix("releases/")?;
        name.split('-').next()?.parse().ok()
    }

    /// Returns a file as whoever goes through `current` reads it; nothing where there is none.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join("current").join(path)).ok()
    }

    /// Returns `.codevol-release.json`.
    #[must_use]
    pub fn release_file(&self) -> Value {
        let text = self
            .read(".codevol-release.json")
            .expect("a release is active");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// Returns how many bytes lie in the releases that have not arrived whole.
    #[must_use]
    pub fn incoming_bytes(&self) -> u64 {
        bytes_below(&self.root.join(".codevol/incoming"))
    }

    /// Returns the names of the releases that stand on its disk.
    #[must_use]
    pub fn releases(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("releases"));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// What goes away meanwhile counts as nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let stat = entry.metadata().ok()?;
            Some(if stat.is_dir() {
                bytes_below(&entry.path())
            } else {
                stat.len()
            })
        })
        .sum()
}
