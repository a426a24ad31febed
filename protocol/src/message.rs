//! What a source and an agent say to each other. Enums only grow at their end; a retired variant
//! keeps its place. Nobody sends what the other's minor version lacks.

use serde::{Deserialize, Serialize};

use crate::delta::Position;
use crate::dependency::{DependencyReport, Environment};
use crate::drift::{Depth, DriftReport, Word};
use crate::evidence::{CodeServerKind, CodeServerState, Evidence, Verdict};
use crate::hold::{HoldAnswer, HoldOrder, HoldReport};
use crate::id::{BlobId, FleetId, ReleaseId};
use crate::key::PublicKey;
use crate::name::{NodeName, Text, VolumeName};
use crate::release::{Seq, SignedRelease};
use crate::role::Role;
use crate::token::{TokenId, TokenSecret};
use crate::trust::SignedTrust;

/// The newest minor version of the protocol that this build speaks.
pub const MINOR: u16 = 2;
/// From this minor version on a joiner knows [`JoinReply::RefusedVolume`].
pub const REFUSED_VOLUME_MINOR: u16 = 1;
/// From this minor version on both sides speak of drift.
pub const DRIFT_MINOR: u16 = 2;
/// From this minor version on an agent answers [`FromSource::Ping`].
pub const PING_MINOR: u16 = 2;
/// From this minor version on a member may be something else than an agent.
pub const ROLES_MINOR: u16 = 2;
/// From this minor version on a source knows [`FromAgent::Environments`] and
/// [`FromAgent::Dependencies`].
pub const DEPENDENCIES_MINOR: u16 = 2;
/// From this minor version on a source takes [`FromAgent::Rotate`].
pub const ROTATE_MINOR: u16 = 2;
/// From this minor version on an agent is told [`FromSource::Soon`].
pub const SOON_MINOR: u16 = 2;
/// From this minor version on an agent answers [`FromSource::Records`].
pub const RECORDS_MINOR: u16 = 2;

/// From this minor version on an agent says whether it is held, right after its `Hello`, and can be told.
pub const HOLD_MINOR: u16 = 2;

/// What an agent says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// The first message: what the agent is and holds.
    Hello(AgentHello),
    /// What it holds has changed, by collection.
    Held {
        /// The volume.
        volume: VolumeName,
        /// Releases now held.
        added: Vec<ReleaseId>,
        /// Releases held no more.
        removed: Vec<ReleaseId>,
    },
    /// It will not take a release.
    Refused {
        /// The volume.
        volume: VolumeName,
        /// The release.
        release: ReleaseId,
        /// Why not.
        failure: Failure,
    },
    /// Bytes that it should hold are damaged or gone; these blobs must travel whole.
    Missing {
        /// The volume.
        volume: VolumeName,
        /// The release it is staging.
        release: ReleaseId,
        /// Blobs of its manifest that must travel whole.
        blobs: Vec<BlobId>,
    },
    /// How far it got with a release.
    Report(Report),
    /// What on its disk is not what the releases say. From minor 2 on.
    Drift(DriftReport),
    /// The answer to [`FromSource::Verify`]. From minor 2 on.
    Looked {
        /// The volume.
        volume: VolumeName,
        /// Which question.
        ask: u64,
        /// How far it is, or what it found.
        word: Word,
    },
    /// It lacks the ignore rules of a release that it holds. From minor 2 on.
    Rules {
        /// The volume.
        volume: VolumeName,
        /// The release.
        release: ReleaseId,
    },
    /// The answer to [`FromSource::Ping`]. From minor 2 on.
    Pong {
        /// What the ping said.
        nonce: u64,
    },
    /// What its Python environments hold. From minor 2 on.
    Environments {
        /// The volume.
        volume: VolumeName,
        /// All of them.
        environments: Vec<Environment>,
    },
    /// How its Python environments fit a release. From minor 2 on.
    Dependencies {
        /// The volume.
        volume: VolumeName,
        /// The release, and what was found.
        report: DependencyReport,
    },
    /// Where it is held: the first word after both have greeted. A volume that is not named was never
    /// held. From minor 2 on.
    Holds(Vec<HoldReport>),
    /// It is held now, or held no more. From minor 2 on.
    Hold(HoldReport),
    /// The answer to [`FromSource::Hold`]. From minor 2 on.
    HoldAnswer {
        /// The volume.
        volume: VolumeName,
        /// Which question.
        ask: u64,
        /// The answer.
        answer: HoldAnswer,
    },
    /// It is to have another key, and will dial by that next. From minor 2 on.
    Rotate {
        /// The other key.
        key: PublicKey,
    },
    /// The answer to [`FromSource::Records`]. From minor 2 on.
    Records {
        /// The volume.
        volume: VolumeName,
        /// Oldest first; where that would be too much, the newest.
        records: Vec<SignedRelease>,
    },
}

