//! What follows when a node finds a release broken: who goes back, and who stays.

use std::collections::BTreeSet;

use super::node::Node;
use super::{
    Command, Machine, OnBroken, Output, QUARANTINED_MAX, Quarantined, Rollout, Standing, Step,
    Waiting,
};
use crate::id::ReleaseId;
use crate::name::NodeName;

impl Machine {
    pub(super) fn found_broken(&mut self, name: &NodeName, release: ReleaseId) {
        if self.is_held_on(name, release) {
            return;
        }
        for quarantined in &mut self.kept.quarantined {
            if quarantined.release == release {
                quarantined.stays.remove(name);
            }
        }
        if let Some(rollout) = &self.kept.rollout
            && rollout.target.release == release
        {
            // Before it activates, or when it is given up, a verdict is of an earlier attempt.
            if matches!(rollout.step, Step::Activate { .. }) {
                let (target, waves) = (rollout.target, rollout.waves.clone());
                let stays = match self.policy.on_broken {
                    OnBroken::Return => BTreeSet::new(),
                    OnBroken::Stop => self.staying(rollout),
                };
                self.quarantine(release, name, stays);
                self.take_back(target, waves, name);
            }
        } else if let Some(lived) = self.lived(release).copied() {
            if lived.good {
                let nodes = self.kept.broken.entry(release).or_default();
                nodes.insert(name.clone());
            } else {
                self.lived_is_broken(name, release);
            }
        }
    }

    /// Returns who of a rollout's members stays on its release although one has found it broken. Of
    /// those that a restarted source waits for, it will be known when they are back.
    fn staying(&self, rollout: &Rollout) -> BTreeSet<NodeName> {
        let release = rollout.target.release;
        let stays = self.nodes.iter().filter(|(name, node)| {
            let runs = node.runs(release) && node.standing != Standing::Broken;
            rollout.is_activating(name) && (runs || !node.online)
        });
        stays.map(|(name, _)| name.clone()).collect()
    }

    /// The first to verify a release in catch-up found it broken. If it is live, the one before is
    /// again; if not, it is nothing to go back to.
    fn lived_is_broken(&mut self, name: &NodeName, release: ReleaseId) {
        let was_live = self.live() == Some(release);
        self.quarantine(release, name, BTreeSet::new());
        if !was_live {
            return;
        }
        if self.kept.rollout.is_none() {
            let wanted = false;
            self.take_back(Waiting { release, wanted }, Vec::new(), name);
        }
        self.live_moved();
    }

    pub(super) fn quarantine(
        &mut self,
        release: ReleaseId,
        name: &NodeName,
        stays: BTreeSet<NodeName>,
    ) {
        self.kept.lived.retain(|lived| lived.release != release);
        self.kept.broken.remove(&release);
        let node = name.clone();
        self.kept.quarantined.push(Quarantined {
            release,
            node,
            stays,
        });
        let over = self.kept.quarantined.len().saturating_sub(QUARANTINED_MAX);
        self.kept.quarantined.drain(..over);
        let node = name.clone();
        self.decided.push(Output::Quarantined { release, node });
    }

    fn take_back(&mut self, target: Waiting, waves: Vec<BTreeSet<NodeName>>, name: &NodeName) {
        let on_it = |node: &Node| {
            node.active == Some(target.release) || node.is_asked(Command::Activate(target.release))
        };
        // Of those that a restarted source waits for, nobody knows.
        let nodes = self.nodes.iter().filter(|(name, node)| {
            if self.is_held(name) {
                false
            } else if node.online {
                on_it(node)
            } else {
                self.awaited.contains(*name)
            }
        });
        let nodes = nodes.map(|(name, _)| name.clone()).chain([name.clone()]);
        let step = Step::Return {
            broken_on: name.clone(),
            nodes: nodes.collect(),
        };
        self.kept.rollout = Some(Rollout {
            target,
            waves,
            refused: false,
            step,
        });
    }

    /// A person had the node stay on this release: what it finds of it says nothing to others.
    pub(super) fn is_held_on(&self, name: &NodeName, release: ReleaseId) -> bool {
        let hold = self.kept.holds.get(name);
        hold.is_some_and(|hold| hold.release == release)
    }

    pub(super) fn is_quarantined(&self, release: ReleaseId) -> bool {
        self.kept.quarantined.iter().any(|q| q.release == release)
    }

    /// A release is quarantined, and the node stays on it until live moves.
    pub(super) fn stays_on(&self, name: &NodeName, release: ReleaseId) -> bool {
        let mut all = self.kept.quarantined.iter();
        all.any(|q| q.release == release && q.stays.contains(name))
    }
}
