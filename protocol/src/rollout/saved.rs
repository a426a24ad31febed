//! What of the machine must survive a restart of the source. The machine reads and writes it in
//! place; all else it learns again from the nodes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::name::{NodeName, Text};
use crate::release::{Seq, UnixMillis};

/// Who froze the volume, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The reason.
    pub why: Text,
    /// Who.
    pub by: Text,
    /// When.
    pub at: UnixMillis,
    /// Whether a rollback did it: then a hot-fix of named paths may go live all the same.
    pub by_rollback: bool,
}

/// What of the machine must survive a restart of the source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The newest release that the machine was told of.
    pub seen: Seq,
    /// The releases that were live, oldest first; the last one is.
    pub lived: Vec<Lived>,
    /// On which nodes a release of those is broken, although it is good elsewhere.
    pub broken: BTreeMap<ReleaseId, BTreeSet<NodeName>>,
    /// The quarantined releases, oldest first.
    pub quarantined: Vec<Quarantined>,
    /// Set while frozen.
    pub frozen: Option<Frozen>,
    /// What waits to be rolled out: at most one that a person wants, then one that must thaw.
    pub waiting: Vec<Waiting>,
    /// The rollout that runs.
    pub rollout: Option<Rollout>,
    /// Which nodes a person holds, as they said last.
    #[serde(default)]
    pub holds: BTreeMap<NodeName, Hold>,
    /// Whether the log was behind the nodes, and nobody has thawed the volume since: what a node runs
    /// may be newer than what is known to be live.
    #[serde(default)]
    pub restored: bool,
}

/// A release that is or was live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lived {
    /// The release.
    pub release: ReleaseId,
    /// Whether some node found it good.
    pub good: bool,
}

/// A release that was found broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The release.
    pub release: ReleaseId,
    /// Who found out.
    pub node: NodeName,
    /// Who stays on it all the same, because the policy is to stop: until live moves.
    #[serde(default)]
    pub stays: BTreeSet<NodeName>,
}

/// A release that waits to be rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The release.
    pub release: ReleaseId,
    /// Whether a person asked for it.
    pub wanted: bool,
}

/// A rollout that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What is rolled out.
    pub target: Waiting,
    /// The members that have not left, in the order in which they activate. Once it is given up:
    /// those that were members then; none where nobody had found the live release good.
    pub waves: Vec<BTreeSet<NodeName>>,
    /// Whether a member refused to stage it.
    pub refused: bool,
    /// How far it is.
    pub step: Step,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Not every member holds the release.
    Stage,
    /// The waves up to this one activate and verify.
    Activate {
        /// Counted from 0.
        wave: usize,
    },
    /// It is broken, and taken back.
    Return {
        /// Who found out.
        broken_on: NodeName,
        /// The nodes that are not back yet.
        nodes: BTreeSet<NodeName>,
    },
}

impl Rollout {
    pub(super) fn members(&self) -> impl Iterator<Item = &NodeName> {
        self.waves.iter().flatten()
    }

    /// Whether it was this one's turn to activate, and it has not left since.
    pub(super) fn is_activating(&self, name: &NodeName) -> bool {
        match self.step {
            Step::Stage | Step::Return { .. } => false,
            Step::Activate { wave } => {
                let mut activating = self.waves.iter().take(wave + 1);
                activating.any(|wave| wave.contains(name))
            }
        }
    }

    /// Returns in which wave it is (the broken node's, once it is given up), and of how many.
    pub(super) fn position(&self) -> (usize, usize) {
        let waves = self.waves.len().max(1);
        let wave = match &self.step {
            Step::Stage => 1,
            Step::Activate { wave } => wave + 1,
            Step::Return { broken_on, .. } => {
                let wave = self.waves.iter().position(|wave| wave.contains(broken_on));
                wave.map_or(waves, |wave| wave + 1)
            }
        };
        (wave, waves)
    }
}
