//! What an operator asks a daemon: over its control socket, or, of the source, over a connection of its
//! own. A reply may be several: events first, then the one that ends the call.
//!
//! On a connection each call is a stream: an [`Opening`], the call, and the replies the other way.

pub mod delivery;
mod failure;
mod release_ref;

use serde::{Deserialize, Serialize};

use self::delivery::{Delivery, Lacks};
pub use self::failure::{CallFailure, FailureSort};
pub use self::release_ref::{InvalidReleaseRef, ReleaseRef};
use crate::audit::Audit;
use crate::collection::Collection;
use crate::diff::TreeDiff;
use crate::drift::{NodeVerified, Verified, Verifying};
use crate::hold::WentBack;
use crate::key::PublicKey;
use crate::name::{NodeName, Text, VolumeName};
use crate::path::RelPath;
use crate::release::{Seq, SignedRelease, UnixMillis};
use crate::role::Role;
use crate::status::{Event, Outcome, ReleaseStatus, Skipped, Status};
use crate::story::{AtTime, Story};

/// The first frame of a call's stream on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The newest minor version that the caller speaks: it may make calls that the source lacks.
    pub minor: u16,
}

/// What may be asked. Where a volume is not named there must be only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Whether the daemon works; `ready` asks for more than that it answers.
    Health {
        /// A source: listening and scanned once. An agent: a verified release on disk.
        ready: bool,
    },
    /// The state of everything.
    Status,
    /// A token for one new agent.
    Invite {
        /// What the node is to be called; else it says so itself.
        name: Option<NodeName>,
        /// How long the token lasts, in seconds.
        ttl_s: u64,
    },
    /// The members.
    Nodes,
    /// Takes a member out and closes its connection.
    RemoveNode {
        /// Its name.
        name: NodeName,
    },
    /// Publishes, and follows the rollout to its end where `wait`.
    Push(Push),
    /// Releases, newest first.
    Log {
        /// The volume.
        volume: Option<VolumeName>,
        /// How many at the most.
        count: u32,
    },
    /// Publishes an older tree again, freezes the volume, and follows the rollout.
    Rollback {
        /// The volume.
        volume: Option<VolumeName>,
        /// Where to; else the release that was live before.
        to: Option<ReleaseRef>,
        /// Why.
        message: Text,
        /// Whether to follow the rollout.
        wait: bool,
    },
    /// Stops the watcher from publishing.
    Freeze {
        /// The volume.
        volume: Option<VolumeName>,
        /// Why.
        message: Text,
    },
    /// Ends a freeze.
    Thaw {
        /// The volume.
        volume: Option<VolumeName>,
        /// Why.
        message: Text,
    },
    /// Rolls a quarantined release out once more, and follows it.
    Retry {
        /// The volume.
        volume: Option<VolumeName>,
        /// Which.
        release: ReleaseRef,
    },
    /// What is left out of the tree; with a path, why that one is, or is not.
    Ignored {
        /// The volume.
        volume: Option<VolumeName>,
        /// One path.
        why: Option<String>,
    },
    /// One release's whole story.
    Story {
        /// The volume.
        volume: Option<VolumeName>,
        /// Which.
        release: ReleaseRef,
    },
    /// What ran where at a moment.
    At {
        /// The volume.
        volume: Option<VolumeName>,
        /// The moment.
        time: UnixMillis,
        /// Only this node.
        node: Option<NodeName>,
    },
    /// What differs between two trees.
    Diff {
        /// The volume.
        volume: Option<VolumeName>,
        /// The older release; else the live one.
        from: Option<ReleaseRef>,
        /// The newer release; else the tree as it stands.
        to: Option<ReleaseRef>,
    },
    /// How long a node takes to answer.
    Ping {
        /// Which.
        node: NodeName,
    },
    /// What is on the disks now: each node looks, and its code servers are asked.
    Verify {
        /// The volume.
        volume: Option<VolumeName>,
        /// Everything that is held, the source's blobs too.
        deep: bool,
    },
    /// How a node's disk differs from the release that it runs.
    NodeDiff {
        /// The volume.
        volume: Option<VolumeName>,
        /// The node.
        node: NodeName,
    },
    /// The state of everything, and again each time that it has changed, until the caller hangs up.
    Watch,
    /// A whole release, to be sealed: [`Reply::Sealing`], its manifest's canonical bytes and then each
    /// file's in the manifest's order as [`Reply::Piece`]s, [`Reply::Done`].
    Seal {
        /// The volume.
        volume: Option<VolumeName>,
        /// Which.
        release: ReleaseRef,
    },
    /// Deletes what nobody needs any more, on this host.
    Collect {
        /// The volume.
        volume: Option<VolumeName>,
        /// Only say what that is.
        dry_run: bool,
    },
    /// A token for one new member of any role.
    InviteAs {
        /// What it may do.
        role: Role,
        /// What it is to be called; else it says so itself.
        name: Option<NodeName>,
        /// How long the token lasts, in seconds.
        ttl_s: u64,
    },
    /// Publishes files that lie with the caller.
    Deliver(Box<Delivery>),
    /// Has one node go to a release that it holds, and stay there.
    RollbackNode {
        /// The volume.
        volume: Option<VolumeName>,
        /// The node.
        node: NodeName,
        /// Where to; else the release that was active there before.
        to: Option<ReleaseRef>,
        /// Why.
        message: Text,
        /// Whether to wait for what its code servers serve then.
        wait: bool,
    },
    /// Lets a node go on that is held.
    ThawNode {
        /// The volume.
        volume: Option<VolumeName>,
        /// The node.
        node: NodeName,
        /// Why.
        message: Text,
    },
    /// Gives this node another key. Asked of an agent; it answers when the old one is revoked.
    Rotate,
    /// Whether the source's journal is what it wrote.
    Audit,
}

