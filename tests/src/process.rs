//! A process that a test started, with all its children: one process group, killed with the test.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{wait_for, watchdog};

/// How much of a log is shown when a test fails.
const SHOWN_BYTES_MAX: usize = 20_000;

/// A process in a group of its own. Its output goes into a file, which is shown when the test that
/// owns it fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it. The log of an earlier process of that name is continued.
    pub(crate) fn start(name: &str, logs: &Path, mut command: Command) -> Self {
        let log = logs.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.expect("a log is opened");
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log is opened twice"))
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let process = Self {
            name: name.to_owned(),
            log,
            child,
        };
        watchdog::watch(process.group());
        process
    }

    /// Sends a signal to the process itself, not to its children.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.group(), signal).expect("the process takes a signal");
    }

    /// Ends it as a service manager does, and returns how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it and its children.
    pub fn kill(&mut self) {
        if kill_process_group(self.group(), Signal::KILL).is_ok() {
            self.child.wait().expect("a killed process ends");
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&format!("{} ends", self.name), || self.ended())
    }

    /// Returns whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_err()
    }

    /// Returns what it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn ended(&mut self) -> Result<ExitStatus, String> {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.ok_or_else(|| "it runs".to_owned())
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group also where its first process has ended: its children may live on.
        self.kill();
        watchdog::leave(self.group());
        if thread::panicking() {
            let log = self.log();
            let from = log.floor_char_boundary(log.len().saturating_sub(SHOWN_BYTES_MAX));
            let shown = format!("--- log of {} ---\n{}\n", self.name, &log[from..]);
            drop(io::stderr().write_all(shown.as_bytes()));
        }
    }
}
