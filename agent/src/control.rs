//! What operators ask of the agent over its control socket: health, status, a look at the disk.

mod collect;
mod fetch;
mod hold;
mod page;
mod rotate;
mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::call::{Call, CallFailure, FailureSort, LogEntry, ReleaseResult, Reply};
use codevol_protocol::dependency::{DependencyStatus, EnvironmentStatus};
use codevol_protocol::drift::{Answer, Depth, NodeVerified, Verified, Verifying, Word};
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::id::{FleetId, ReleaseId};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::message::Verification;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::status::{
    CodeServerStatus, HoldStatus, LinkState, NodeError, NodeState, NodeStatus, ReleaseStatus,
    STATUS_SCHEMA, SourceLink, Status, VolumeStatus,
};
use codevol_transport::{Caller, Changes, FrameError, ReplyWriter};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::fetch::{Fetched, Fetching, Waiting};
use crate::drift::{Asker, DriftOrder};
use crate::link::{LinkView, Linked};
use crate::metrics::AgentMetrics;
use crate::rotate::RotateAsker;
use crate::task::{Order, Standing, now};
use crate::volume::{self, Held};

/// How many words of a look may wait for a caller.
const WORDS_MAX: usize = 8;
/// A look that says nothing for so long has ended.
const SILENCE: Duration = Duration::from_secs(120);

/// What calls are answered from.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The fleet.
    pub fleet: FleetId,
    /// This node.
    pub node: NodeName,
    /// The volumes.
    pub volumes: Arc<BTreeMap<VolumeName, Linked>>,
    /// The link.
    pub link: watch::Receiver<LinkView>,
    /// What was counted.
    pub metrics: Arc<AgentMetrics>,
    /// What tells that something has changed.
    pub changes: Changes,
    /// Our build, for people.
    pub build: Text,
    /// Who asks for another key.
    pub(crate) rotations: mpsc::Sender<RotateAsker>,
    /// What ends the answers.
    pub shutdown: CancellationToken,
}

impl Desk {
    /// Answers one call.
    ///
    /// # Errors
    /// When the caller does not take the answer.
    pub async fn answer(self, call: Call, mut caller: Caller) -> Result<(), FrameError> {
        let (author, writer) = (caller.author, &mut caller.writer);
        let replied = tokio::select! {
            // What was asked of a volume's task is done or not, as its state on disk says.
            () = self.shutdown.cancelled() => Err(stopping()),
            replied = self.answer_to(call, author, writer) => replied,
        };
        let reply = replied.unwrap_or_else(Reply::Failed);
        writer.write(&reply).await
    }

    async fn answer_to(
        &self,
        call: Call,
        author: Text,
        writer: &mut ReplyWriter,
    ) -> Result<Reply, CallFailure> {
        match call {
            Call::Verify { volume, deep } => self.verify(volume.as_ref(), deep, writer).await,
            Call::Watch => self.watch(writer).await,
            Call::Seal { volume, release } => self.seal(volume.as_ref(), &release, writer).await,
            call @ (Call::Rollback { .. }
            | Call::RollbackNode { .. }
            | Call::Thaw { .. }
            | Call::ThawNode { .. }) => self.order(call, author).await,
            call => self.reply(&call).await,
        }
    }

    /// Tells how this node stands, and again whenever that has changed. It ends with the caller.
    async fn watch(&self, writer: &mut ReplyWriter) -> Result<Reply, CallFailure> {
        let mut following = self.changes.follow();
        loop {
            let told = following.tell(self.status().await?, writer).await;
            told.map_err(|_gone| stopping())?;
        }
    }

    /// Looks at this node's own disk, and tells how far that is.
    async fn verify(
        &self,
        named: Option<&VolumeName>,
        deep: bool,
        writer: &mut ReplyWriter,
    ) -> Result<Reply, CallFailure> {
        let (name, linked) = self.named(named)?;
        let depth = if deep { Depth::Held } else { Depth::Active };
        let (words, mut said) = mpsc::channel(WORDS_MAX);
        let asker = Asker::Caller(words);
        if !linked.drift.tell(DriftOrder::Look { depth, asker }) {
            return Err(unavailable("busy", "the agent looks for others already"));
        }
        let looked = loop {
            let word = timeout(SILENCE, said.recv()).await;
            let word = word.map_err(|_elapsed| unavailable("silent", "the look does not go on"))?;
            match word.ok_or_else(stopping)? {
                Word::Ended(looked) => break *looked,
                Word::Going(pass) => {
                    let node = Some(self.node.clone());
                    let going = Reply::Verifying(Verifying { node, pass });
                    writer.write(&going).await.map_err(|_gone| stopping())?;
                }
            }
        };
        let found = NodeVerified {
            name: self.node.clone(),
            answer: Answer::Answered,
            looked: Some(looked),
        };
        let found = Reply::NodeVerified(Box::new(found));
        writer.write(&found).await.map_err(|_gone| stopping())?;
        Ok(Reply::Verified(Box::new(Verified {
            volume: name.clone(),
            at: now(),
            deep,
            source: None,
        })))
    }

