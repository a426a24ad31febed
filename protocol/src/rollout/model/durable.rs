//! What the machine may make durable: how the line of live releases, the quarantines and the rollout may
//! go on from what was durable before.

use super::super::{OnBroken, Quarantined, Rollout, Saved, Standing, Step};
use super::agent::truth;
use super::world::World;
use crate::id::ReleaseId;
use crate::name::NodeName;

impl World {
    pub(super) fn check_save(&mut self, next: &Saved) {
        for lived in &next.lived {
            let known = next.quarantined.iter().any(|q| q.release == lived.release);
            assert!(!known, "a quarantined release in the line of live ones");
        }
        self.check_live(next);
        self.check_quarantines(next);
        if next.rollout != self.saved.rollout {
            self.books.moves(self.now);
        }
        self.check_stop(next);
        let Some(rollout) = &next.rollout else { return };
        let release = rollout.target.release;
        let before = self.saved.rollout.as_ref();
        let before = before.filter(|before| before.target.release == release);
        let before = before.map(|before| before.step.clone());
        let goes_on = matches!(before, Some(Step::Stage | Step::Activate { .. }));
        if !goes_on && !matches!(rollout.step, Step::Return { .. }) {
            self.books.begin(release);
        }
        match rollout.step {
            Step::Activate { wave } if before.as_ref() != Some(&rollout.step) => {
                self.check_wave_begins(rollout, wave);
            }
            Step::Stage | Step::Return { .. } if matches!(before, Some(Step::Activate { .. })) => {
                self.books.stop(self.policy.on_broken);
            }
            Step::Stage | Step::Activate { .. } | Step::Return { .. } => {}
        }
    }

    /// A release is quarantined, or broken on one node alone, only where it truly is; a quarantine is
    /// lifted only by trying the release anew, or after a restore by an agent that runs it.
    fn check_quarantines(&self, next: &Saved) {
        let is_in = |all: &[Quarantined], release| all.iter().any(|q| q.release == release);
        for lifted in &self.saved.quarantined {
            let anew = self.queue.has(lifted.release);
            let followed = self.restore.followed.contains(&lifted.release);
            let may = is_in(&next.quarantined, lifted.release) || anew || followed;
            assert!(may, "a quarantine is forgotten");
        }
        for found in &next.quarantined {
            let known = is_in(&self.saved.quarantined, found.release);
            let broken = known || self.found_broken(&found.node, found.release);
            assert!(broken, "quarantined, and {} runs it well", found.node);
        }
        for (release, nodes) in &next.broken {
            let followed = self.restore.followed.contains(release);
            let known = |node| {
                let known = self.saved.broken.get(release);
                followed || known.is_some_and(|nodes| nodes.contains(node))
            };
            let mut new = nodes.iter().filter(|node| !known(*node));
            let good = self.books.good_somewhere.contains(release);
            let broken = new.all(|node| good && self.found_broken(node, *release));
            assert!(broken, "broken on one of {nodes:?} alone, and runs there");
        }
    }

    /// It is broken there, and no person holds the node on it.
    fn found_broken(&self, node: &NodeName, release: ReleaseId) -> bool {
        let held_on = self.books.heard.get(node).and_then(|heard| heard.held_on);
        let mut agents = self.agents.iter().enumerate();
        let broken = |(number, agent)| truth(number, agent, release) == Standing::Broken;
        held_on != Some(release) && agents.any(|agent| agent.1.name == *node && broken(agent))
    }

    /// Notes where a rollout was to stop. Once live has moved there is a better place to be.
    fn check_stop(&mut self, next: &Saved) {
        let live = |saved: &Saved| saved.lived.last().map(|lived| lived.release);
        if live(next) != live(&self.saved) {
            self.books.stopped.clear();
        }
        let activating = self.saved.rollout.as_ref().filter(|rollout| {
            let found = next.quarantined.iter().map(|q| q.release);
            matches!(rollout.step, Step::Activate { .. })
                && found.clone().any(|found| found == rollout.target.release)
        });
        if self.policy.on_broken == OnBroken::Stop {
            let stopped = activating.map(|rollout| rollout.target.release);
            self.books.stopped.extend(stopped);
        }
    }

    /// Live moves forward only when no member found it broken, and each has ended or left.
    fn check_live(&mut self, next: &Saved) {
        let live = |saved: &Saved| saved.lived.last().map(|lived| lived.release);
        let Some(release) = live(next).filter(|_| live(next) != live(&self.saved)) else {
            return;
        };
        let rollout = self.saved.rollout.as_ref();
        let goes_on = |rollout: &&Rollout| {
            rollout.target.release == release && !matches!(rollout.step, Step::Return { .. })
        };
        if !rollout.as_ref().is_some_and(goes_on) {
            // Back to the newest that is not broken; or a rollout without members, begun and ended in one
            // call, perhaps of a release that was tried anew when it had just been taken back.
            let broken = |release| next.quarantined.iter().any(|q| q.release == release);
            let mut line = self.saved.lived.iter().map(|l| l.release);
            let back = line.rfind(|release| !broken(*release)) == Some(release);
            let mut heard = self.books.heard.values();
            let nobody = !heard.any(|heard| heard.online && heard.held_on.is_none());
            let followed = self.restore.followed.contains(&release);
            assert!(back || nobody || followed, "live moves without a rollout");
            return;
        }
        self.check_everyone_is_there();
        let broken = &self.books.broken;
        assert!(broken.is_empty(), "{broken:?} found broken what is live");
        for node in self.books.certain() {
            let ended = self.books.has_ended(node, &self.policy, self.now);
            assert!(ended, "{node} has not verified what is live");
        }
    }
}
