//! A command that ran to its end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status; nothing where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

impl Ended {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run(command: Command) -> Self {
        Self::run_with(command, "")
    }

    /// Runs a command to its end, with this on its standard input.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run_with(mut command: Command, input: &str) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdin = child.stdin.take();
        // It may end without reading what it was given.
        drop(stdin.expect("it is piped").write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("its output is read");
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns it, when it ended with `code`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    #[expect(
        clippy::must_use_candidate,
        reason = "that it ended so is often all that is asked"
    )]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Ends a test in which it did not succeed.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn succeeds(self) {
        drop(self.exits(0));
    }

    /// Returns what it printed, as one JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Returns each line that it printed, as JSON.
    ///
    /// # Panics
    /// When one is none.
    #[track_caller]
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Returns the last line that it printed, as JSON.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn last_json(&self) -> Value {
        let last = self.json_lines().pop();
        last.unwrap_or_else(|| panic!("no line in {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
