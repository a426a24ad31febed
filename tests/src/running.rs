//! A command that goes on until it is stopped, and is read line by line meanwhile.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{wait_for, watchdog};

/// How long it may say nothing.
const DEADLINE: Duration = Duration::from_secs(60);

/// Such a command. It ends with the test, and its children too.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let spawned = command.process_group(0).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("a command starts");
        watchdog::watch(Pid::from_child(&child));
        let stdout = child.stdout.take().expect("it is piped");
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            // Whoever reads may have gone.
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            read.map(|read| line.send(read)).find(Result::is_err)
        });
        Self { child, lines }
    }

    /// Returns the next line that is looked for.
    ///
    /// # Panics
    /// When it says nothing for too long, or ends.
    #[must_use]
    pub fn next_line(&self, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.expect("the command goes on and says something");
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Sends a signal to the command itself, as Ctrl-C does.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it takes a signal");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the command ends", || {
            let status = self.child.try_wait().expect("a child can be waited for");
            status.ok_or_else(|| "it runs".to_owned())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        if kill_process_group(group, Signal::KILL).is_ok() {
            self.child.wait().expect("a killed command ends");
        }
        watchdog::leave(group);
    }
}
