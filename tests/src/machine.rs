//! A member's machine that holds no volume: an operator's laptop, or a publisher such as CI.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::binary::codevol;
use crate::place::save;
use crate::{Ended, Host, Source};

/// Such a machine. It runs no daemon.
#[derive(Debug)]
pub struct Machine {
    host: Host,
}

impl Deref for Machine {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Machine {
    /// Enrols a machine; on a network where the source is on one.
    #[must_use]
    pub fn join(source: &Source, name: &str, role: &str) -> Self {
        let invite = ["invite", "--name", name, "--role", role];
        let invited = source.run(&invite).exits(0);
        let machine = Self::new(source, name);
        let token = invited.stdout.trim_end();
        machine.run(&["join", token]).succeeds();
        machine
    }

    /// Makes a machine that is no member yet; on a network where the source is on one.
    #[must_use]
    pub fn new(source: &Source, name: &str) -> Self {
        let mut host = Host::new(source.place(), "operator", name);
        host.connect_beside(source);
        Self { host }
    }

    /// Returns its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.host.folder()
    }

    /// Returns the file of its key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.path().join("state/node.key")
    }

    /// Saves a file of the machine, and returns its path.
    pub fn save(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        save(&path, text.as_ref());
        path
    }

    /// Runs `codevol` on a machine that has no configuration, with these variables.
    #[must_use]
    pub fn run_by_environment(&self, env: &[(&str, &str)], args: &[&str]) -> Ended {
        let mut command = codevol(self.path(), None);
        command.envs(env.iter().copied()).args(args);
        Ended::run(command)
    }
}
