//! What follows from the facts for the volume: how the rollout moves, and what is live.

use std::collections::BTreeSet;

use super::node::Node;
use super::{
    Command, LIVED_MAX, Lived, Machine, Outcome, Output, QUARANTINED_MAX, Quarantined, Rollout,
    Standing, Step, Waiting,
};
use crate::id::ReleaseId;
use crate::name::NodeName;

/// How a rollout ends.
enum Lives {
    Yes,
    Not { broken_on: Option<NodeName> },
}

impl Rollout {
    fn members(&self) -> impl Iterator<Item = &NodeName> {
        self.waves.iter().flatten()
    }
}

/// In which groups the members activate. One policy for now: all of them at once.
fn waves(members: BTreeSet<NodeName>) -> Vec<BTreeSet<NodeName>> {
    vec![members]
}

impl Machine {
    /// Moves the rollout one step; whether it moved.
    pub(super) fn advance(&mut self) -> bool {
        let Some(rollout) = &self.kept.rollout else {
            return self.start();
        };
        let target = rollout.target.release;
        let gone = rollout.members().next().is_none();
        match &rollout.step {
            Step::Stage if gone && rollout.refused => self.end(Lives::Not { broken_on: None }),
            Step::Stage if gone => {
                self.activate_again(target, |_| true);
                self.end(Lives::Yes);
            }
            Step::Activate { .. } if gone => self.end(Lives::Yes),
            Step::Stage => {
                let staged = |name| self.nodes.get(name).is_some_and(|n| n.holds(target));
                if !rollout.members().all(staged) {
                    return false;
                }
                self.activate_again(target, |_| true);
                self.step_to(Step::Activate { wave: 0 });
            }
            Step::Activate { wave } => {
                let wave = *wave;
                let settled = |name: &NodeName| {
                    let node = self.nodes.get(name);
                    node.is_some_and(|n| n.runs(target) && n.standing != Standing::Verifying)
                };
                if !rollout.waves.iter().take(wave + 1).flatten().all(settled) {
                    return false;
                }
                if wave + 1 < rollout.waves.len() {
                    self.step_to(Step::Activate { wave: wave + 1 });
                } else {
                    self.end(Lives::Yes);
                }
            }
            Step::Return { broken_on, nodes } => {
                if !nodes.iter().all(|name| self.at_rest(name)) {
                    return false;
                }
                let broken_on = Some(broken_on.clone());
                self.end(Lives::Not { broken_on });
            }
        }
        true
    }

    fn step_to(&mut self, step: Step) {
        if let Some(rollout) = &mut self.kept.rollout {
            rollout.step = step;
        }
    }

    /// Begins with the newest that waits and may go, unless known nodes are still to come back.
    fn start(&mut self) -> bool {
        let frozen = self.kept.frozen.is_some();
        let may = |waiting: &Waiting| waiting.wanted || !frozen;
        let Some(next) = self.kept.waiting.iter().rposition(may) else {
            return false;
        };
        if !self.awaited.is_empty() {
            return false;
        }
        let Some(target) = self.kept.waiting.drain(..=next).next_back() else {
            return false;
        };
        let quarantined = &mut self.kept.quarantined;
        quarantined.retain(|q| q.release != target.release);
        self.kept.broken.remove(&target.release);
        let members = self.nodes.iter().filter(|(_, node)| node.online);
        let members: BTreeSet<NodeName> = members.map(|(name, _)| name.clone()).collect();
        self.kept.rollout = Some(Rollout {
            target,
            waves: waves(members),
            refused: false,
            step: Step::Stage,
        });
        self.decided.push(Output::Started(target.release));
        true
    }

    fn end(&mut self, lives: Lives) {
        let Some(rollout) = self.kept.rollout.take() else {
            return;
        };
        let release = rollout.target.release;
        let (live, broken_on) = match lives {
            Lives::Yes => (true, None),
            Lives::Not { broken_on } => (false, broken_on),
        };
        if live {
            self.go_live(release);
        }
        let on_it = |node: &Node| node.online && node.active == Some(release);
        let returned = broken_on.is_some() && !self.nodes.values().any(on_it);
        let nodes = self.view().nodes.into_iter();
        self.decided.push(Output::Ended(Outcome {
            release,
            live,
            broken_on,
            returned,
            nodes: nodes.map(|(name, node)| (name, node.state)).collect(),
        }));
    }

