//! What the hosts of a source and of an agent have in common: a folder, a configuration, a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::binary::codevol;
use crate::place::Place;
use crate::{Ended, FleetStatus, Network, Process, Uplink, wait_for};

/// A host with a daemon.
#[derive(Debug)]
pub struct Host {
    /// Which daemon: `source` or `agent`.
    role: &'static str,
    name: String,
    process: Option<Process>,
    folder: PathBuf,
    env: Vec<(String, String)>,
    uplink: Option<Uplink>,
    place: Arc<Place>,
}

impl Host {
    pub(crate) fn new(place: &Arc<Place>, role: &'static str, name: &str) -> Self {
        Self {
            role,
            name: name.to_owned(),
            process: None,
            folder: place.folder(name),
            env: Vec::new(),
            uplink: None,
            place: Arc::clone(place),
        }
    }

    /// Connects it to a network, where it is a host of its own from now on.
    pub(crate) fn connect(&mut self, network: &Arc<Network>) {
        self.uplink = Some(Uplink::new(network, &self.place, &self.name));
    }

    /// Connects it to the network that another host is on, if that one is.
    pub(crate) fn connect_beside(&mut self, other: &Self) {
        if let Some(uplink) = &other.uplink {
            self.connect(uplink.network());
        }
    }

    /// Returns its place on its network.
    ///
    /// # Panics
    /// When it was not connected to one.
    #[must_use]
    pub fn uplink(&self) -> &Uplink {
        let uplink = self.uplink.as_ref();
        uplink.expect("the host is connected to a network")
    }

    /// Sets a value of its configuration, as `VOLUME__0__KEEP`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("CODEVOL_{key}"), value.to_owned()));
    }

    /// Sets a variable of its environment, as a service manager does.
    pub fn set_env(&mut self, variable: &str, value: &str) {
        self.env.push((variable.to_owned(), value.to_owned()));
    }

    /// Starts the daemon, whatever becomes of it.
    pub fn spawn(&mut self) {
        let mut command = self.command();
        command.arg(self.role);
        self.process = Some(Process::start(&self.name, &self.place.logs(), command));
    }

    /// Starts the daemon, and waits until a command says that it is well.
    pub(crate) fn start_until(&mut self, health: &[&str]) {
        self.spawn();
        let role = self.role;
        wait_for(&format!("the {role} answers"), || {
            assert!(
                self.process().is_running(),
                "the {role} ended:\n{}",
                self.process().log()
            );
            let health = self.run(health);
            (health.code == Some(0))
                .then_some(())
                .ok_or_else(|| health.to_string())
        });
    }

    /// Returns the daemon.
    ///
    /// # Panics
    /// When it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the daemon was started")
    }

    /// Runs `codevol` with this host's configuration.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.command();
        command.args(args);
        Ended::run(command)
    }

    /// Returns a command that runs `codevol` with this host's configuration.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = codevol(&self.folder, self.uplink.as_ref());
        let env = self.env.iter().map(|(key, value)| (key, value));
        command.envs(env).arg("-C").arg(self.file());
        command
    }

    /// Returns how the fleet stands by the daemon's account.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        FleetStatus(self.run(&["status", "--json"]).exits(0).json())
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}