impl FromAgent {
    /// Returns the first minor version that knows it: nobody older is sent it.
    #[must_use]
    pub const fn since(&self) -> u16 {
        match self {
            Self::Hello(_)
            | Self::Held { .. }
            | Self::Refused { .. }
            | Self::Missing { .. }
            | Self::Report(_) => 0,
            Self::Environments { .. } | Self::Dependencies { .. } => DEPENDENCIES_MINOR,
            Self::Holds(_) | Self::Hold(_) | Self::HoldAnswer { .. } => HOLD_MINOR,
            Self::Rotate { .. } => ROTATE_MINOR,
            Self::Records { .. } => RECORDS_MINOR,
            Self::Pong { .. } => PING_MINOR,
            Self::Drift(_) | Self::Looked { .. } | Self::Rules { .. } => DRIFT_MINOR,
        }
    }
}

/// What a source says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSource {
    /// The first message.
    Hello(SourceHello),
    /// A newer trust record.
    Trust(SignedTrust),
    /// Make `current` mean this release, and verify it.
    Activate {
        /// The volume.
        volume: VolumeName,
        /// A release that was staged.
        release: ReleaseId,
    },
    /// Go back to this release, and verify it.
    Return {
        /// The volume.
        volume: VolumeName,
        /// A release that is held.
        release: ReleaseId,
    },
    /// Forget a release that is being staged.
    Cancel {
        /// The volume.
        volume: VolumeName,
        /// The release.
        release: ReleaseId,
    },
    /// What the fleet is to run: for the agent's own status.
    Live {
        /// The volume.
        volume: VolumeName,
        /// The release; nothing before the first.
        live: Option<(Seq, ReleaseId)>,
        /// The newest published.
        head: Option<Seq>,
    },
    /// Look at what you hold, now. From minor 2 on.
    Verify {
        /// The volume.
        volume: VolumeName,
        /// Which question; the answer repeats it.
        ask: u64,
        /// How far.
        depth: Depth,
    },
    /// The ignore rules of a release: what is left out is no drift. Their hash stands in its record.
    /// From minor 2 on.
    Rules {
        /// The volume.
        volume: VolumeName,
        /// The rules.
        rules: Vec<u8>,
    },
    /// Answer this at once. From minor 2 on.
    Ping {
        /// Tells its answer from others.
        nonce: u64,
    },
    /// A person had this node named. From minor 2 on.
    Hold {
        /// The volume.
        volume: VolumeName,
        /// Which question; the answer repeats it.
        ask: u64,
        /// What is asked.
        order: HoldOrder,
    },
    /// The answer to [`FromAgent::Rotate`]. From minor 2 on.
    Rotating {
        /// The key that was announced.
        key: PublicKey,
        /// Why it is not taken; nothing where it is: it may be dialled by from now on.
        refused: Option<Text>,
    },
    /// Hand out the records of what you hold: the source knows less than you. From minor 2 on.
    Records {
        /// The volume.
        volume: VolumeName,
        /// Only those after this one.
        above: Seq,
    },
    /// The tree is being changed: a push may follow. Nothing depends on it. From minor 2 on.
    Soon {
        /// The volume.
        volume: VolumeName,
    },
}

impl FromSource {
    /// Returns the first minor version that knows it: nobody older is sent it.
    #[must_use]
    pub const fn since(&self) -> u16 {
        match self {
            Self::Hello(_)
            | Self::Trust(_)
            | Self::Activate { .. }
            | Self::Return { .. }
            | Self::Cancel { .. }
            | Self::Live { .. } => 0,
            Self::Ping { .. } => PING_MINOR,
            Self::Hold { .. } => HOLD_MINOR,
            Self::Rotating { .. } => ROTATE_MINOR,
            Self::Records { .. } => RECORDS_MINOR,
            Self::Soon { .. } => SOON_MINOR,
            Self::Verify { .. } | Self::Rules { .. } => DRIFT_MINOR,
        }
    }
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHello {
    /// The newest minor version it speaks.
    pub minor: u16,
    /// Its build, for people.
    pub build: Text,
    /// The epoch of the trust record that it holds.
    pub trust_epoch: u64,
    /// Its volumes.
    pub volumes: Vec<VolumeHello>,
}

/// What an agent holds of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeHello {
    /// The volume.
    pub volume: VolumeName,
    /// The newest record that it ever took.
    pub newest: Option<SignedRelease>,
    /// The releases that it holds whole.
    pub held: Vec<ReleaseId>,
    /// The release that `current` names, and what is known of it. After a return of which the source
    /// may not know, the release that was left: [`Step::Returned`] follows.
    pub active: Option<Active>,
    /// A release that it has in part.
    pub partial: Option<Partial>,
}