    fn named(&self, named: Option<&VolumeName>) -> Result<(&VolumeName, &Linked), CallFailure> {
        let found = match named {
            Some(name) => self.volumes.get_key_value(name),
            None if self.volumes.len() == 1 => self.volumes.first_key_value(),
            None => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.volumes.keys().map(VolumeName::as_str).collect();
            CallFailure::new(FailureSort::Usage, "volume", "say which volume is meant")
                .hint(format!("the agent's volumes: {}", names.join(", ")))
        })
    }

    async fn reply(&self, call: &Call) -> Result<Reply, CallFailure> {
        match call {
            Call::Health { ready } => self.health(*ready).await,
            Call::Status => Ok(Reply::Status(Box::new(self.status().await?))),
            Call::Collect { volume, dry_run } => self.collect(volume.as_ref(), *dry_run).await,
            Call::Log { volume, count } => {
                let (_, linked) = self.named(volume.as_ref())?;
                let standing = inspect(linked).await?;
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                // Files are counted in all of them.
                Ok(Reply::Log(block_in_place(|| log(linked, &standing, count))))
            }
            Call::Rotate => self.rotate().await,
            Call::Invite { .. }
            | Call::InviteAs { .. }
            | Call::Nodes
            | Call::RemoveNode { .. }
            | Call::Push(_)
            | Call::Deliver(_)
            | Call::Rollback { .. }
            | Call::Freeze { .. }
            | Call::Thaw { .. }
            | Call::Retry { .. }
            | Call::Ignored { .. }
            | Call::Story { .. }
            | Call::At { .. }
            | Call::Diff { .. }
            | Call::Verify { .. }
            | Call::Seal { .. }
            | Call::NodeDiff { .. }
            | Call::Watch
            | Call::RollbackNode { .. }
            | Call::ThawNode { .. }
            | Call::Audit
            | Call::Ping { .. } => Err(CallFailure::new(
                FailureSort::Usage,
                "role",
                "this daemon is an agent; that is asked of the source",
            )
            .hint("run it on the source's host, or on an operator's machine")),
        }
    }

    async fn health(&self, ready: bool) -> Result<Reply, CallFailure> {
        for (name, linked) in self.volumes.iter() {
            let standing = inspect(linked).await?;
            if ready && standing.active.is_none() {
                return Err(CallFailure::new(
                    FailureSort::Failed,
                    "not-ready",
                    format!("volume `{name}` holds no release yet"),
                ));
            }
        }
        Ok(Reply::Healthy)
    }

    async fn status(&self) -> Result<Status, CallFailure> {
        let mut volumes = Vec::new();
        let link = self.link.borrow().clone();
        for linked in self.volumes.values() {
            let standing = inspect(linked).await?;
            volumes.push(self.volume(linked, &standing, link.state));
        }
        Ok(Status {
            schema: Text::cut(STATUS_SCHEMA),
            fleet: self.fleet,
            listen: None,
            source: Some(SourceLink {
                address: Text::cut(&link.address),
                state: link.state,
            }),
            volumes,
        })
    }

    fn volume(&self, linked: &Linked, standing: &Standing, link: LinkState) -> VolumeStatus {
        let root = volume::lock(&linked.receiver.root);
        let held = |id: ReleaseId| root.held().get(&id);
        let seq = |id: ReleaseId| held(id).map(|held| held.release().seq);
        let live = standing.live.map(|(seq, _)| seq);
        let active = standing.active.and_then(seq);
        let shown = standing
            .live
            .and_then(|(_, id)| held(id))
            .or_else(|| standing.active.and_then(held));
        let mut staged: Vec<Seq> = root
            .held()
            .values()
            .map(|held| held.release().seq)
            .collect();
        staged.sort_by_key(|seq| std::cmp::Reverse(*seq));
        let error = standing.error.as_ref().and_then(|(id, step, failure)| {
            Some(NodeError::new(self.node.clone(), seq(*id)?, step, failure))
        });
        let drifted = linked.drift.view();
        let node = NodeStatus {
            name: self.node.clone(),
            state: state(standing, link),
            release: active,
            staged,
            lag: live.map_or(0, |live| {
                live.0.saturating_sub(active.map_or(0, |seq| seq.0))
            }),
            evidence: standing
                .verification
                .as_ref()
                .map(|verification| verification.evidence),
            last_seen_at: Some(now()),
            held: standing.hold.as_ref().map(HoldStatus::from),
            drift: drifted.paths,
            drift_more: drifted.more,
            environments: standing
                .environments
                .iter()
                .map(|environment| EnvironmentStatus::from(&**environment))
                .collect(),
            dependencies: standing
                .dependencies
                .as_ref()
                .map(|report| DependencyStatus::new(seq(report.release), report)),
            code_servers: code_servers(standing.verification.as_ref()),
            error,
        };
        VolumeStatus {
            name: standing.volume.clone(),
            head: None,
            live,
            frozen: None,
            rollout: None,
            waits_for: Vec::new(),
            quarantined: Vec::new(),
            skipped: Vec::new(),
            watch: None,
            release: shown.map(|held| release(held)),
            skew: Vec::new(),
            nodes: vec![node],
            // The agent does not see the tree.
            not_in_git: Vec::new(),
        }
    }
}

