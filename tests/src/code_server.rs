//! A real `dagster code-server start`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::binary::clear;
use crate::place::{Place, save};
use crate::{Address, Dagster, Process, served, wait_for};

/// How a code server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `-d ROOT/current -m pipes.definitions`
    Module,
    /// `-d ROOT/current -f ROOT/current/definitions.py`
    File,
    /// As `Module`, on a unix socket.
    Socket,
    /// As `Module`, with one `PYTHONPYCACHEPREFIX` for whatever `current` names.
    SharedBytecode,
    /// `-f definitions.py` with no `-d`, in `ROOT/current`: it never follows `current`.
    InCurrent,
    /// `dagster api grpc` with `-d ROOT/current -m pipes.definitions`: it cannot reload.
    ApiGrpc,
}

/// A code server, with a `DAGSTER_HOME` of its own.
#[derive(Debug)]
pub struct CodeServer {
    process: Option<Process>,
    program: PathBuf,
    name: String,
    home: PathBuf,
    address: Address,
    start: Start,
    place: Arc<Place>,
}

impl CodeServer {
    /// Chooses where it will answer; does not start it.
    #[must_use]
    pub fn new(dagster: &Dagster, place: &Arc<Place>, name: &str, start: Start) -> Self {
        let home = place.path().join(format!("{name}-dagster"));
        save(
            &home.join("dagster.yaml"),
            b"telemetry:\n  enabled: false\n",
        );
        let address = match start {
            Start::Socket => Address::Unix(home.join("grpc.sock")),
            _ => Address::Tcp(format!("127.0.0.1:{}", free_port())),
        };
        Self {
            process: None,
            program: dagster.program().to_owned(),
            name: format!("{name}-dagster"),
            home,
            address,
            start,
            place: Arc::clone(place),
        }
    }

    /// Returns where it answers.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Starts it on the release of an agent's root, and waits until it serves.
    pub fn start(&mut self, root: &Path) {
        self.spawn(root);
        self.wait();
    }

    /// Starts it.
    pub fn spawn(&mut self, root: &Path) {
        let mut command = self.command(&root.join("current"));
        clear(&mut command, &self.home);
        command.env("DAGSTER_HOME", &self.home);
        match self.start {
            Start::InCurrent => drop(command.current_dir(root.join("current"))),
            Start::SharedBytecode => drop(command.env("PYTHONPYCACHEPREFIX", self.bytecode())),
            _ => {}
        }
        self.process = Some(Process::start(&self.name, &self.place.logs(), command));
    }

    /// Waits until it answers for its code, whatever it says of it.
    pub fn wait(&mut self) {
        wait_for("the code server answers", || {
            let process = self.process.as_mut().expect("it was started");
            assert!(process.is_running(), "it ended:\n{}", process.log());
            match served(&self.address) {
                Err(error) if !error.is_answer() => Err(error.to_string()),
                Ok(_) | Err(_) => Ok(()),
            }
        });
    }

    /// Stops it, its children too.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Returns the daemon.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the code server was started")
    }

    /// Returns the names of the assets that it serves, sorted.
    ///
    /// # Panics
    /// When it serves none: it does not answer, or its code does not load.
    #[must_use]
    #[track_caller]
    pub fn assets(&self) -> Vec<String> {
        match served(&self.address) {
            Ok(assets) => assets,
            Err(error) => panic!("{} serves nothing: {error}", self.name),
        }
    }

    /// Waits until it serves exactly these assets.
    #[track_caller]
    pub fn wait_serves(&self, assets: &[&str]) {
        wait_for(
            &format!("{} serves {assets:?}", self.name),
            || match served(&self.address) {
                Ok(found) if found == assets => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
    }

    /// Returns whether the shared bytecode has this module.
    #[must_use]
    pub fn has_compiled(&self, module: &str) -> bool {
        let is_it = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(module) && name.ends_with(".pyc")
        };
        let mut folders = vec![self.bytecode()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if is_it(&entry.path()) {
                    return true;
                }
            }
        }
        false
    }

    fn bytecode(&self) -> PathBuf {
        self.home.join("bytecode")
    }

    fn command(&self, current: &Path) -> Command {
        // A socket's mode says who may connect, and the agent is another user.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"umask 0; exec "$0" "$@""#])
            .arg(&self.program);
        match self.start {
            Start::ApiGrpc => command.args(["api", "grpc"]),
            _ => command.args(["code-server", "start"]),
        };
        match &self.address {
            Address::Tcp(host_port) => {
                let (host, port) = host_port.split_once(':').expect("it has a port");
                command.args(["-h", host, "-p", port]);
            }
            Address::Unix(path) => {
                command.arg("-s").arg(path);
            }
        }
        match self.start {
            Start::InCurrent => command.args(["-f", "definitions.py"]),
            Start::File => command
                .arg("-d")
                .arg(current)
                .arg("-f")
                .arg(current.join("definitions.py")),
            _ => command
                .arg("-d")
                .arg(current)
                .args(["-m", "pipes.definitions"]),
        };
        command
    }
}

/// Returns a port on which nobody listens: bound without sharing, and let go again.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
