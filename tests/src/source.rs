//! A source: its tree, its configuration, its daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::binary::codevol;
use crate::place::{Place, save};
use crate::{Ended, FleetStatus, Process, wait_for};

/// A source host.
#[derive(Debug)]
pub struct Source {
    process: Option<Process>,
    tree: PathBuf,
    folder: PathBuf,
    env: Vec<(String, String)>,
    place: Arc<Place>,
}

impl Source {
    /// Makes the host of a source, which has no configuration yet.
    #[must_use]
    pub fn new(place: &Arc<Place>, tree: &str) -> Self {
        Self {
            process: None,
            tree: place.folder(tree),
            folder: place.folder("source"),
            env: Vec::new(),
            place: Arc::clone(place),
        }
    }

    /// Makes a source of the place's folder `tree`, without starting it.
    #[must_use]
    pub fn init(place: &Arc<Place>) -> Self {
        Self::init_of(place, "tree")
    }

    /// Makes a source of a folder of the place, without starting it.
    #[must_use]
    pub fn init_of(place: &Arc<Place>, tree: &str) -> Self {
        let source = Self::new(place, tree);
        let tree = source.tree.to_str().expect("the path is text");
        let init = ["init", tree, "--volume", "pipes", "--listen", "127.0.0.1:0"];
        source.run(&init).succeeds();
        source
    }

    /// Sets a value of its configuration, as `VOLUME__0__WATCH__SETTLE`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("CODEVOL_{key}"), value.to_owned()));
    }

    /// Starts the daemon, and waits until it has scanned its tree.
    pub fn start(&mut self) {
        let mut command = self.command();
        command.arg("source");
        self.process = Some(Process::start("source", &self.place.logs(), command));
        wait_for("the source is ready", || {
            assert!(
                self.process().is_running(),
                "the source ended:\n{}",
                self.process().log()
            );
            let health = self.run(&["health", "--ready"]);
            (health.code == Some(0))
                .then_some(())
                .ok_or_else(|| health.to_string())
        });
        // After a restart the agents are to find it where it was.
        let listen = self.listen();
        self.set("LISTEN", &listen);
    }

    /// Returns the daemon.
    ///
    /// # Panics
    /// When it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the source was started")
    }

    /// Kills the daemon, as a crash does, and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.process().kill();
        self.start();
    }

    /// Runs `codevol` with this source's configuration.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.command();
        command.args(args);
        Ended::run(command)
    }

    /// Returns a command that runs `codevol` with this source's configuration.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = codevol(&self.folder);
        let env = self.env.iter().map(|(key, value)| (key, value));
        command.envs(env).arg("-C").arg(self.file());
        command
    }

    /// Returns how the fleet stands.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        FleetStatus(self.run(&["status", "--json"]).exits(0).json())
    }

    /// Returns a token for one agent.
    #[must_use]
    pub fn invite(&self, name: &str) -> String {
        let invited = self.run(&["invite", "--name", name]).exits(0);
        invited.stdout.trim_end().to_owned()
    }

    /// Saves a file of the tree.
    pub fn save(&self, path: &str, text: impl AsRef<[u8]>) {
        save(&self.tree.join(path), text.as_ref());
    }

    /// Removes a file of the tree.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.tree.join(path)).expect("a file is removed");
    }

    /// Returns where agents reach it.
    #[must_use]
    pub fn listen(&self) -> String {
        let status = self.status();
        let listen = status.0["listen"].as_str();
        listen.expect("a source listens").to_owned()
    }

    /// Returns the tree.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("codevol.toml")
    }

    /// Returns the place it is in.
    #[must_use]
    pub const fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Waits for a state of the fleet, and returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        wait_for(what, || {
            let status = self.status();
            if holds(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// Waits until a release is live on every node.
    #[track_caller]
    pub fn wait_live_everywhere(&self, seq: u64) -> FleetStatus {
        let what = format!("r{seq} is live everywhere");
        self.wait(&what, |status| status.is_live_everywhere(seq))
    }
}