fn release(held: &Held) -> ReleaseStatus {
    let files = Manifest::files(held.manifest()) as u64;
    ReleaseStatus::new(held.id(), held.release(), files)
}

fn code_servers(verification: Option<&Verification>) -> Vec<CodeServerStatus> {
    let reports = verification.map(|verification| verification.code_servers.as_slice());
    reports
        .unwrap_or_default()
        .iter()
        .map(CodeServerStatus::from)
        .collect()
}

/// Returns what this node holds, newest first, and what became of it as far as this node knows.
fn log(linked: &Linked, standing: &Standing, count: usize) -> Vec<LogEntry> {
    let root = volume::lock(&linked.receiver.root);
    let live = standing.live.map(|(_, live)| live);
    let mut held: Vec<_> = root.held().values().collect();
    held.sort_by_key(|held| std::cmp::Reverse(held.release().seq));
    let newest_live = live.and_then(|live| root.held().get(&live));
    let result = |held: &Held| {
        if standing.broken.contains(&held.id()) {
            ReleaseResult::Broken
        } else if live.or(standing.active) == Some(held.id()) {
            ReleaseResult::Live
        } else if newest_live.is_some_and(|live| held.release().seq > live.release().seq) {
            ReleaseResult::Held
        } else {
            ReleaseResult::Superseded
        }
    };
    let entries = held.into_iter().take(count);
    entries
        .map(|held| LogEntry {
            release: release(held),
            result: result(held),
        })
        .collect()
}

/// Returns how this node stands, as far as it knows: what is live it heard from the source last.
fn state(standing: &Standing, link: LinkState) -> NodeState {
    let Some(active) = standing.active else {
        return NodeState::Joining;
    };
    let is_live = standing.live.is_none_or(|(_, live)| live == active);
    match &standing.verification {
        _ if !is_live && link == LinkState::Connected => NodeState::Behind,
        None => NodeState::Activating,
        Some(found) => match found.verdict {
            Verdict::Broken => NodeState::Failed,
            Verdict::Unproven => NodeState::Unverified,
            Verdict::Good if found.code_servers.is_empty() => NodeState::Live,
            Verdict::Good if found.evidence >= Evidence::Proven => NodeState::Live,
            Verdict::Good => NodeState::Unverified,
        },
    }
}

fn unavailable(kind: &str, message: &str) -> CallFailure {
    CallFailure::new(FailureSort::Unavailable, kind, message)
}

fn stopping() -> CallFailure {
    unavailable("stopping", "the agent is stopping")
}

async fn inspect(linked: &Linked) -> Result<Standing, CallFailure> {
    let (reply, standing) = oneshot::channel();
    let sent = linked.orders.send(Order::Inspect(reply)).await;
    sent.map_err(|_closed| stopping())?;
    standing.await.map_err(|_dropped| stopping())
}
