//! What people and scripts see of the machine.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::Node;
use super::{Command, Frozen, Machine, Quarantined, Standing, Step, Waiting};
use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::name::NodeName;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// A member that has not connected yet, or has no release active.
    Joining,
    /// Not connected.
    Offline,
    /// On another release than it is to run, which it does not hold yet; or left on one by a rollout
    /// that stopped, or held on one by a person.
    Behind,
    /// Holds what it is to run next.
    Staged,
    /// Activates, returns or verifies.
    Activating,
    /// Runs what it is to run, with evidence.
    Live,
    /// Runs it, but that is not proven.
    Unverified,
    /// What it is to run is broken there or refused, or it cannot leave a broken release.
    Failed,
}

impl NodeState {
    /// Whether only a node that is connected can be so.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Joining | Self::Offline)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joining => "joining",
            Self::Offline => "offline",
            Self::Behind => "behind",
            Self::Staged => "staged",
            Self::Activating => "activating",
            Self::Live => "live",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        })
    }
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Members stage.
    Stage,
    /// Members of the wave activate.
    Activate,
    /// All of the wave have activated, and verify.
    Verify,
    /// It is broken, and taken back.
    Return,
}

/// A volume's rollout and its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What the fleet is to run.
    pub live: Option<ReleaseId>,
    /// What was live before: where a rollback goes.
    pub previous: Option<ReleaseId>,
    /// Set while frozen.
    pub frozen: Option<Frozen>,
    /// Oldest first.
    pub quarantined: Vec<Quarantined>,
    /// What waits.
    pub waiting: Vec<Waiting>,
    /// What runs.
    pub rollout: Option<RolloutView>,
    /// The enrolled nodes that are away and without which nothing that waits or runs goes on.
    pub waits_for: Vec<NodeName>,
    /// Every enrolled node that the machine was told of.
    pub nodes: BTreeMap<NodeName, NodeView>,
}

/// A rollout that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutView {
    /// What is rolled out.
    pub release: ReleaseId,
    /// How far it is.
    pub phase: Phase,
    /// The wave, counted from 1.
    pub wave: usize,
    /// How many waves there are.
    pub waves: usize,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Where it stands.
    pub state: NodeState,
    /// What `current` names there; of an offline node, what it named last.
    pub active: Option<ReleaseId>,
    /// What is known of that.
    pub standing: Standing,
    /// What it holds.
    pub staged: Vec<ReleaseId>,
    /// Set while a person has it stay where it is.
    pub hold: Option<Hold>,
}

impl Machine {
    /// Returns how everything stands.
    #[must_use]
    pub fn view(&self) -> View {
        let nodes = self.nodes.iter().map(|(name, node)| {
            let view = NodeView {
                state: self.state_of(name, node),
                active: node.active,
                standing: node.standing,
                staged: node.held.iter().copied().collect(),
                hold: self.kept.holds.get(name).cloned(),
            };
            (name.clone(), view)
        });
        View {
            live: self.live(),
            previous: self.kept.lived.iter().rev().nth(1).map(|l| l.release),
            frozen: self.kept.frozen.clone(),
            quarantined: self.kept.quarantined.clone(),
            waiting: self.kept.waiting.clone(),
            rollout: self.rollout_view(),
            waits_for: self.held_up_by(),
            nodes: nodes.collect(),
        }
    }

    fn rollout_view(&self) -> Option<RolloutView> {
        let rollout = self.kept.rollout.as_ref()?;
        let release = rollout.target.release;
        let runs = |name| self.nodes.get(name).is_some_and(|n| n.runs(release));
        let phase = match rollout.step {
            Step::Stage => Phase::Stage,
            Step::Return { .. } => Phase::Return,
            Step::Activate { wave } => {
                let mut members = rollout.waves.iter().take(wave + 1).flatten();
                let all = members.all(runs);
                if all { Phase::Verify } else { Phase::Activate }
            }
        };
        let (wave, waves) = rollout.position();
        Some(RolloutView {
            release,
            phase,
            wave,
            waves,
        })
    }

    fn held_up_by(&self) -> Vec<NodeName> {
        let rollout = self.kept.rollout.as_ref();
        let returns = rollout.is_some_and(|r| matches!(r.step, Step::Return { .. }));
        let runs = rollout.is_some() && !returns;
        let waits = rollout.is_none() && self.next_waiting().is_some();
        let away = self.waits_for().filter(|_| runs || waits);
        away.cloned().collect()
    }

    /// Returns in which wave of the rollout that runs a node is, counted from 1.
    #[must_use]
    pub fn wave_of(&self, name: &NodeName) -> Option<usize> {
        let rollout = self.kept.rollout.as_ref()?;
        let wave = rollout.waves.iter().position(|wave| wave.contains(name));
        wave.map(|wave| wave + 1)
    }

    fn state_of(&self, name: &NodeName, node: &Node) -> NodeState {
        if !node.online {
            return if node.joining {
                NodeState::Joining
            } else {
                NodeState::Offline
            };
        }
        let live = self.live();
        let rollout = self.kept.rollout.as_ref();
        let target = rollout.map(|rollout| rollout.target.release);
        let target = target.filter(|release| !self.is_quarantined(*release));
        let goal = target.or(live);
        let stays = node.active.is_some_and(|r| self.stays_on(name, r));
        let quarantined = node.active.is_some_and(|r| self.is_quarantined(r));
        let refuses =
            |release: Option<ReleaseId>| release.is_some_and(|r| node.refused.contains(&r));
        let alone = live.is_some_and(|live| self.is_broken_on(name, live)) && node.active != target;
        if self.is_held(name) {
            return held_state(node, live);
        }
        let moving = matches!(
            node.asked.as_ref().map(|asked| asked.command),
            Some(Command::Activate(_) | Command::Return(_))
        );
        let on_goal = node.active.is_some() && (node.active == live || node.active == target);
        if moving {
            NodeState::Activating
        } else if (quarantined && !stays) || alone || refuses(live) {
            NodeState::Failed
        } else if on_goal && goal != node.active && goal.is_some_and(|r| node.holds(r)) {
            NodeState::Staged
        } else if on_goal || stays {
            match node.standing {
                Standing::Verifying => NodeState::Activating,
                Standing::Unproven | Standing::Good => NodeState::Unverified,
                Standing::Proven | Standing::Activated if stays => NodeState::Behind,
                Standing::Proven | Standing::Activated => NodeState::Live,
                Standing::Broken => NodeState::Failed,
            }
        } else if goal.is_some_and(|release| node.holds(release)) {
            NodeState::Staged
        } else if refuses(target) {
            NodeState::Failed
        } else if node.active.is_none() {
            NodeState::Joining
        } else {
            NodeState::Behind
        }
    }
}

/// Where a node stands that a person holds: it does what that one wants. Off what is live it is behind.
fn held_state(node: &Node, live: Option<ReleaseId>) -> NodeState {
    match node.standing {
        _ if node.active.is_none() => NodeState::Joining,
        Standing::Verifying => NodeState::Activating,
        Standing::Broken => NodeState::Failed,
        Standing::Unproven | Standing::Good => NodeState::Unverified,
        Standing::Proven | Standing::Activated if node.active == live => NodeState::Live,
        Standing::Proven | Standing::Activated => NodeState::Behind,
    }
}
