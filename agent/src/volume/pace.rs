//! How fast a look at the disk goes, how far it is, and that it ends when the daemon does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// What a small file costs at the least, in bytes: looking it up is work, too.
const FILE_COST_BYTES: u64 = 16 << 10;
/// A look that is ahead of its pace by less than this does not wait yet.
const AHEAD: Duration = Duration::from_millis(20);
/// No wait is longer than this: a stop is heeded in between.
const NAP_MAX: Duration = Duration::from_millis(100);

/// How far a look is, for whoever waits for it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    files: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Progress {
    /// Returns how many files were looked at.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were hashed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The pace of one look.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    stop: CancellationToken,
    progress: Progress,
    began: Instant,
    spent: u64,
}

impl Pace {
    /// Goes as fast as the disk does, until it is stopped.
    #[must_use]
    pub fn fast(stop: CancellationToken, progress: Progress) -> Self {
        Self {
            bytes_per_second: None,
            stop,
            progress,
            began: Instant::now(),
            spent: 0,
        }
    }

    /// Hashes no more than so many bytes a second, until it is stopped.
    #[must_use]
    pub fn slow(bytes_per_second: u64, stop: CancellationToken) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second.max(1)),
            ..Self::fast(stop, Progress::default())
        }
    }

    /// Nobody waits for it, and nothing stops it.
    pub(super) fn free() -> Self {
        Self::fast(CancellationToken::new(), Progress::default())
    }

    /// Takes note of a file, and says whether to go on.
    pub(super) fn file(&mut self) -> bool {
        self.progress.files.fetch_add(1, Ordering::Relaxed);
        self.spend(FILE_COST_BYTES)
    }

    /// Takes note of bytes that were hashed, and says whether to go on.
    pub(super) fn hashed(&mut self, bytes: u64) -> bool {
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.spend(bytes)
    }

    fn spend(&mut self, bytes: u64) -> bool {
        self.spent = self.spent.saturating_add(bytes);
        while let Some(ahead) = self.ahead().filter(|ahead| *ahead > AHEAD) {
            if self.stop.is_cancelled() {
                return false;
            }
            std::thread::sleep(ahead.min(NAP_MAX));
        }
        !self.stop.is_cancelled()
    }

    /// By how much it is ahead of its pace.
    fn ahead(&self) -> Option<Duration> {
        let due = due(self.spent, self.bytes_per_second?);
        Some(due.saturating_sub(self.began.elapsed()))
    }
}

/// When so many bytes may have been hashed, from the beginning on.
fn due(bytes: u64, bytes_per_second: u64) -> Duration {
    let ms = u128::from(bytes) * 1_000 / u128::from(bytes_per_second);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_at_their_rate() {
        assert_eq!(due(0, 1), Duration::ZERO);
        assert_eq!(due(10 << 20, 1 << 20), Duration::from_secs(10));
        assert_eq!(due(1 << 19, 1 << 20), Duration::from_millis(500));
        assert_eq!(due(u64::MAX, 1), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn a_slow_look_takes_its_time_and_a_stopped_one_ends_at_once() {
        let stop = CancellationToken::new();
        let mut pace = Pace::slow(1 << 20, stop.clone());
        let began = Instant::now();
        assert!(pace.hashed(1 << 17));
        // The last bit that it may be ahead is not waited for.
        let least = Duration::from_millis(125) - AHEAD;
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
        stop.cancel();
        let began = Instant::now();
        assert!(!pace.hashed(u64::MAX));
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn what_was_looked_at_is_counted() {
        let progress = Progress::default();
        let mut pace = Pace::fast(CancellationToken::new(), progress.clone());
        assert!(pace.file() && pace.hashed(7) && pace.file());
        assert_eq!((progress.files(), progress.bytes()), (2, 7));
    }
}
