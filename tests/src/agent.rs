//! An agent: its root, its configuration, its daemon.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::place::Place;
use crate::{Address, Ended, Host, Relay, Source};

/// An agent's host.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    root: PathBuf,
}

impl Deref for Agent {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Agent {
    /// Makes the host of an agent, which is no member yet.
    #[must_use]
    pub fn new(place: &Arc<Place>, name: &str) -> Self {
        let host = Host::new(place, "agent", name);
        Self {
            root: host.folder().join("root"),
            host,
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

    /// Enrols an agent; on a network where the source is on one.
    #[must_use]
    pub fn join(source: &Source, name: &str, code_server: Option<&Address>) -> Self {
        let mut agent = Self::new(source.place(), name);
        agent.connect_beside(source);
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
        let join = ["join", token, "--root", root, "--name", self.name()];
        self.run(&[&join, more].concat())
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start(&mut self) {
        self.start_until(&["health"]);
    }

    /// Returns the folder that holds `current`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
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
