//! What codevol is measured beside: rsync started by each save, and lsyncd.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Daemon, wait_for};
use crate::tree::{self, Edit};

const FIRST_SYNC_TIMEOUT: Duration = Duration::from_secs(120);
const DELAYS_S: [u32; 2] = [0, 1];
const MARKER: &str = "first-sync.marker";

/// Returns the rsync that brings a tree to a target.
pub(crate) fn rsync(tree: &Path, target: &Path) -> Command {
    let mut command = Command::new("rsync");
    // A trailing slash means the contents.
    command.arg("-a").arg(tree.join("")).arg(target.join(""));
    command
}

/// Returns so many empty targets.
pub(crate) fn targets(dir: &Path, count: usize) -> Result<Vec<PathBuf>> {
    (1..=count)
        .map(|number| {
            let target = dir.join(format!("target-{number:02}"));
            fs::create_dir_all(&target).context("cannot make a target")?;
            Ok(target)
        })
        .collect()
}

/// Whether every target holds what was saved.
pub(crate) fn all_hold(targets: &[PathBuf], edit: &Edit) -> bool {
    targets.iter().all(|target| tree::holds(target, edit))
}

/// An lsyncd at work.
#[derive(Debug)]
pub(crate) struct Lsyncd {
    /// The delay that it was started with: the smallest that it takes.
    pub(crate) delay_s: u32,
    _daemon: Daemon,
}

impl Lsyncd {
    /// Starts it with the smallest delay that it takes, and waits for its first sync.
    pub(crate) fn start(tree: &Path, targets: &[PathBuf], dir: &Path) -> Result<Self> {
        let mut marker = File::create(tree.join(MARKER))?;
        marker.write_all(b"x")?;
        for delay_s in DELAYS_S {
            let config = dir.join("lsyncd.lua");
            let mut file = File::create(&config)?;
            file.write_all(configuration(tree, targets, delay_s).as_bytes())?;
            let mut command = Command::new("lsyncd");
            command.arg("-nodaemon").arg(&config);
            let mut daemon = Daemon::start(&mut command, &dir.join("lsyncd.log"))?;
            let mut running = true;
            let synced = || targets.iter().all(|target| target.join(MARKER).exists());
            wait_for("lsyncd's first sync", FIRST_SYNC_TIMEOUT, || {
                running = daemon.is_running();
                !running || synced()
            })?;
            if running {
                return Ok(Self {
                    delay_s,
                    _daemon: daemon,
                });
            }
        }
        bail!("lsyncd does not stay up with any of the delays {DELAYS_S:?}")
    }
}

/// Several rsyncs may run at once, as many as there are targets: else the last would wait.
fn configuration(tree: &Path, targets: &[PathBuf], delay_s: u32) -> String {
    let settings = format!(
        "settings {{ nodaemon = true, maxProcesses = {}, inotifyMode = \"CloseWrite\" }}\n",
        targets.len().max(1),
    );
    let sync = |target: &PathBuf| {
        format!(
            "sync {{ default.rsync, source = \"{}\", target = \"{}\", delay = {delay_s} }}\n",
            tree.display(),
            target.display(),
        )
    };
    settings + &targets.iter().map(sync).collect::<String>()
}

/// Returns the bytes that one rsync sends and receives when it may use its delta algorithm.
pub(crate) fn rsync_bytes(tree: &Path, target: &Path) -> Result<f64> {
    let mut command = rsync(tree, target);
    let text = process::output(
        command
            .args(["--no-whole-file", "--stats"])
            .env("LC_ALL", "C"),
    )?;
    let number = |label: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        let digits = line
            .context("rsync's statistics are not known")?
            .replace(',', "");
        digits.trim().parse().context("rsync's statistics")
    };
    Ok(number("Total bytes sent:")? + number("Total bytes received:")?)
}
