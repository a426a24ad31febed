//! The oracle's own book of what waits to be rolled out: only the newest, and while the volume is frozen
//! the newest of each kind.

use super::super::{Event, Intent, Output, Saved, Step, Waiting};
use crate::id::ReleaseId;
use crate::release::Seq;

#[derive(Debug, Default)]
pub(super) struct Queue {
    seen: Seq,
    waiting: Vec<Waiting>,
    frozen: bool,
    running: Option<Waiting>,
    live: Option<ReleaseId>,
}

impl Queue {
    /// What a source that starts goes on with.
    pub(super) fn of(saved: &Saved) -> Self {
        let goes_on = |step: &Step| !matches!(step, Step::Return { .. });
        let rollout = saved.rollout.as_ref().filter(|r| goes_on(&r.step));
        Self {
            seen: saved.seen,
            waiting: saved.waiting.clone(),
            frozen: saved.frozen.is_some(),
            running: rollout.map(|rollout| rollout.target),
            live: saved.lived.last().map(|lived| lived.release),
        }
    }

    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Published {
                release,
                seq,
                intent,
            } if *seq > self.seen => {
                self.seen = *seq;
                let (release, wanted) = (*release, *intent == Intent::Wanted);
                if *intent != Intent::Held {
                    self.add(Waiting { release, wanted });
                }
            }
            Event::Retry { release } => {
                let (release, wanted) = (*release, true);
                match &mut self.running {
                    Some(running) if running.release == release => running.wanted = true,
                    _ if self.live == Some(release) => {}
                    _ => self.add(Waiting { release, wanted }),
                }
            }
            Event::Behind { newest } => {
                self.seen = self.seen.max(*newest);
                self.waiting.clear();
            }
            Event::Freeze(_) => self.frozen = true,
            Event::Thaw => self.frozen = false,
            _ => {}
        }
    }

    fn add(&mut self, next: Waiting) {
        if !self.frozen || next.wanted {
            self.waiting.clear();
        }
        self.waiting.retain(|waiting| waiting.wanted);
        self.waiting.push(next);
    }

    /// After a restore the nodes may run something newer already.
    pub(super) fn goes_past(&mut self, before: &[Waiting], after: &[Waiting]) {
        self.waiting.retain(|waiting| {
            let went = before.contains(waiting) && !after.contains(waiting);
            waiting.wanted || !went
        });
    }

    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether it waits, or is rolled out.
    pub(super) fn has(&self, release: ReleaseId) -> bool {
        let mut all = self.waiting.iter().chain(&self.running);
        all.any(|waiting| waiting.release == release)
    }

    pub(super) fn check(&mut self, output: &Output) {
        match output {
            Output::Started(release) => {
                let may = |waiting: &Waiting| waiting.wanted || !self.frozen;
                let next = self.waiting.iter().rposition(may);
                let next = next.expect("a rollout of what may not go");
                let target = self.waiting.drain(..=next).next_back().unwrap();
                assert_eq!(target.release, *release, "not the newest");
                self.running = Some(target);
            }
            Output::HeldBack(release) => {
                let target = self.running.take().expect("held back, and not begun");
                assert_eq!(target.release, *release);
                let newer = std::mem::take(&mut self.waiting);
                self.add(target);
                newer.into_iter().for_each(|waiting| self.add(waiting));
            }
            Output::Quarantined { release, .. } => {
                self.running.take_if(|running| running.release == *release);
            }
            Output::Ended(outcome) => {
                self.running
                    .take_if(|running| running.release == outcome.release);
            }
            Output::LiveMoved(live) => self.live = *live,
            Output::Save(_) | Output::Ask { .. } => {}
        }
    }

    /// Once all that the machine decided was carried out.
    pub(super) fn check_all_done(&self, saved: &Saved) {
        assert_eq!(saved.waiting, self.waiting, "another queue");
        assert_eq!(saved.frozen.is_some(), self.frozen, "is it frozen?");
        let live = saved.lived.last().map(|lived| lived.release);
        assert_eq!(live, self.live, "live moved, and nobody was told");
    }
}
