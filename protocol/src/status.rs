//! The documents that people's tools read: the fleet's state, releases, events, outcomes. Their
//! JSON is a contract; every key is always there, and what is absent is null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dependency::{DependencyStatus, DependencyWarning, EnvironmentStatus, Skew};
use crate::evidence::{CodeServerKind, CodeServerState, Evidence};
pub use crate::hold::AskedAt;
use crate::hold::Hold;
use crate::id::{FleetId, ManifestId, ReleaseId};
use crate::message::{CodeServerReport, Failure};
use crate::name::{NodeName, Text, VolumeName};
use crate::path::RelPath;
use crate::release::{Git, Origin, Release, Seq, UnixMillis};
pub use crate::rollout::{Frozen, NodeState, Phase};

/// The schema of [`Status`].
pub const STATUS_SCHEMA: &str = "codevol.status/1";

/// The state of a fleet, or of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_SCHEMA`].
    pub schema: Text,
    /// The fleet.
    pub fleet: FleetId,
    /// Where the source is bound; nothing on an agent.
    pub listen: Option<Text>,
    /// The link to the source; nothing on a source.
    pub source: Option<SourceLink>,
    /// The volumes.
    pub volumes: Vec<VolumeStatus>,
}

impl Status {
    /// Whether it says the same as another one. That who is connected was heard a moment later is no
    /// change.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.timeless() == other.timeless()
    }

    fn timeless(&self) -> Self {
        let mut status = self.clone();
        let nodes = status.volumes.iter_mut().flat_map(|v| &mut v.nodes);
        for node in nodes.filter(|node| node.state.is_connected()) {
            node.last_seen_at = None;
        }
        status
    }
}

/// How an agent stands with its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLink {
    /// The address that was tried last.
    pub address: Text,
    /// How it stands.
    pub state: LinkState,
}

/// Whether an agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Messages pass.
    Connected,
    /// It dials, or waits before it dials again.
    Connecting,
    /// The source refused this node's key.
    Refused,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: VolumeName,
    /// The newest release.
    pub head: Option<Seq>,
    /// The release that the fleet is to run.
    pub live: Option<Seq>,
    /// Why nothing new goes live, where that is so.
    pub frozen: Option<FrozenStatus>,
    /// The rollout that runs.
    pub rollout: Option<RolloutStatus>,
    /// The enrolled nodes that are away and without which what waits or runs does not go on.
    pub waits_for: Vec<NodeName>,
    /// Releases that were found broken and are still kept, by seq.
    pub quarantined: Vec<Quarantined>,
    /// What the tree holds that cannot be carried.
    pub skipped: Vec<Skipped>,
    /// The watcher.
    pub watch: Option<WatchStatus>,
    /// The record of `live`, or of the head where nothing is live.
    pub release: Option<ReleaseStatus>,
    /// What of Python, Dagster and the installed packages is not the same on all who are connected.
    pub skew: Vec<Skew>,
    /// The members.
    pub nodes: Vec<NodeStatus>,
    /// Hot-fixes of which something is live that is not in git.
    pub not_in_git: Vec<NotInGit>,
}

/// A hot-fix of which something is live that is not in git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotInGit {
    /// The release.
    pub release: Seq,
    /// The paths; the first of them, where there are many.
    pub paths: Vec<RelPath>,
    /// Where it stood in git when it was published.
    pub git: Option<Git>,
}

/// Who froze a volume, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenStatus {
    /// The reason.
    pub why: Text,
    /// Who.
    pub by: Text,
    /// When.
    pub at: UnixMillis,
}

impl From<Frozen> for FrozenStatus {
    fn from(frozen: Frozen) -> Self {
        let Frozen { why, by, at, .. } = frozen;
        Self { why, by, at }
    }
}

/// A rollout that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// The release that it moves `live` to.
    pub release: Seq,
    /// Which step it is in.
    pub phase: Phase,
    /// The wave that activates, from 1; once it is taken back, that of the broken node.
    pub wave: u32,
    /// How many waves there are.
    pub waves: u32,
    /// When it began.
    pub started_at: UnixMillis,
}

