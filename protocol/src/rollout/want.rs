//! What follows from the facts for each node: what it is to do now.

use std::time::Instant;

use super::node::Node;
use super::{Command, Machine, Output, Rollout, Standing, Step};
use crate::id::ReleaseId;
use crate::name::NodeName;

/// What a rollout has for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It is no member, or the release is being taken back.
    None,
    /// To stage, and to wait.
    Stage,
    /// To activate.
    Activate,
}

impl Rollout {
    fn turn(&self, name: &NodeName) -> Turn {
        let wave_max = match self.step {
            Step::Return { .. } => return Turn::None,
            Step::Stage => None,
            Step::Activate { wave } => Some(wave),
        };
        match self.waves.iter().position(|wave| wave.contains(name)) {
            None => Turn::None,
            Some(wave) if wave_max.is_some_and(|wave_max| wave <= wave_max) => Turn::Activate,
            Some(_) => Turn::Stage,
        }
    }
}

impl Machine {
    /// Asks every node that is to do something else than it was asked last.
    pub(super) fn ask(&mut self, now: Instant) {
        let wants: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.online)
            .map(|(name, node)| (name.clone(), self.want(name, node)))
            .collect();
        for (name, want) in wants {
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            let mut say = |command| {
                let node = name.clone();
                self.decided.push(Output::Ask { node, command });
            };
            let asked = node.asked.as_ref();
            let due = asked.is_some_and(|a| a.again_at.is_some_and(|at| at <= now));
            let asked = asked.map(|a| a.command);
            if asked == want && !due {
                continue;
            }
            if let Some(Command::Push(release)) = asked
                && asked != want
            {
                say(Command::Cancel(release));
                node.asked = None;
            }
            if let Some(command) = want {
                say(command);
                node.ask(command, now);
            }
        }
    }

    /// What a node that is held is to do: to stage what the others run, or are to run next.
    fn want_held(&self, node: &Node) -> Option<Command> {
        let target = self.kept.rollout.as_ref().map(|r| r.target.release);
        let target = target.filter(|release| !self.is_quarantined(*release));
        let goal = target.or_else(|| self.live())?;
        let lacks = !node.held.contains(&goal) && !node.refused.contains(&goal);
        lacks.then_some(Command::Push(goal))
    }

    /// Whether a person had the node stay where it is.
    pub(super) fn is_held(&self, name: &NodeName) -> bool {
        self.kept.holds.contains_key(name)
    }

    /// What a node is to do now, going by the facts.
    fn want(&self, name: &NodeName, node: &Node) -> Option<Command> {
        if self.is_held(name) {
            return self.want_held(node);
        }
        let rollout = self.kept.rollout.as_ref();
        let turn = rollout.map_or(Turn::None, |rollout| rollout.turn(name));
        let target = rollout
            .filter(|rollout| !matches!(rollout.step, Step::Return { .. }))
            .map(|rollout| rollout.target.release);
        if turn == Turn::Activate
            && let Some(target) = target
        {
            return step_towards(node, target);
        }
        if self.is_on_broken(name, node)
            && let Some(release) = self.fallback(name, node)
        {
            return Some(Command::Return(release));
        }
        let target_push = target
            .filter(|target| !node.held.contains(target) && !node.refused.contains(target))
            .map(Command::Push);
        // Outside of the rollout but on its release (it left): its end decides.
        let on_target = target.is_some() && node.active == target;
        let stays = node.active.is_some_and(|r| self.stays_on(name, r));
        if turn == Turn::Stage || on_target || stays {
            return target_push;
        }
        self.live()
            .filter(|live| !self.is_broken_on(name, *live))
            .and_then(|live| step_towards(node, live))
            .or(target_push)
    }

    fn is_on_broken(&self, name: &NodeName, node: &Node) -> bool {
        let quarantined = |release| self.is_quarantined(release);
        let going = node.asked.as_ref().is_some_and(
            |a| matches!(a.command, Command::Activate(release) if quarantined(release)),
        );
        let alone = !node.returned
            && node.active == self.live()
            && node
                .active
                .is_some_and(|release| self.is_broken_on(name, release));
        let on_it = |release| quarantined(release) && !self.stays_on(name, release);
        going || alone || node.active.is_some_and(on_it)
    }

    /// The newest release that a node can go back to at once.
    fn fallback(&self, name: &NodeName, node: &Node) -> Option<ReleaseId> {
        let lived = self.kept.lived.iter().rev().map(|lived| lived.release);
        lived.chain(node.was).find(|release| {
            node.holds(*release)
                && !self.is_quarantined(*release)
                && !self.is_broken_on(name, *release)
        })
    }

    /// A release that is good elsewhere is broken on this node.
    pub(super) fn is_broken_on(&self, name: &NodeName, release: ReleaseId) -> bool {
        let nodes = self.kept.broken.get(&release);
        nodes.is_some_and(|nodes| nodes.contains(name))
    }

    /// A node has nothing more to do, or is not there to do it.
    pub(super) fn at_rest(&self, name: &NodeName) -> bool {
        let Some(node) = self.nodes.get(name) else {
            return true;
        };
        if !node.online {
            return !self.awaited.contains(name);
        }
        let busy = node.asked.is_some() || node.standing == Standing::Verifying;
        !busy && self.want(name, node).is_none()
    }
}

fn step_towards(node: &Node, release: ReleaseId) -> Option<Command> {
    if node.runs(release) || node.refused.contains(&release) {
        None
    } else if node.held.contains(&release) {
        Some(Command::Activate(release))
    } else {
        Some(Command::Push(release))
    }
}
