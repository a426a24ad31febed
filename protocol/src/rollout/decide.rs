//! What follows from the facts for the volume: how the rollout moves, and what is live.

use std::collections::BTreeSet;

use super::node::Node;
use super::{
    LIVED_MAX, Lived, Machine, Outcome, Output, RequireOnline, Rollout, Standing, Step, Waiting,
};
use crate::id::ReleaseId;
use crate::name::NodeName;

/// How a rollout ends.
enum Lives {
    Yes,
    Not { broken_on: Option<NodeName> },
}

impl Machine {
    /// Moves the rollout one step; whether it moved.
    pub(super) fn advance(&mut self) -> bool {
        let Some(rollout) = &self.kept.rollout else {
            return self.start();
        };
        if self.waits_for().next().is_some() && !matches!(rollout.step, Step::Return { .. }) {
            // Those that a restarted source waits for may be back at once.
            let back_soon = |name| self.awaited.contains(name);
            return !self.waits_for().all(back_soon) && self.hold_back(|_| true);
        }
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
                let members: BTreeSet<&NodeName> = rollout.members().collect();
                let waves = self.plan(|name| members.contains(name));
                self.activate_again(target, |_| true);
                if let Some(rollout) = &mut self.kept.rollout {
                    rollout.waves = waves;
                }
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

    /// Returns which of those that wait is the newest that may go.
    pub(super) fn next_waiting(&self) -> Option<usize> {
        let frozen = self.kept.frozen.is_some();
        let may = |waiting: &Waiting| waiting.wanted || !frozen;
        self.kept.waiting.iter().rposition(may)
    }

    /// Begins with the newest that waits and may go, unless known nodes are still to come back.
    fn start(&mut self) -> bool {
        let Some(next) = self.next_waiting() else {
            return false;
        };
        if !self.awaited.is_empty() || self.waits_for().next().is_some() {
            return false;
        }
        let Some(target) = self.kept.waiting.drain(..=next).next_back() else {
            return false;
        };
        let quarantined = &mut self.kept.quarantined;
        quarantined.retain(|q| q.release != target.release);
        self.kept.broken.remove(&target.release);
        self.kept.rollout = Some(Rollout {
            target,
            waves: self.plan(|_| true),
            refused: false,
            step: Step::Stage,
        });
        self.decided.push(Output::Started(target.release));
        true
    }

    /// Plans the waves of those of the connected nodes that are to be members.
    fn plan(&self, is_member: impl Fn(&NodeName) -> bool) -> Vec<BTreeSet<NodeName>> {
        let can_be = |(name, node): &(&NodeName, &Node)| node.online && !self.is_held(name);
        let connected = self.nodes.iter().filter(can_be);
        self.policy
            .waves(connected.filter(|(name, _)| is_member(name)))
    }

    /// Returns the nodes without which the policy lets no rollout take a step forward.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = &NodeName> {
        let all = self.policy.require_online == RequireOnline::All;
        let away = self
            .nodes
            .iter()
            .filter(move |(name, node)| all && !node.online && !self.is_held(name));
        away.map(|(name, _)| name)
    }

    /// Ends the rollout that runs, if one does: nothing of it counts any more.
    pub(super) fn give_up(&mut self) {
        self.end(Lives::Not { broken_on: None });
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
        let on_it = |(name, node): (&NodeName, &Node)| {
            node.online && node.active == Some(release) && !self.is_held(name)
        };
        let returned = broken_on.is_some() && !self.nodes.iter().any(on_it);
        let nodes = self.view().nodes.into_iter();
        let (wave, waves) = rollout.position();
        self.decided.push(Output::Ended(Outcome {
            release,
            live,
            broken_on,
            returned,
            wave,
            waves,
            nodes: nodes.map(|(name, node)| (name, node.state)).collect(),
        }));
    }

    pub(super) fn go_live(&mut self, release: ReleaseId) {
        let good = |node: &Node| node.runs(release) && node.is_good();
        let good = self.nodes.values().any(good);
        self.kept.lived.retain(|lived| lived.release != release);
        self.kept.lived.push(Lived { release, good });
        self.shorten_line();
        self.live_moved();
    }

    pub(super) fn shorten_line(&mut self) {
        let over = self.kept.lived.len().saturating_sub(LIVED_MAX);
        for gone in self.kept.lived.drain(..over) {
            self.kept.broken.remove(&gone.release);
        }
    }

    pub(super) fn live_moved(&mut self) {
        self.decided.push(Output::LiveMoved(self.live()));
        // There is a better place to be than where the stop of a rollout left them.
        for quarantined in &mut self.kept.quarantined {
            quarantined.stays.clear();
        }
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
        if self.is_held_on(name, release) {
            return;
        }
        let (good, broken) = (node.is_good(), node.standing == Standing::Broken);
        if broken {
            self.found_broken(name, release);
        } else if good
            && let Some(lived) = self.kept.lived.iter_mut().find(|l| l.release == release)
        {
            lived.good = true;
            if let Some(nodes) = self.kept.broken.get_mut(&release) {
                nodes.remove(name);
            }
        }
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
