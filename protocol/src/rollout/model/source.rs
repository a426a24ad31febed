//! The source: carries out what the machine says, and crashes.

use super::super::{Event, Intent, Machine, Output, RECONNECT_TIMEOUT, Step};
use super::queue::Queue;
use super::world::{Happening, World};
use crate::id::ReleaseId;
use crate::release::Seq;

impl World {
    pub(super) fn start_source(&mut self) {
        if self.machine.is_some() {
            return;
        }
        if self.links > 0 && self.rng.one_in(4) {
            self.edit_policy();
        }
        let enrolled = self.agents.iter().filter(|agent| agent.enrolled);
        let enrolled = enrolled.map(|agent| agent.name.clone());
        let saved = self.saved.clone();
        let machine = Machine::restore(saved, enrolled.collect(), self.policy, self.now);
        self.running = self.saved.rollout.as_ref().map(|r| r.target.release);
        self.machine = Some(machine);
        self.queue = Queue::of(&self.saved);
        self.live_told = self.saved.lived.last().map(|lived| lived.release);
        let kept_until = self.now + RECONNECT_TIMEOUT;
        self.books.source_started(&self.saved, kept_until);
        let mut untold = Vec::new();
        // The log outlives the machine's memory: what is newest is told again.
        for (seq, release) in self.log.range(self.saved.seen.0 + 1..) {
            let published = Event::Published {
                release: *release,
                seq: Seq(*seq),
                intent: Intent::Watched,
            };
            untold.push(published);
        }
        for published in untold {
            self.tell(published);
        }
        for agent in 0..self.agents.len() {
            self.soon(5_000, Happening::Connect(agent));
        }
        self.drain();
    }

    pub(super) fn crash_source(&mut self) {
        if self.machine.take().is_some() {
            self.saw(match self.saved.rollout.as_ref().map(|r| &r.step) {
                None => "crash at rest",
                Some(Step::Stage) => "crash in stage",
                Some(Step::Activate { wave: 0 }) => "crash in activate",
                Some(Step::Activate { .. }) => "crash between waves",
                Some(Step::Return { .. }) => "crash in return",
            });
            self.agents.iter_mut().for_each(|agent| agent.link = None);
            self.soon(8_000, Happening::StartSource);
        }
    }

    /// The machine hears something, and is left to carry out what follows.
    pub(super) fn hear(&mut self, event: Event) {
        self.tell(event);
        self.drain();
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.machine.is_none() {
            return;
        }
        self.note(format_args!("hear {event:?}"));
        if let Event::Retry { release } = &event
            && self.machine.as_ref().and_then(Machine::live) == Some(*release)
        {
            self.try_anew(&[*release]);
        }
        let now = self.now;
        if !matches!(event, Event::StepFailed { .. }) {
            self.books.moves(now);
        }
        self.books.hear(&event, now);
        self.queue.hear(&event);
        if let Some(machine) = &mut self.machine {
            machine.handle(event, now);
        }
    }

    fn try_anew(&mut self, releases: &[ReleaseId]) {
        for release in releases {
            self.anew_at.insert(*release, self.now);
        }
        self.told_back.retain(|(from, _)| !releases.contains(from));
        self.left.retain(|(from, _)| !releases.contains(from));
        self.books
            .verdicts
            .retain(|(found, _)| !releases.contains(found));
        for heard in self.books.heard.values_mut() {
            heard.stands.take_if(|(found, _)| releases.contains(found));
        }
    }

    pub(super) fn drain(&mut self) {
        loop {
            let Some(machine) = &mut self.machine else {
                return;
            };
            let Some(output) = machine.poll_output() else {
                self.queue.check_all_done(&self.saved);
                return;
            };
            self.note(format_args!("  out {output:?}"));
            // A crash may come between any two outputs.
            if self.faulty && self.rng.one_in(400) {
                self.note(format_args!("crash between outputs"));
                self.crash_source();
                return;
            }
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        self.check(&output);
        match output {
            Output::Save(saved) => {
                let attempt = |saved: &super::super::Saved| {
                    let rollout = saved.rollout.as_ref()?;
                    let back = matches!(rollout.step, Step::Return { .. });
                    (!back).then_some(rollout.target.release)
                };
                let before = std::mem::replace(&mut self.saved, *saved);
                let lifted = before.quarantined.iter().map(|q| q.release);
                let lifted =
                    lifted.filter(|r| !self.saved.quarantined.iter().any(|q| q.release == *r));
                let begun =
                    attempt(&self.saved).filter(|_| attempt(&self.saved) != attempt(&before));
                let anew: Vec<ReleaseId> = lifted.chain(begun).collect();
                self.try_anew(&anew);
            }
            Output::Ask { node, command } => {
                let number = self.agents.iter().position(|a| a.name == node).unwrap();
                let Some(link) = self.agents[number].link else {
                    return;
                };
                let soonest = self.now + self.rng.millis(200);
                let at = self.agents[number].read_at.max(soonest);
                self.agents[number].read_at = at;
                self.at(at, Happening::Read(number, command, link));
            }
            Output::Started(release) => {
                assert_eq!(self.running, None, "two rollouts");
                self.running = Some(release);
            }
            Output::HeldBack(release) => {
                self.saw("held back");
                assert_eq!(self.running.take(), Some(release));
                let forgotten = self.saved.waiting.is_empty() && self.saved.rollout.is_none();
                assert!(!forgotten, "forgotten in the queue");
            }
            Output::Ended(outcome) => {
                self.saw(if outcome.live { "live" } else { "not live" });
                if outcome.returned {
                    self.saw("taken back");
                }
                // A release that fails in catch-up is taken back without having been started.
                self.running.take_if(|running| *running == outcome.release);
            }
            Output::LiveMoved(live) => {
                if self.saved.lived.last().map(|l| l.release) != live || self.running.is_none() {
                    self.saw("live moved back");
                }
                // Live may move on within one call: the last word counts, see `check_rest`.
                self.live_told = live;
            }
            Output::Quarantined { release, .. } => {
                self.saw("quarantined");
                let saved = self.saved.quarantined.iter().any(|q| q.release == release);
                assert!(saved, "a quarantine that was not saved first");
            }
        }
    }
}