/// A request to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The volume.
    pub volume: Option<VolumeName>,
    /// Only these paths, on top of what is live; nothing means the whole tree.
    pub paths: Vec<RelPath>,
    /// Why.
    pub message: Text,
    /// Only show what would be published.
    pub dry_run: bool,
    /// Lift a freeze.
    pub thaw: bool,
    /// Pass the blast guard.
    pub yes: bool,
    /// Follow the rollout to its end.
    pub wait: bool,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It works.
    Healthy,
    /// The state of everything.
    Status(Box<Status>),
    /// A token. The one reply that carries a secret.
    Invited(Invited),
    /// The members.
    Nodes(Vec<Member>),
    /// What would be, or was, published.
    Plan(Box<PushPlan>),
    /// Something happened; more follows.
    Event(Box<Event>),
    /// The rollout ended; nothing follows.
    Outcome(Box<Outcome>),
    /// Releases.
    Log(Vec<LogEntry>),
    /// What is left out.
    Ignored(Vec<IgnoredPath>),
    /// Done; nothing follows.
    Done(Text),
    /// Not done; nothing follows.
    Failed(CallFailure),
    /// One release's whole story.
    Story(Box<Story>),
    /// What ran where.
    At(Box<AtTime>),
    /// What differs.
    Diff(Box<TreeDiff>),
    /// A verification goes on; more follows.
    Verifying(Verifying),
    /// What one node found; more follows.
    NodeVerified(Box<NodeVerified>),
    /// How a verification ended; nothing follows.
    Verified(Box<Verified>),
    /// A node has answered.
    Pong(Pong),
    /// Nothing has changed since it was told last; more follows.
    Unchanged,
    /// The record of a release that is handed over; its bytes follow.
    Sealing(Box<SignedRelease>),
    /// The next bytes; more follows.
    Piece(Vec<u8>),
    /// What was deleted, or would be.
    Collected(Box<Collection>),
    /// Which of the announced files are to be sent; more follows.
    Lacks(Lacks),
    /// What came of a node's rollback.
    NodeWentBack(Box<NodeWentBack>),
    /// What the check of a journal found.
    Audited(Box<Audit>),
}

/// What came of a node's rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWentBack {
    /// The volume.
    pub volume: VolumeName,
    /// The node.
    pub node: NodeName,
    /// Where it went.
    pub went: WentBack,
}

