//! What the source counts, and times, of one volume. The tasks tell it what happens; what can be seen
//! at any moment is asked of them when it is wanted.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use codevol_metrics::family::{PHASE_BOUNDS, PROPAGATION_BOUNDS};
use codevol_metrics::{Counter, Histogram, Usage};
use codevol_protocol::id::ReleaseId;

/// How many releases may be on their way to live.
const WRITTEN_MAX: usize = 64;

/// How long each part of a release's way takes on the source, over all volumes.
#[derive(Debug)]
pub struct Phases {
    /// From the first change of a burst until it is looked at.
    pub settle: Histogram,
    /// The look at the tree.
    pub scan: Histogram,
    /// From the look to a durable record.
    pub publish: Histogram,
    /// From the beginning of a rollout to its end.
    pub rollout: Histogram,
}

impl Default for Phases {
    fn default() -> Self {
        Self {
            settle: Histogram::new(PHASE_BOUNDS),
            scan: Histogram::new(PHASE_BOUNDS),
            publish: Histogram::new(PHASE_BOUNDS),
            rollout: Histogram::new(PHASE_BOUNDS),
        }
    }
}

/// What is counted of one volume.
#[derive(Debug)]
pub struct VolumeMetrics {
    /// How long each part takes.
    pub phases: Arc<Phases>,
    /// From the last change to live.
    pub propagation: Histogram,
    /// Rollouts whose release is live.
    pub rollouts_done: Counter,
    /// Rollouts whose release is not.
    pub rollouts_failed: Counter,
    /// How often hints were lost because a queue was full.
    pub overflows: Counter,
    /// Looks at the whole tree.
    pub rescans: Counter,
    /// What the volume takes on the disk.
    pub usage: Arc<Usage>,
    /// Releases that are not live yet, and when the last change of each was seen; oldest first.
    written: Mutex<VecDeque<(ReleaseId, Instant)>>,
    /// The rollout that runs, and when it began.
    rollout: Mutex<Option<(ReleaseId, Instant)>>,
}

impl VolumeMetrics {
    /// Begins to count for a volume that is stored in this folder.
    #[must_use]
    pub fn new(phases: Arc<Phases>, folder: PathBuf) -> Self {
        Self {
            phases,
            propagation: Histogram::new(PROPAGATION_BOUNDS),
            rollouts_done: Counter::default(),
            rollouts_failed: Counter::default(),
            overflows: Counter::default(),
            rescans: Counter::default(),
            usage: Arc::new(Usage::new(vec![folder])),
            written: Mutex::default(),
            rollout: Mutex::default(),
        }
    }

    /// A release was published, whose last change was seen then. Tell it before the fleet hears of it.
    pub fn written(&self, release: ReleaseId, at: Instant) {
        let mut written = lock(&self.written);
        if written.len() == WRITTEN_MAX {
            written.pop_front();
        }
        written.push_back((release, at));
    }

    /// A release went live. Those before it never will by themselves: what was written for them is
    /// live with this one.
    pub fn live(&self, release: ReleaseId, now: Instant) {
        let mut written = lock(&self.written);
        if let Some(index) = written.iter().position(|(id, _)| *id == release) {
            let since = written.drain(..=index).next_back();
            if let Some((_, at)) = since {
                self.propagation.observe(now.saturating_duration_since(at));
            }
        }
    }

    /// A rollout began.
    pub fn rollout_began(&self, release: ReleaseId, now: Instant) {
        *lock(&self.rollout) = Some((release, now));
    }

    /// A rollout ended. One that an earlier process began is counted, and not timed. A release that failed
    /// goes live only when a person tries it once more, whenever that is.
    pub fn rollout_ended(&self, release: ReleaseId, is_live: bool, now: Instant) {
        let ended = if is_live {
            &self.rollouts_done
        } else {
            &self.rollouts_failed
        };
        ended.increment();
        if !is_live {
            lock(&self.written).retain(|(id, _)| *id != release);
        }
        let began = lock(&self.rollout).take_if(|(began, _)| *began == release);
        if let Some((_, at)) = began {
            self.phases
                .rollout
                .observe(now.saturating_duration_since(at));
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn volume() -> VolumeMetrics {
        VolumeMetrics::new(Arc::default(), PathBuf::from("/nonexistent"))
    }

    fn r(n: u8) -> ReleaseId {
        ReleaseId::of(&[n])
    }

    #[test]
    fn the_way_to_live_is_timed_from_the_last_change_of_that_release_once() {
        let (volume, start) = (volume(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        volume.written(r(2), at(0));
        volume.written(r(3), at(10));
        volume.written(r(4), at(20));
        volume.live(r(3), at(14));
        // The older one is live with it, and the same one is not timed again.
        volume.live(r(2), at(90));
        volume.live(r(3), at(90));
        let held = volume.propagation.snapshot();
        assert_eq!((held.count, held.sum), (1, 4.0));
        // Nobody wrote it: it was rolled back to.
        volume.live(r(9), at(91));
        volume.live(r(4), at(21));
        let held = volume.propagation.snapshot();
        assert_eq!((held.count, held.sum), (2, 5.0));
    }

    #[test]
    fn releases_that_never_go_live_are_forgotten() {
        let (volume, start) = (volume(), Instant::now());
        for n in 0..=200 {
            volume.written(r(n), start);
        }
        assert_eq!(lock(&volume.written).len(), WRITTEN_MAX);
        volume.live(r(0), start);
        assert_eq!(volume.propagation.snapshot().count, 0);
        volume.live(r(200), start);
        assert_eq!(volume.propagation.snapshot().count, 1);
    }

    #[test]
    fn a_release_that_failed_and_is_tried_once_more_is_not_timed() {
        let (volume, start) = (volume(), Instant::now());
        volume.written(r(2), start);
        volume.rollout_ended(r(2), false, start);
        volume.live(r(2), start + Duration::from_secs(3_600));
        assert_eq!(volume.propagation.snapshot().count, 0);
    }

    #[test]
    fn a_rollout_that_an_earlier_process_began_is_counted_and_not_timed() {
        let (volume, start) = (volume(), Instant::now());
        volume.rollout_ended(r(1), true, start);
        volume.rollout_began(r(2), start);
        volume.rollout_ended(r(2), false, start + Duration::from_secs(3));
        let counted = (volume.rollouts_done.get(), volume.rollouts_failed.get());
        assert_eq!(counted, (1, 1));
        let held = volume.phases.rollout.snapshot();
        assert_eq!((held.count, held.sum), (1, 3.0));
    }
}