/// The release that a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The release.
    pub release: ReleaseId,
    /// What its verification found; nothing while that runs.
    pub verification: Option<Verification>,
}

/// How much of a release has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The release.
    pub release: ReleaseId,
    /// The first piece that is not yet there, of those that must travel.
    pub next: Position,
}

/// The source's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHello {
    /// The newest minor version it speaks.
    pub minor: u16,
    /// Its build, for people.
    pub build: Text,
    /// What the connected node is called.
    pub node: NodeName,
}

/// How far an agent got with a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The volume.
    pub volume: VolumeName,
    /// The release.
    pub release: ReleaseId,
    /// What happened.
    pub step: Step,
}

/// What happened to a release on an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Bytes go on arriving.
    Receiving {
        /// Bytes of content so far.
        bytes: u64,
    },
    /// It stands whole under its name. It is durable before it is activated; one that the disk does not
    /// take is told to be held no more.
    Staged {
        /// Bytes that travelled for it.
        received_bytes: u64,
        /// From the first frame until it has its name.
        elapsed_ms: u64,
    },
    /// It could not be staged.
    StageFailed(Failure),
    /// `current` names it.
    Activated {
        /// How long the flip took.
        elapsed_us: u64,
    },
    /// It could not be activated; `current` is as it was.
    ActivateFailed(Failure),
    /// A verification ended.
    Verified(Verification),
    /// The node went back to this release, and this is how that went.
    Returned(Verification),
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The verdict over all code servers of the volume: the worst one.
    pub verdict: Verdict,
    /// The weakest evidence over all of them.
    pub evidence: Evidence,
    /// Each of them.
    pub code_servers: Vec<CodeServerReport>,
    /// What is wrong, where something is.
    pub failure: Option<Failure>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// How one code server stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeServerReport {
    /// Where it answers.
    pub address: Text,
    /// What it is.
    pub kind: CodeServerKind,
    /// How it stands.
    pub state: CodeServerState,
    /// The id that it gave itself.
    pub server_id: Option<Text>,
    /// How long its last load took.
    pub load_ms: Option<u64>,
}

/// Something that went wrong on a node, for people and for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One word: `broken`, `refused`, `dependencies`, `no-space`, `io`, `damaged`, `unproven` ...
    pub kind: Text,
    /// What went wrong, in a sentence.
    pub message: Text,
    /// Where in the tree: `assets/orders.py:17`.
    pub location: Option<Text>,
    /// The user's own traceback.
    pub traceback: Option<Text>,
    /// How many frames of Dagster's the traceback leaves out.
    pub hidden_frames: u32,
    /// What to do about it.
    pub hint: Option<Text>,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Failure {
    /// Makes a failure out of a kind and a sentence; trying again may help.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: Text::cut(kind),
            message: Text::cut(message),
            location: None,
            traceback: None,
            hidden_frames: 0,
            hint: None,
            retryable: true,
        }
    }
}

/// The first frame of a push stream. The manifest's segments follow, then the
/// pieces of the delta plan from `start` on: each a zstd frame with the prefix that the plan
/// names. Both sides make the same plan, so nothing else needs saying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushHead {
    /// The volume.
    pub volume: VolumeName,
    /// The release.
    pub release: SignedRelease,
    /// The held release whose manifest and files are the prefixes.
    pub base: Option<ReleaseId>,
    /// Whether the base has the same manifest, which then does not travel.
    pub same_manifest: bool,
    /// Where a resumed transfer begins.
    pub start: Position,
    /// Blobs of the release that the agent lost: the plan sends them whole.
    pub missing: Vec<BlobId>,
}

/// The one call of a joining node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The newest minor version it speaks.
    pub minor: u16,
    /// Which invitation.
    pub token: TokenId,
    /// The proof of it.
    pub secret: TokenSecret,
    /// What the node wants to be called; the invitation's name wins where it has one.
    pub name: Option<NodeName>,
    /// What it is called where neither says.
    pub host: Text,
    /// The volume that it wants to hold; needed only where the source has several.
    pub volume: Option<VolumeName>,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The node is a member.
    Welcome(Welcome),
    /// It is not.
    Refused(Text),
    /// It is not, since no one volume is meant. From minor 1 on.
    RefusedVolume(Text),
    /// The node is a member that holds no volume. From minor 2 on.
    Member(Membership),
}

/// What a new member that holds no volume needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The fleet.
    pub fleet: FleetId,
    /// What the member is called.
    pub node: NodeName,
    /// What it may do.
    pub role: Role,
}

/// What a new member needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The fleet.
    pub fleet: FleetId,
    /// What the node is called.
    pub node: NodeName,
    /// The key that signs trust records: pinned from now on.
    pub operator: PublicKey,
    /// The trust record.
    pub trust: SignedTrust,
    /// The volume that it is to hold.
    pub volume: VolumeName,
}
