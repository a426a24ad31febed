//! What agents hold, and lose again: what nobody needs any more is collected, what the disk does not take
//! is let go, and what a power cut takes is never said to be gone.

use super::super::Event;
use super::world::World;
use crate::id::ReleaseId;

impl World {
    /// The disk has taken a release, or does not; whoever activates it waits for that.
    pub(super) fn synced(&mut self, number: usize, release: ReleaseId) {
        if !self.agents[number].undurable.remove(&release) {
            return;
        }
        if self.rng.one_in(20) {
            self.saw("let go again");
            self.agents[number].held.remove(&release);
            self.lacks(number, release);
        }
    }

    /// Whether a release can be activated.
    pub(super) fn is_on_disk(&mut self, number: usize, release: ReleaseId) -> bool {
        self.synced(number, release);
        self.agents[number].held.contains(&release)
    }

    /// An agent says that it holds a release no more, and could not do with it as it was told. The one is
    /// said by what deletes, the other by what activates: in any order.
    pub(super) fn lacks(&mut self, number: usize, release: ReleaseId) {
        let node = self.agents[number].name.clone();
        let failed = Event::StepFailed {
            node: node.clone(),
            release,
            retryable: true,
        };
        let mut words = vec![failed, Event::Dropped { node, release }];
        if self.rng.one_in(2) {
            words.reverse();
        }
        for word in words {
            self.report(number, word);
        }
    }

    /// An agent deletes what it does not need: not what is active or was before, nor what it staged last,
    /// nor what is live, as it heard last.
    pub(super) fn collect(&mut self, number: usize) {
        let agent = &self.agents[number];
        let newest = agent
            .held
            .iter()
            .max_by_key(|release| self.numbers[release]);
        let kept = [agent.active, agent.was, newest.copied(), self.live_told];
        let surplus: Vec<ReleaseId> = agent
            .held
            .iter()
            .filter(|release| !kept.contains(&Some(**release)))
            .copied()
            .collect();
        for release in surplus {
            if self.rng.one_in(2) {
                self.saw("collected");
                let agent = &mut self.agents[number];
                agent.held.remove(&release);
                agent.undurable.remove(&release);
                let node = agent.name.clone();
                self.report(number, Event::Dropped { node, release });
            }
        }
    }

    /// A power cut takes what the disk had not taken, and was never activated.
    pub(super) fn lose_power(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        let lost = std::mem::take(&mut agent.undurable);
        agent.held.retain(|release| !lost.contains(release));
        if !lost.is_empty() {
            self.saw("a power cut takes what was staged");
        }
    }
}
