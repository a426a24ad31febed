//! A source: its tree, its configuration, its daemon.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::place::{Place, save};
use crate::{FleetStatus, Host, Network, wait_for};

/// A source host.
#[derive(Debug)]
pub struct Source {
    host: Host,
    tree: PathBuf,
}

impl Deref for Source {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Source {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Source {
    /// Makes the host of a source, which has no configuration yet.
    #[must_use]
    pub fn new(place: &Arc<Place>, tree: &str) -> Self {
        Self {
            host: Host::new(place, "source", "source"),
            tree: place.folder(tree),
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
        source.run_init("127.0.0.1:0");
        source
    }

    /// Makes a source of the place's folder `tree`, on a host of a network, without starting it.
    #[must_use]
    pub fn init_on(place: &Arc<Place>, network: &Arc<Network>) -> Self {
        let mut source = Self::new(place, "tree");
        source.connect(network);
        source.run_init(&format!("{}:7443", source.uplink().address()));
        source
    }

    fn run_init(&self, listen: &str) {
        let tree = self.tree.to_str().expect("the path is text");
        let init = ["init", tree, "--volume", "pipes", "--listen", listen];
        self.run(&init).succeeds();
    }

    /// Starts the daemon, and waits until it has scanned its tree.
    pub fn start(&mut self) {
        self.start_until(&["health", "--ready"]);
        // After a restart the agents are to find it where it was.
        let listen = self.listen();
        self.set("LISTEN", &listen);
    }

    /// Kills the daemon, as a crash does, and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.process().kill();
        self.start();
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