/// A node's answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The node.
    pub node: NodeName,
    /// Where it is connected from.
    pub address: Text,
    /// From the question to the answer of its agent.
    pub rtt_us: u64,
}

/// A token and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// The token: a secret.
    pub token: String,
    /// What the node will be called, where that is said.
    pub name: Option<NodeName>,
    /// When the token stops working.
    pub expires_at: UnixMillis,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// What it may do.
    pub role: Role,
    /// Its key.
    pub key: PublicKey,
    /// When it was enrolled.
    pub joined_at: UnixMillis,
    /// When it was last heard.
    pub last_seen_at: Option<UnixMillis>,
    /// Whether it is connected.
    pub online: bool,
}

/// What a push publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushPlan {
    /// The volume.
    pub volume: VolumeName,
    /// The release; nothing on a dry run that found nothing to publish.
    pub release: Option<ReleaseStatus>,
    /// The release it is based on.
    pub base: Option<Seq>,
    /// Whether nothing changed, so that the head is followed.
    pub unchanged: bool,
    /// Paths that are new, changed, gone: each with a `+`, `~` or `-`.
    pub changes: Vec<Change>,
    /// How many more changes there are than are listed.
    pub changes_more: u64,
    /// What the tree holds that cannot be carried.
    pub skipped: Vec<Skipped>,
    /// How many files were hashed for it.
    pub hashed_files: u64,
    /// How many bytes they have.
    pub hashed_bytes: u64,
    /// How long that took.
    pub hashed_ms: u64,
    /// How long the rollout is waited for.
    pub deadline_ms: u64,
    /// How many nodes are enrolled.
    pub nodes: u64,
    /// How many lines it changes; nothing where nothing changed.
    pub lines: Option<Lines>,
}

/// How many lines of text a release changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lines {
    /// Lines that are new.
    pub added: u64,
    /// Lines that are gone.
    pub removed: u64,
    /// Changed paths that are not counted: binary, long, or one too many.
    pub uncounted: u64,
}

impl Lines {
    /// Whether it says anything: not where all that changed is binary or long.
    #[must_use]
    pub const fn counted(&self) -> bool {
        self.uncounted == 0 || self.added > 0 || self.removed > 0
    }
}

impl PushPlan {
    /// Begins a plan in which nothing changes.
    #[must_use]
    pub const fn new(volume: VolumeName, deadline_ms: u64) -> Self {
        Self {
            volume,
            release: None,
            base: None,
            unchanged: false,
            changes: Vec::new(),
            changes_more: 0,
            skipped: Vec::new(),
            hashed_files: 0,
            hashed_bytes: 0,
            hashed_ms: 0,
            deadline_ms,
            nodes: 0,
            lines: None,
        }
    }
}

/// One path of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The path.
    pub path: RelPath,
    /// What happens to it.
    pub kind: ChangeKind,
}

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has other bytes or another mode.
    Changed,
    /// It is gone.
    Removed,
}

/// A release and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The release.
    pub release: ReleaseStatus,
    /// What came of it.
    pub result: ReleaseResult,
}

/// What came of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseResult {
    /// The fleet runs it.
    Live,
    /// The fleet ran it, or a newer one came before it could.
    Superseded,
    /// It was published, and does not go live until a person asks.
    Held,
    /// It was found broken.
    Broken,
}

/// A path that is left out of the tree, or is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredPath {
    /// The path, escaped.
    pub path: Text,
    /// Whether it is left out.
    pub ignored: bool,
    /// The rule that decides; nothing where none does.
    pub rule: Option<Text>,
    /// Where the rule stands: `built-in`, `.gitignore:3`.
    pub from: Option<Text>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_reply_survives_the_wire() {
        let failure = CallFailure::new(FailureSort::Refused, "frozen", "volume is frozen")
            .hint("codevol thaw")
            .caused_by(&"x".parse::<ReleaseRef>().unwrap_err());
        let reply = Reply::Failed(failure);
        let bytes = crate::codec::encode(&reply);
        assert_eq!(crate::codec::decode::<Reply>(&bytes), Ok(reply));
    }
}
