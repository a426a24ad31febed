//! A test that runs once more in a process of its own, where the system can be made to fail without
//! anyone else noticing: mounts of its own, limits of its own, system calls that fail.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::say;

const MARK: &str = "CODEVOL_TEST_APART";

/// Runs the test that calls it once more, in a mount namespace of its own in which it is root. There this returns
/// a folder that goes with it. In the process that asked, where the test has passed by then, it
/// returns nothing.
///
/// # Panics
/// When the test fails there. Where a host lets nobody make a mount namespace the test is not run:
/// that is said, and fails where `CI=true`.
#[must_use]
pub fn apart() -> Option<PathBuf> {
    if let Some(folder) = env::var_os(MARK) {
        return Some(folder.into());
    }
    let folder = TempDir::with_prefix("cv-").expect("a temporary folder is made");
    let Some(user) = namespace_of() else {
        not_run("this host lets nobody make a mount namespace");
        return None;
    };
    let thread = thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let program = env::current_exe().expect("a test knows its program");
    let output = unshare(user)
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(MARK, folder.path())
        .output()
        .expect("a test is run");
    let (shown, error) = shown(&output);
    assert!(output.status.success(), "{shown}\n{error}");
    assert!(shown.contains("1 passed"), "{shown}\n{error}");
    None
}

/// Says that a test could not be run. Where nothing may be left out, that fails it.
///
/// # Panics
/// Where `CI=true`.
pub fn not_run(why: &str) {
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{why}");
    say(&format!("NOT RUN: {why}"));
}

/// Makes a directory another file system, or changes the one that is there.
///
/// # Panics
/// When that is refused.
pub fn mount(options: &[&str], at: &Path) {
    let mut command = Command::new("mount");
    let output = command.args(options).arg(at).output();
    let output = output.expect("`mount` is run");
    assert!(output.status.success(), "{options:?}: {:?}", shown(&output));
}

fn shown(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Whether it takes a user namespace, too; nothing where neither will do.
fn namespace_of() -> Option<bool> {
    let mounts = |user: &bool| {
        let mut command = unshare(*user);
        let output = command
            .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    let candidates: &[bool] = if geteuid().is_root() {
        &[false, true]
    } else {
        &[true]
    };
    candidates.iter().copied().find(mounts)
}

fn unshare(user: bool) -> Command {
    let mut command = Command::new("unshare");
    if user {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--mount");
    command
}

/// System calls of this process that fail until this is dropped.
#[derive(Debug)]
pub struct Failing {
    strace: Child,
    log: PathBuf,
    /// It says more as threads come, and would die of it where nobody listened.
    _said: BufReader<ChildStderr>,
}

impl Failing {
    /// Has these calls (as `fsync,fdatasync`) fail (as `error=EIO`, `error=EIO:when=1`) where they
    /// are about one of these paths, or about anything where there is none. Calls of all threads,
    /// from the moment it returns. Nothing where there is no `strace`: that was said then.
    ///
    /// # Panics
    /// When a `strace` that is there does not do it.
    #[must_use]
    pub fn of(calls: &str, how: &str, paths: &[PathBuf], folder: &Path) -> Option<Self> {
        let log = folder.join("strace.log");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}")])
            .arg("-o")
            .arg(&log)
            .args(["-p", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        for path in paths {
            command.arg("-P").arg(path);
        }
        let Ok(mut strace) = command.spawn() else {
            not_run("there is no `strace`");
            return None;
        };
        let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            let read = said.read_line(&mut line).expect("`strace` is heard");
            assert!(
                read > 0,
                "`strace` ended: it may not trace here, or does not know `{calls}`"
            );
        }
        Some(Self {
            strace,
            log,
            _said: said,
        })
    }

    /// Ends it, and returns how many calls have failed.
    ///
    /// # Panics
    /// When `strace` left no log.
    #[must_use]
    pub fn end(mut self) -> usize {
        self.stop();
        let log = fs::read_to_string(&self.log).expect("`strace` has a log");
        log.matches("(INJECTED)").count()
    }

    fn stop(&mut self) {
        // So that it lets go of its threads, which a kill would take along.
        if kill_process(Pid::from_child(&self.strace), Signal::TERM).is_ok() {
            drop(self.strace.wait());
        }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.stop();
    }
}
