//! When the task looks: at what hints name, and in the scrub at everything, one release at a time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::release::Seq;
use tokio::time::Instant;

use super::look::{self, lock};
use super::standing::Tick;
use super::watch::Hint;
use super::{DriftTask, Ended};
use crate::volume::{Found, Pace, Progress, Seen};

/// No faster does the scrub read, in bytes a second.
const SCRUB_BYTES_PER_SECOND: u64 = 16 << 20;
/// How long the first scrub waits for a server that has just started.
const SCRUB_FIRST_MAX: Duration = Duration::from_secs(60);

/// The scrub: a round over all that is held, one release at a time.
#[derive(Debug)]
pub(super) struct Scrub {
    pub(super) next: Instant,
    pub(super) queue: VecDeque<ReleaseId>,
    pub(super) running: bool,
    pub(super) seen: Seen,
}

impl Scrub {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            next: Instant::now() + interval.min(SCRUB_FIRST_MAX),
            queue: VecDeque::new(),
            running: false,
            seen: Seen::default(),
        }
    }
}

impl DriftTask {
    /// Looks at what the hints name.
    pub(super) async fn check(&mut self) {
        self.hinted = None;
        let hints = std::mem::take(&mut self.hints);
        let look = {
            let mut root = lock(&self.parts.root);
            let active = root.active();
            active.and_then(|active| root.look(active))
        };
        if hints.contains(&Hint::Current) {
            self.check_current();
            self.settle().await;
            self.ask_rules().await;
        }
        let Some(look) = look else { return };
        if hints.contains(&Hint::Everything) {
            self.scrub_soon(look.release());
        }
        let paths = hints.into_iter().filter_map(|hint| match hint {
            Hint::Path(path) => Some(path),
            Hint::Current | Hint::Everything => None,
        });
        let paths: BTreeSet<String> = paths.collect();
        if paths.is_empty() {
            return;
        }
        self.checking = true;
        let mut pace = Pace::fast(self.stop.clone(), Progress::default());
        self.jobs
            .spawn_blocking(move || Ended::Checked(look::at(&look, &paths, &mut pace)));
    }

    pub(super) fn check_current(&mut self) {
        let flipped = lock(&self.parts.root).is_flipped();
        match flipped {
            Ok(flipped) => self.standing.current(flipped),
            Err(cause) => self.failed("looking at `current`", &cause),
        }
    }

    /// Scrubs the next release of the round; begins one where none is under way.
    pub(super) fn scrub_next(&mut self) {
        let mut root = lock(&self.parts.root);
        if self.scrub.queue.is_empty() {
            let mut held: Vec<(bool, Reverse<Seq>, ReleaseId)> = root
                .held()
                .values()
                .map(|held| {
                    let is_active = root.active() == Some(held.id());
                    (!is_active, Reverse(held.release().seq), held.id())
                })
                .collect();
            held.sort();
            self.scrub.queue.extend(held.into_iter().map(|(.., id)| id));
        }
        let next = std::iter::from_fn(|| self.scrub.queue.pop_front());
        let look = next.into_iter().find_map(|id| root.look(id));
        drop(root);
        let Some(look) = look else {
            return self.scrub_later();
        };
        self.scrub.running = true;
        let began = self.standing.begin();
        let mut seen = std::mem::take(&mut self.scrub.seen);
        let mut pace = Pace::slow(SCRUB_BYTES_PER_SECOND, self.stop.clone());
        self.jobs.spawn_blocking(move || Ended::Scrubbed {
            of: (look.release(), look.seq()),
            began,
            found: look.whole(&mut pace, &mut seen),
            seen,
        });
    }

    pub(super) fn scrub_soon(&mut self, release: ReleaseId) {
        self.scrub.queue.retain(|id| *id != release);
        self.scrub.queue.push_front(release);
        self.scrub.next = Instant::now();
    }

    pub(super) fn scrub_later(&mut self) {
        self.scrub.seen = Seen::default();
        self.scrub.next = Instant::now() + self.parts.scrub;
        // The link costs nothing to look at, and where nothing is watched nobody hints at it.
        self.hint(Hint::Current);
    }

    /// Takes in a look at a whole release. One that was collected under the look is no drift.
    pub(super) fn looked_at(&mut self, (of, began): ((ReleaseId, Seq), Tick), found: &Found) {
        if !self.is_held(of.0) {
            return;
        }
        self.distrust(of.0, found);
        if !self.standing.whole(of, began, found) {
            // Too much has happened meanwhile.
            self.scrub.queue.push_back(of.0);
        }
    }
}
