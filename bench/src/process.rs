//! Child processes that do not outlive the run, and waiting for what they do.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

/// How often a state is looked at: what is read off it is that much late at most.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_micros(200);
/// How long a daemon may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Set by a signal: every wait ends then, and what the run has made is removed on the way out.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Listens to the signals that end the run.
pub(crate) fn stop_on_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot listen to signals")?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Cancel-safe: both only wait.
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        STOPPED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Waits for a state.
pub(crate) fn wait_for(
    what: &str,
    timeout: Duration,
    mut reached: impl FnMut() -> bool,
) -> Result<()> {
    let began = Instant::now();
    while !reached() {
        ensure!(began.elapsed() < timeout, "{what}: not within {timeout:?}");
        pause(LOOK_INTERVAL)?;
    }
    Ok(())
}

/// Lets time pass.
pub(crate) fn pause(time: Duration) -> Result<()> {
    ensure!(!STOPPED.load(Ordering::Relaxed), "stopped by a signal");
    std::thread::sleep(time);
    Ok(())
}

/// A daemon. Dropped, it is stopped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a daemon that writes to a log.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::create(log).context("cannot make a log")?;
        let child = command
            // A group of its own, so that its children go with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn stop(&mut self) -> std::io::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            rustix::process::kill_process_group(pid, Signal::TERM)?;
        }
        let began = Instant::now();
        while began.elapsed() < STOP_TIMEOUT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running()
            && let Err(error) = self.stop()
        {
            crate::say(&format!("process {} stays: {error}", self.child.id()));
        }
    }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs several commands at once, to the end of the last.
pub(crate) fn run_all(commands: Vec<Command>) -> Result<()> {
    let children: Vec<Child> = commands
        .into_iter()
        .map(|mut command| command.stdout(Stdio::null()).spawn())
        .collect::<Result<_, _>>()
        .context("cannot start a peer")?;
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "a peer failed: {status}");
    }
    Ok(())
}

/// Whether a program answers.
pub(crate) fn is_installed(program: impl AsRef<OsStr>) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}
