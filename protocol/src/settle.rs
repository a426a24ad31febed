//! The settle machine: when has a tree been quiet for long enough to be published?
//!
//! ```text
//! no change yet --change--> burst ------- quiet, or settle_max after its first change ------> ready
//!                             ^ every change, every open writer and git's locks hold it back |
//!                             +------------------------- begin() <----------------------------+
//! ```
//! It knows no clock: `now` comes with every input. Whatever comes, a burst is ready within
//! [`GIT_HOLD_MAX`] or [`SettleConfig::settle_max`] of its first change, the longer of the two.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::path::RelPath;

/// How long a path that was modified but not closed holds a burst, from the burst's first change.
pub const WRITER_HOLD_MAX: Duration = Duration::from_secs(5);
/// How long a busy git holds a burst, from the burst's first change (or from when git became busy,
/// where that was earlier: a stale lock does not hold every burst anew).
pub const GIT_HOLD_MAX: Duration = Duration::from_secs(60);
/// Most open writers that are told apart; those beyond do not hold the burst.
const WRITERS_MAX: usize = 1_024;
/// The quiet that is asked for, as a part of how long the burst has gone on so far.
const QUIET_PART: u32 = 4;

/// How patient the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleConfig {
    /// How long the tree must be quiet after a single change.
    pub settle: Duration,
    /// The longest wait for quiet, from the first change.
    pub settle_max: Duration,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Something changed, no matter what.
    Changed,
    /// A file was written to, and its writer may go on.
    Modified(RelPath),
    /// A file was closed after a write, or is gone from its path: no one is half-way through it.
    Closed(RelPath),
    /// Git began to work on the tree.
    GitBusy,
    /// Git's work is done.
    GitIdle,
}

/// The machine of one volume.
#[derive(Debug)]
pub struct Settle {
    config: SettleConfig,
    burst: Option<Burst>,
    git_busy_since: Option<Instant>,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    writers: BTreeSet<RelPath>,
}

impl Settle {
    /// Returns a machine that has seen nothing.
    #[must_use]
    pub const fn new(config: SettleConfig) -> Self {
        Self {
            config,
            burst: None,
            git_busy_since: None,
        }
    }

    /// Takes in what was seen.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Changed => {
                self.touch(now);
            }
            Input::Modified(path) => {
                let writers = &mut self.touch(now).writers;
                if writers.len() < WRITERS_MAX {
                    writers.insert(path);
                }
            }
            Input::Closed(path) => {
                self.touch(now).writers.remove(&path);
            }
            Input::GitBusy => {
                self.git_busy_since.get_or_insert(now);
            }
            Input::GitIdle => {
                // What git wrote last has only just landed.
                if self.git_busy_since.take().is_some() && self.burst.is_some() {
                    self.touch(now);
                }
            }
        }
    }

    /// Whether there are changes, and they have settled.
    #[must_use]
    pub fn ready(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Returns when the burst is ready if nothing more is seen; nothing without a burst.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let burst = self.burst.as_ref()?;
        let lasted = burst.last.saturating_duration_since(burst.first);
        let quiet = self.config.settle.max(lasted / QUIET_PART);
        let mut deadline = (burst.last + quiet).min(burst.first + self.config.settle_max);
        if !burst.writers.is_empty() {
            deadline = deadline.max(burst.first + WRITER_HOLD_MAX);
        }
        if let Some(since) = self.git_busy_since {
            deadline = deadline.max(since.min(burst.first) + GIT_HOLD_MAX);
        }
        Some(deadline)
    }

    /// Returns when the first and the last change of the burst were seen; nothing without a burst.
    #[must_use]
    pub fn burst(&self) -> Option<(Instant, Instant)> {
        self.burst.as_ref().map(|burst| (burst.first, burst.last))
    }

    /// Ends the burst: what was seen so far is being scanned now. Call it before the scan, so that
    /// a change during the scan begins the next burst.
    pub fn begin(&mut self) {
        self.burst = None;
    }

    fn touch(&mut self, now: Instant) -> &mut Burst {
        let burst = self.burst.get_or_insert_with(|| Burst {
            first: now,
            last: now,
            writers: BTreeSet::new(),
        });
        burst.last = burst.last.max(now);
        burst
    }
}

#[cfg(test)]
mod tests;
