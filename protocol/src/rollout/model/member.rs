//! Who is a member: a node is taken out at any moment, and may join again, as it was or with nothing.

use super::super::Event;
use super::agent::Agent;
use super::world::{Happening, World};

/// How long it takes at most until a node that was taken out joins again.
const REJOIN_MS: u64 = 60_000;

impl World {
    /// An operator takes a node out. That is durable before the machine hears of it.
    pub(super) fn remove(&mut self, number: usize) {
        if self.machine.is_none() || !self.agents[number].enrolled {
            return;
        }
        self.saw("taken out");
        let agent = &mut self.agents[number];
        agent.enrolled = false;
        let was_linked = agent.link.take().is_some();
        let node = agent.name.clone();
        if self.running.is_some() {
            self.saw("taken out of a rollout");
        }
        if self.faulty && self.rng.one_in(6) {
            self.saw("crash when one was taken out");
            self.crash_source();
            self.books.hear_removed(&node);
        } else {
            if was_linked && self.rng.one_in(2) {
                self.hear(Event::Offline { node: node.clone() });
            }
            self.hear(Event::Removed { node });
        }
        self.restore.unheard.remove(&number);
        if !self.rng.one_in(4) {
            self.soon(REJOIN_MS, Happening::Enroll(number));
        }
    }

    /// It joins again, by another key: as it was, or on another host.
    pub(super) fn enroll(&mut self, number: usize) {
        if self.machine.is_none() {
            self.soon(REJOIN_MS, Happening::Enroll(number));
            return;
        }
        self.saw("joined again");
        let agent = &mut self.agents[number];
        if self.rng.one_in(2) {
            let (bare, turn) = (agent.bare, agent.turn);
            let returns_itself = agent.returns_itself;
            *agent = Agent::new(number as u64, bare, returns_itself, self.now);
            // What it had begun is of the host before.
            agent.turn = turn + 1;
        }
        agent.enrolled = true;
        if self.restore.happened {
            self.restore.unheard.insert(number);
        }
        let node = agent.name.clone();
        // Whatever was found there before is forgotten.
        self.told_back.retain(|(_, told)| *told != number);
        self.left.retain(|(_, left)| *left != number);
        self.hear(Event::Enrolled { node });
        self.soon(5_000, Happening::Connect(number));
    }
}
