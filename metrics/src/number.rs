//! Numbers that many tasks count at once, with no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts up from zero, since the daemon has started.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts durations by how long they are.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all of them.
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Each bound, in seconds, with how many are at or below it.
    pub below: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
    /// How long they are together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Makes one with these bounds, in rising order, in seconds.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// Takes one in.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = self.bounds.iter().take_while(|bound| seconds > **bound);
        if let Some(bucket) = self.buckets.get(index.count()) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns what it holds: its count is the sum of its buckets, whoever counts meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let mut totals = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let below = self.bounds.iter().copied().zip(&mut totals).collect();
        totals.for_each(drop);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        Snapshot {
            below,
            count,
            sum: Duration::from_nanos(nanoseconds).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_above() {
        let histogram = Histogram::new(&[0.01, 0.1, 1.0]);
        for ms in [0, 10, 11, 100, 1_000, 5_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let held = histogram.snapshot();
        assert_eq!(held.below, [(0.01, 2), (0.1, 4), (1.0, 5)]);
        assert_eq!(held.count, 6);
        assert!((held.sum - 6.121).abs() < 1e-9, "{held:?}");
    }
}
