//! Waves: all members stage before the first activates, the waves are what the policy says, and none
//! begins before the one before it has ended.

use std::collections::BTreeSet;

use super::super::{Canary, Rollout, Wave};
use super::world::World;
use crate::name::NodeName;

impl World {
    pub(super) fn check_wave_begins(&mut self, rollout: &Rollout, wave: usize) {
        self.check_everyone_is_there();
        if wave == 0 {
            let may = rollout.target.wanted || !self.queue.is_frozen();
            assert!(may, "it activates, and the volume is frozen");
            let planned: BTreeSet<&NodeName> = rollout.waves.iter().flatten().collect();
            for node in self.books.certain() {
                assert!(planned.contains(node), "{node} was left out");
            }
            for node in planned {
                assert!(!self.is_held(node), "{node} is held, and made a member");
                let staged = self.has_staged(node, rollout.target.release);
                let said = self.books.heard[node].has.contains(&rollout.target.release);
                assert!(staged && said, "{node} has not staged when others activate");
            }
            self.check_plan(&rollout.waves);
            self.books.activate(&rollout.waves);
        }
        self.check_waves_before(wave, &rollout.waves);
    }

    fn check_waves_before(&self, wave: usize, left: &[BTreeSet<NodeName>]) {
        for (number, earlier) in self.books.waves.iter().enumerate().take(wave) {
            for node in earlier {
                let gone = left.get(number).is_none_or(|wave| !wave.contains(node));
                let may_go = self.books.heard.get(node).is_none_or(|h| h.may_have_left);
                let ended = self.books.has_ended(node, &self.policy, self.now);
                assert!(
                    ended || (gone && may_go),
                    "{node} is not done with its wave"
                );
            }
        }
    }

    fn check_plan(&mut self, waves: &[BTreeSet<NodeName>]) {
        let members: usize = waves.iter().map(BTreeSet::len).sum();
        let bare = |node: &NodeName| self.agents.iter().any(|a| a.bare && a.name == *node);
        let all_bare = waves.iter().flatten().all(bare);
        let sizes: Vec<usize> = waves.iter().map(BTreeSet::len).collect();
        let canary = match self.policy.canary {
            Canary::Nodes(nodes) => nodes.min(members),
            // Of a bare node that has not said so, a server must be expected.
            Canary::Auto if all_bare => usize::from(sizes.first() == Some(&1)),
            Canary::Auto => members.min(1),
        };
        let size = match self.policy.wave {
            Wave::All => members.max(1),
            Wave::Nodes(nodes) => nodes,
            Wave::Percent(percent) => (members * usize::from(percent)).div_ceil(100).max(1),
        };
        let mut expected = Vec::from_iter((canary > 0).then_some(canary));
        let mut left = members - canary;
        while left > 0 {
            expected.push(left.min(size));
            left -= left.min(size);
        }
        assert_eq!(
            sizes, expected,
            "waves of another size than {:?}",
            self.policy
        );
        match (sizes.len(), canary) {
            (1, _) => self.saw("one wave"),
            (3.., _) => self.saw("more than two waves"),
            _ => {}
        }
        if self.policy.canary == Canary::Auto && members > 1 {
            self.saw(if canary == 1 {
                "a canary of one"
            } else {
                "no canary without code servers"
            });
        }
    }
}
