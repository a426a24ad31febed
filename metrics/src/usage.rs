//! How much folders take on the disk. A look at every file costs too much for each scrape: it is
//! measured in the background, soon after something has changed and now and then in any case, and no
//! more than a small part of the time is spent on it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long it rests at least between two measurements.
const REST_MIN: Duration = Duration::from_secs(5);
/// It rests so many times longer than it has measured.
const REST_PARTS: u32 = 100;
/// How long after a measurement the next one comes at the latest, where nothing is known to change.
const INTERVAL: Duration = Duration::from_secs(300);
/// Most entries that are looked at.
const ENTRIES_MAX: u64 = 20_000_000;
const UNKNOWN: u64 = u64::MAX;
/// What `st_blocks` counts in, whatever the file system does.
const BLOCK_BYTES: u64 = 512;

/// What some folders take together.
#[derive(Debug)]
pub struct Usage {
    folders: Vec<PathBuf>,
    bytes: AtomicU64,
    changed: Notify,
}

impl Usage {
    /// Measures nothing yet.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            bytes: AtomicU64::new(UNKNOWN),
            changed: Notify::new(),
        }
    }

    /// Returns the last measurement; nothing before the first, or where that failed.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    /// Tells that something has changed, so that it is measured soon.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Measures until the daemon stops.
    pub async fn keep(self: std::sync::Arc<Self>, stop: CancellationToken) {
        let mut is_told = false;
        loop {
            let began = Instant::now();
            let (folders, stopped) = (self.folders.clone(), stop.clone());
            let measured = spawn_blocking(move || measure(&folders, &stopped)).await;
            let measured = measured.unwrap_or_else(|ended| Err(io::Error::other(ended)));
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = &measured
                && !is_told
            {
                warn!(%error, "cannot measure what the releases take on the disk");
            }
            is_told = measured.is_err();
            let bytes = measured.unwrap_or(UNKNOWN);
            self.bytes.store(bytes, Ordering::Relaxed);
            let rest = REST_MIN.max(began.elapsed() * REST_PARTS);
            tokio::select! {
                // Cancel-safe: both only wait.
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            tokio::select! {
                // Cancel-safe: a change that was told meanwhile is kept.
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(INTERVAL.saturating_sub(rest)) => {}
            }
        }
    }
}

/// Returns what the folders take, each file once whatever it is called, on their own file system
/// only. What goes away meanwhile counts as nothing.
fn measure(folders: &[PathBuf], stop: &CancellationToken) -> io::Result<u64> {
    let mut bytes = 0;
    let mut linked = BTreeSet::new();
    let mut entries = 0;
    for folder in folders {
        let Some(top) = present(fs::symlink_metadata(folder))? else {
            continue;
        };
        bytes += top.blocks() * BLOCK_BYTES;
        let mut todo = vec![folder.clone()];
        while let Some(at) = todo.pop() {
            for entry in present(fs::read_dir(at))?.into_iter().flatten() {
                let entry = entry?;
                let Some(stat) = present(entry.metadata())? else {
                    continue;
                };
                entries += 1;
                if stop.is_cancelled() || entries > ENTRIES_MAX {
                    return Err(io::Error::other("there are too many files"));
                }
                if stat.dev() != top.dev() {
                    continue;
                }
                if stat.is_dir() {
                    todo.push(entry.path());
                } else if stat.nlink() > 1 && !linked.insert((stat.dev(), stat.ino())) {
                    continue;
                }
                bytes += stat.blocks() * BLOCK_BYTES;
            }
        }
    }
    Ok(bytes)
}

fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "what a test writes needs no durability"
)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_missing_folder_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("a"), temp.path().join("b"));
        fs::create_dir_all(first.join("deep")).unwrap();
        fs::create_dir(&second).unwrap();
        let stop = CancellationToken::new();
        let folders = [first.clone(), second.clone(), temp.path().join("missing")];
        let empty = measure(&folders, &stop).unwrap();
        fs::write(first.join("deep/file"), vec![b'x'; 100_000]).unwrap();
        let once = measure(&folders, &stop).unwrap();
        assert!(
            (100_000..300_000).contains(&(once - empty)),
            "{empty} {once}"
        );
        fs::hard_link(first.join("deep/file"), second.join("file")).unwrap();
        assert_eq!(measure(&folders, &stop).unwrap(), once);
        fs::write(second.join("other"), vec![b'y'; 100_000]).unwrap();
        assert!(measure(&folders, &stop).unwrap() >= once + 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_measured_soon_and_nothing_in_between() {
        let temp = tempfile::tempdir().unwrap();
        let usage = Arc::new(Usage::new(vec![temp.path().to_owned()]));
        assert_eq!(usage.bytes(), None);
        let stop = CancellationToken::new();
        let keeping = tokio::task::JoinSet::from_iter([usage.clone().keep(stop.clone())]);
        let first = until(&usage, |bytes| bytes.is_some()).await.unwrap();
        fs::write(temp.path().join("file"), vec![b'x'; 100_000]).unwrap();
        let began = tokio::time::Instant::now();
        usage.changed();
        until(&usage, |bytes| bytes.is_some_and(|bytes| bytes > first)).await;
        let took = began.elapsed();
        assert!((REST_MIN..INTERVAL).contains(&took), "{took:?}");
        stop.cancel();
        keeping.join_all().await;
    }

    /// The clock stands still, and moves on only where all wait for it.
    async fn until(usage: &Usage, holds: impl Fn(Option<u64>) -> bool) -> Option<u64> {
        loop {
            let bytes = usage.bytes();
            if holds(bytes) {
                return bytes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