    fn go_live(&mut self, release: ReleaseId) {
        let good = |node: &Node| node.runs(release) && node.is_good();
        let good = self.nodes.values().any(good);
        self.kept.lived.retain(|lived| lived.release != release);
        self.kept.lived.push(Lived { release, good });
        let over = self.kept.lived.len().saturating_sub(LIVED_MAX);
        for gone in self.kept.lived.drain(..over) {
            self.kept.broken.remove(&gone.release);
        }
        self.live_moved();
    }

    fn live_moved(&mut self) {
        self.decided.push(Output::LiveMoved(self.live()));
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for name in names {
            self.judge(&name);
        }
    }

    /// Makes nodes on the release activate it once more: before a rollout has activated it, what is
    /// known of it is of an earlier attempt.
    pub(super) fn activate_again(&mut self, release: ReleaseId, which: impl Fn(&Node) -> bool) {
        for node in self.nodes.values_mut() {
            node.again |= node.active == Some(release) && which(node);
        }
    }

    /// Draws the conclusion from how a node's active release stands.
    pub(super) fn judge(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let Some(release) = node.active.filter(|release| node.runs(*release)) else {
            return;
        };
        let (good, broken) = (node.is_good(), node.standing == Standing::Broken);
        if broken {
            self.found_broken(name, release);
        } else if good
            && let Some(live) = self.kept.lived.last_mut()
            && live.release == release
        {
            live.good = true;
            if let Some(nodes) = self.kept.broken.get_mut(&release) {
                nodes.remove(name);
            }
        }
    }

    pub(super) fn found_broken(&mut self, name: &NodeName, release: ReleaseId) {
        if let Some(rollout) = &self.kept.rollout
            && rollout.target.release == release
        {
            // Before it activates, or when it is given up, a verdict is of an earlier attempt.
            if matches!(rollout.step, Step::Activate { .. }) {
                let target = rollout.target;
                self.quarantine(release, name);
                self.take_back(target, name);
            }
        } else if let Some(live) = self.kept.lived.last().filter(|l| l.release == release) {
            if live.good {
                let nodes = self.kept.broken.entry(release).or_default();
                nodes.insert(name.clone());
            } else {
                self.live_is_broken(name, release);
            }
        }
    }

    /// The first to verify the live release found it broken: the one before is live again.
    fn live_is_broken(&mut self, name: &NodeName, release: ReleaseId) {
        self.quarantine(release, name);
        if self.kept.rollout.is_none() {
            let wanted = false;
            self.take_back(Waiting { release, wanted }, name);
        }
        self.live_moved();
    }

    fn quarantine(&mut self, release: ReleaseId, name: &NodeName) {
        self.kept.lived.retain(|lived| lived.release != release);
        self.kept.broken.remove(&release);
        let node = name.clone();
        self.kept.quarantined.push(Quarantined { release, node });
        let over = self.kept.quarantined.len().saturating_sub(QUARANTINED_MAX);
        self.kept.quarantined.drain(..over);
        let node = name.clone();
        self.decided.push(Output::Quarantined { release, node });
    }

    fn take_back(&mut self, target: Waiting, name: &NodeName) {
        let on_it = |node: &Node| {
            node.active == Some(target.release) || node.is_asked(Command::Activate(target.release))
        };
        // Of those that a restarted source waits for, nobody knows.
        let nodes = self.nodes.iter().filter(|(name, node)| {
            if node.online {
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
            waves: Vec::new(),
            refused: false,
            step,
        });
    }

    pub(super) fn is_quarantined(&self, release: ReleaseId) -> bool {
        self.kept.quarantined.iter().any(|q| q.release == release)
    }

    /// Takes a node out of the rollout; whether it was in it.
    pub(super) fn leave(&mut self, name: &NodeName) -> bool {
        let Some(rollout) = &mut self.kept.rollout else {
            return false;
        };
        if let Step::Return { nodes, .. } = &mut rollout.step {
            return nodes.remove(name);
        }
        rollout.waves.iter_mut().any(|wave| wave.remove(name))
    }

    pub(super) fn leave_all_but_awaited(&mut self) {
        let Some(rollout) = &self.kept.rollout else {
            return;
        };
        let members = match &rollout.step {
            Step::Return { nodes, .. } => nodes.iter().cloned().collect::<Vec<_>>(),
            Step::Stage | Step::Activate { .. } => rollout.members().cloned().collect(),
        };
        for name in members {
            let here = self.nodes.get(&name).is_some_and(|node| node.online);
            if !here && !self.awaited.contains(&name) {
                self.leave(&name);
            }
        }
    }
}