/// A release that was found broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The release.
    pub release: Seq,
    /// The node that found it.
    pub node: NodeName,
    /// What it found.
    pub message: Text,
}

/// A path that the source leaves out though no rule says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The path, escaped.
    pub path: Text,
    /// Why.
    pub why: Text,
}

/// How the tree is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// `inotify` or `poll`.
    pub mode: Text,
    /// How it goes.
    pub state: WatchState,
    /// What would make it better.
    pub advice: Option<Text>,
}

/// How a watcher goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchState {
    /// Each change is seen.
    Ok,
    /// Changes may have been missed; a rescan decides.
    Unsure,
    /// The tree is looked at on a timer.
    Polling,
}

/// A release, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// Its place in the history.
    pub seq: Seq,
    /// Its id.
    pub id: ReleaseId,
    /// Its tree.
    pub manifest: ManifestId,
    /// The release before it.
    pub parent: Option<ReleaseId>,
    /// What made it.
    pub origin: Origin,
    /// Who asked for it.
    pub author: Text,
    /// Why.
    pub message: Text,
    /// When it was published.
    pub created_at: UnixMillis,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where it stood in git.
    pub git: Option<Git>,
}

impl ReleaseStatus {
    /// Describes a release of so many files.
    #[must_use]
    pub fn new(id: ReleaseId, release: &Release, files: u64) -> Self {
        Self {
            seq: release.seq,
            id,
            manifest: release.manifest,
            parent: release.parent,
            origin: release.origin,
            author: release.author.clone(),
            message: release.message.clone(),
            created_at: release.created_at,
            files,
            bytes: release.total_bytes,
            git: release.git.clone(),
        }
    }
}

/// One member and one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// How it stands.
    pub state: NodeState,
    /// The release that it has activated.
    pub release: Option<Seq>,
    /// The releases that it holds, newest first.
    pub staged: Vec<Seq>,
    /// How many releases it is behind `live`.
    pub lag: u64,
    /// How much is known of what it runs.
    pub evidence: Option<Evidence>,
    /// When it was last heard.
    pub last_seen_at: Option<UnixMillis>,
    /// Why it stays where it is and rollouts leave it out, where a person wants that.
    pub held: Option<HoldStatus>,
    /// Paths that are not what the release says, those of the release that it runs first.
    pub drift: Vec<Drift>,
    /// How many more there are than are listed.
    pub drift_more: u64,
    /// The Python environments that its code servers run in, as far as they are known.
    pub environments: Vec<EnvironmentStatus>,
    /// How these fit the release; nothing where nothing was compared.
    pub dependencies: Option<DependencyStatus>,
    /// Its code servers.
    pub code_servers: Vec<CodeServerStatus>,
    /// The last thing that went wrong.
    pub error: Option<NodeError>,
}

/// Who holds a node, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// On which release.
    pub release: Seq,
    /// The reason.
    pub why: Text,
    /// Who.
    pub by: Text,
    /// Since when, by the node's clock.
    pub at: UnixMillis,
    /// Where that was asked: at the source, or on the node's own host.
    pub asked_at: AskedAt,
}

impl From<&Hold> for HoldStatus {
    fn from(hold: &Hold) -> Self {
        Self {
            release: hold.seq,
            why: hold.why.clone(),
            by: hold.by.clone(),
            at: hold.at,
            asked_at: hold.asked_at,
        }
    }
}

/// One path on a node's disk that is not what a release says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// Which release that the node holds.
    pub release: Seq,
    /// The path in it; `.` is the release's directory itself.
    pub path: Text,
    /// In which way.
    pub kind: DriftKind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// Other bytes, mode or kind.
    Changed,
    /// Gone.
    Missing,
    /// Not of the release.
    Foreign,
    /// `current` does not name the release that was activated.
    Flipped,
}

impl DriftKind {
    /// Returns the word for it, as the documents say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Flipped => "flipped",
        }
    }
}

