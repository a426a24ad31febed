//! A node that is held: a person had it go to a release, and it stays there until a person lets it
//! go on. Rollouts leave it out. The node itself keeps that it is held; a source goes by what the node
//! said last.

use serde::{Deserialize, Serialize};

use crate::call::CallFailure;
use crate::id::ReleaseId;
use crate::message::{Failure, Verification};
use crate::name::{Text, VolumeName};
use crate::release::{Seq, UnixMillis};

/// Where a person asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedAt {
    /// At the source.
    Source,
    /// On the node's own host.
    Node,
}

/// Why a node stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// On which release.
    pub release: ReleaseId,
    /// The release's place, as the node knows it.
    pub seq: Seq,
    /// The reason.
    pub why: Text,
    /// Who asked.
    pub by: Text,
    /// Since when, by the node's clock.
    pub at: UnixMillis,
    /// Where that was asked.
    pub asked_at: AskedAt,
}

/// How a hold ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thawed {
    /// The reason.
    pub why: Text,
    /// Who asked.
    pub by: Text,
    /// When, by the node's clock.
    pub at: UnixMillis,
}

/// Whether a node is held in a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// The volume.
    pub volume: VolumeName,
    /// Set while it is held.
    pub hold: Option<Hold>,
    /// How it was let go last, where it was.
    pub thawed: Option<Thawed>,
}

/// What a source asks of a node that a person named there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldOrder {
    /// Go to a release that you hold, and stay there.
    Rollback(NodeRollback),
    /// Go on.
    Thaw {
        /// The reason.
        why: Text,
        /// Who asks.
        by: Text,
    },
}

/// A rollback of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRollback {
    /// Where to; else the release that was active there before the one that is.
    pub to: Option<crate::call::ReleaseRef>,
    /// The reason.
    pub why: Text,
    /// Who asks.
    pub by: Text,
    /// Whether the answer waits for what the code servers serve then.
    pub wait: bool,
}

/// What a node answers to a [`HoldOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldAnswer {
    /// It went to the release.
    WentBack(Box<WentBack>),
    /// It was held until now; or it was not.
    Thawed(Option<Hold>),
    /// It did not, and nothing has changed.
    Failed(CallFailure),
}

/// What came of a node's rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// What was active before.
    pub from: Option<Seq>,
    /// Where it was to go.
    pub to: Seq,
    /// What is active now: `to`, unless that was broken.
    pub active: Option<Seq>,
    /// What was found of `to`; nothing where that was not waited for.
    pub found: Option<Verification>,
    /// What was found of the release that it returned to, where `to` was broken.
    pub returned: Option<Verification>,
}

impl WentBack {
    /// Returns what is wrong with the release, where something is.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.found.as_ref()?.failure.as_ref()
    }
}