/// One code server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeServerStatus {
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

impl From<&CodeServerReport> for CodeServerStatus {
    fn from(report: &CodeServerReport) -> Self {
        Self {
            address: report.address.clone(),
            kind: report.kind,
            state: report.state,
            server_id: report.server_id.clone(),
            load_ms: report.load_ms,
        }
    }
}

/// What went wrong on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// On which node.
    pub node: NodeName,
    /// With which release.
    pub release: Seq,
    /// In which step: `stage`, `activate`, `verify`, `return`.
    pub step: Text,
    /// One word.
    pub kind: Text,
    /// A sentence.
    pub message: Text,
    /// Where in the tree.
    pub location: Option<Text>,
    /// The user's own traceback.
    pub traceback: Option<Text>,
    /// How many frames of Dagster's the traceback leaves out.
    pub hidden_frames: u32,
    /// What to do about it.
    pub hint: Option<Text>,
}

impl NodeError {
    /// Describes a failure of a step.
    #[must_use]
    pub fn new(node: NodeName, release: Seq, step: &str, failure: &Failure) -> Self {
        Self {
            node,
            release,
            step: Text::cut(step),
            kind: failure.kind.clone(),
            message: failure.message.clone(),
            location: failure.location.clone(),
            traceback: failure.traceback.clone(),
            hidden_frames: failure.hidden_frames,
            hint: failure.hint.clone(),
        }
    }
}

/// Something that happened, as one line of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: EventKind,
    /// When.
    pub at: UnixMillis,
    /// In which volume.
    pub volume: VolumeName,
    /// To which release.
    pub release: Option<Seq>,
    /// On which node.
    pub node: Option<NodeName>,
    /// How long it took.
    pub elapsed_ms: Option<u64>,
    /// Bytes that travelled for it.
    pub bytes: Option<u64>,
    /// How much is known now.
    pub evidence: Option<Evidence>,
    /// In which wave of the rollout the node is, from 1: of `node.staged` and `node.activated`.
    pub wave: Option<u32>,
    /// What went wrong.
    pub error: Option<NodeError>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each name says it: subject and what happened to it"
)]
pub enum EventKind {
    #[serde(rename = "release.published")]
    ReleasePublished,
    #[serde(rename = "node.staged")]
    NodeStaged,
    #[serde(rename = "node.activated")]
    NodeActivated,
    #[serde(rename = "node.verified")]
    NodeVerified,
    #[serde(rename = "node.failed")]
    NodeFailed,
    #[serde(rename = "node.returned")]
    NodeReturned,
    #[serde(rename = "node.online")]
    NodeOnline,
    #[serde(rename = "node.offline")]
    NodeOffline,
    #[serde(rename = "steps.missed")]
    StepsMissed,
    #[serde(rename = "node.warned")]
    NodeWarned,
}

/// How a rollout ended: the last line of `push --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `rollout.done` or `rollout.failed`.
    pub event: OutcomeKind,
    /// When.
    pub at: UnixMillis,
    /// In which volume.
    pub volume: VolumeName,
    /// The release.
    pub release: Seq,
    /// The release that is live now.
    pub live: Option<Seq>,
    /// Whether members went back to the release before.
    pub returned: bool,
    /// In which wave it ended, from 1: that of the broken node, else the last. Of a rollout that had
    /// ended before anybody asked, nothing.
    pub wave: Option<u32>,
    /// How many waves it had.
    pub waves: Option<u32>,
    /// How each enrolled node stands.
    pub nodes: BTreeMap<NodeName, NodeState>,
    /// Which of them a person holds: the rollout left them out.
    pub held: Vec<NodeName>,
    /// What nodes lack of its packages, although they took it.
    pub warnings: Vec<DependencyWarning>,
    /// What went wrong, and where.
    pub error: Option<NodeError>,
}

/// Whether a rollout moved `live`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// It did.
    #[serde(rename = "rollout.done")]
    Done,
    /// It did not.
    #[serde(rename = "rollout.failed")]
    Failed,
}
