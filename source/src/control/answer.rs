//! What each call does.

use std::time::Duration;

use codevol_protocol::call::{Call, CallFailure, FailureSort, PushPlan, ReleaseResult, Reply};
use codevol_protocol::chain::Chain;
use codevol_protocol::evidence::Evidence;
use codevol_protocol::hold::NodeRollback;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::role::Role;
use codevol_protocol::status::{Event, EventKind, Outcome, STATUS_SCHEMA, Status};
use codevol_transport::{CallReader, Caller, FrameError, ReplyWriter};
use tokio::sync::broadcast;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::Desk;
use crate::bus::Notice;
use crate::history::Published;
use crate::lines;
use crate::publish::ROLLOUT_TIMEOUT_MS;
use crate::volume::Volume;

impl Desk {
    /// Answers one call, if the caller may make it; what follows from it is told as it happens.
    ///
    /// # Errors
    /// When the caller does not take the answer.
    pub async fn answer(self, call: Call, mut caller: Caller) -> Result<(), FrameError> {
        let (author, reader) = (caller.author, &mut caller.reader);
        let writer = &mut caller.writer;
        let member = caller.member;
        if let Some((node, role)) = member.as_ref().filter(|(_, role)| !role.permits(&call)) {
            self.door.note_refused(node, call.name(), *role);
            return writer.write(&Reply::Failed(denied(&call, *role))).await;
        }
        let replied = tokio::select! {
            // Whatever was asked of a volume's task is done or not, as its state on disk says. A
            // frame that was half written makes the last word fail, and is not torn by it.
            () = self.shutdown.cancelled() => Err(stopping()),
            replied = self.reply(call, (author, member), (reader, &mut *writer)) => replied,
        };
        let reply = replied.unwrap_or_else(Reply::Failed);
        writer.write(&reply).await
    }

    async fn reply(
        &self,
        call: Call,
        (author, member): (Text, Option<(NodeName, Role)>),
        (reader, writer): (&mut CallReader, &mut ReplyWriter),
    ) -> Result<Reply, CallFailure> {
        match call {
            Call::Deliver(delivery) => {
                let caller = (author, member);
                self.deliver(*delivery, caller, (reader, writer)).await
            }
            Call::Push(push) => {
                let wait = push.wait && !push.dry_run;
                self.follow(push.volume.clone(), wait, writer, async |volume| {
                    volume.publisher.push(push, author).await
                })
                .await
            }
            Call::Rollback {
                volume,
                to,
                message,
                wait,
            } => {
                self.follow(volume, wait, writer, async |volume| {
                    volume.publisher.rollback(to, author, message).await
                })
                .await
            }
            Call::Retry { volume, release } => {
                self.follow(volume, true, writer, async |volume| {
                    retry(volume, &release, author).await
                })
                .await
            }
            Call::Verify { volume, deep } => self.verify(volume, deep, writer).await,
            Call::Watch => self.watch(writer).await,
            Call::Seal { volume, release } => self.seal(volume, &release, writer).await,
            Call::Collect { volume, dry_run } => self.collect(volume, dry_run).await,
            Call::RollbackNode {
                volume,
                node,
                to,
                message: why,
                wait,
            } => {
                let by = author;
                let rollback = NodeRollback { to, why, by, wait };
                self.rollback_node(volume, node, rollback).await
            }
            other => self.answer_at_once(other, author).await,
        }
    }

    async fn answer_at_once(&self, call: Call, author: Text) -> Result<Reply, CallFailure> {
        match call {
            Call::Health { ready } => self.health(ready),
            Call::Status => Ok(Reply::Status(Box::new(self.status().await?))),
            Call::Invite { name, ttl_s } => self.invite((Role::Agent, name), ttl_s, &author),
            Call::InviteAs { role, name, ttl_s } => self.invite((role, name), ttl_s, &author),
            Call::Nodes => Ok(self.nodes().await),
            Call::RemoveNode { name } => self.remove_node(&name, &author).await,
            Call::Log { volume, count } => {
                let (_, volume) = self.volume(volume)?;
                Ok(Reply::Log(
                    volume.log(usize::try_from(count).unwrap_or(usize::MAX)),
                ))
            }
            Call::Freeze { volume, message } => self.freeze(volume, message, author).await,
            Call::Thaw { volume, message } => self.thaw(volume, message, author).await,
            Call::ThawNode {
                volume,
                node,
                message,
            } => self.thaw_node(volume, node, (message, author)).await,
            Call::Ignored { volume, why } => {
                let (_, volume) = self.volume(volume)?;
                Ok(Reply::Ignored(volume.publisher.ignored(why).await?))
            }
            Call::Ping { node } => self.ping(node).await,
            told @ (Call::Story { .. } | Call::At { .. } | Call::Diff { .. } | Call::Audit) => {
                self.tell(told).await
            }
            Call::NodeDiff { volume, node } => {
                let found = self.node_diff(volume, &node).await?;
                Ok(Reply::Diff(Box::new(found)))
            }
            Call::Push(_)
            | Call::Deliver(_)
            | Call::Rollback { .. }
            | Call::Retry { .. }
            | Call::Verify { .. }
            | Call::Seal { .. }
            | Call::Watch
            | Call::RollbackNode { .. }
            | Call::Collect { .. } => Err(stopping()),
            Call::Rotate => Err(CallFailure::new(
                FailureSort::Usage,
                "role",
                "the source's own key is pinned by every node, and stays",
            )
            .hint("`codevol node rotate` on an agent's host replaces that node's key")),
        }
    }

    pub(super) fn health(&self, ready: bool) -> Result<Reply, CallFailure> {
        let unscanned = self
            .volumes
            .iter()
            .find(|(_, volume)| !volume.publisher.view().scanned);
        match unscanned {
            Some((name, _)) if ready => Err(CallFailure::new(
                FailureSort::Failed,
                "not-ready",
                format!("volume `{name}` was not scanned yet"),
            )),
            Some(_) | None => Ok(Reply::Healthy),
        }
    }

    async fn status(&self) -> Result<Status, CallFailure> {
        let mut volumes = Vec::new();
        for volume in self.volumes.values() {
            volumes.push(volume.status().await.ok_or_else(stopping)?);
        }
        Ok(Status {
            schema: Text::cut(STATUS_SCHEMA),
            fleet: self.fleet,
            listen: Some(self.listen.clone()),
            source: None,
            volumes,
        })
    }

    /// Tells how everything stands, and again whenever that has changed. It ends with the caller.
    async fn watch(&self, writer: &mut ReplyWriter) -> Result<Reply, CallFailure> {
        let mut following = self.changes.follow();
        loop {
            let told = following.tell(self.status().await?, writer).await;
            told.map_err(|_gone| stopping())?;
        }
    }

    pub(super) fn volume(
        &self,
        name: Option<VolumeName>,
    ) -> Result<(&VolumeName, &Volume), CallFailure> {
        let unknown = |message: String| {
            let names: Vec<&str> = self.volumes.keys().map(VolumeName::as_str).collect();
            CallFailure::new(FailureSort::Usage, "volume", message)
                .hint(format!("the source's volumes: {}", names.join(", ")))
        };
        match name {
            Some(name) => self
                .volumes
                .get_key_value(&name)
                .ok_or_else(|| unknown(format!("there is no volume `{name}`"))),
            None if self.volumes.len() == 1 => self
                .volumes
                .first_key_value()
                .ok_or_else(|| unknown("there is no volume".to_owned())),
            None => Err(unknown(
                "the source has several volumes: say which".to_owned(),
            )),
        }
    }

    /// Publishes, tells what is published, and, where asked to, each step up to the end.
    pub(super) async fn follow(
        &self,
        volume: Option<VolumeName>,
        wait: bool,
        writer: &mut ReplyWriter,
        publish: impl AsyncFnOnce(&Volume) -> Result<PushPlan, CallFailure>,
    ) -> Result<Reply, CallFailure> {
        let (_, volume) = self.volume(volume)?;
        // Followed before it is published: no step can be missed.
        let mut notices = volume.fleet.bus().follow();
        let mut plan = publish(volume).await?;
        plan.nodes = self.door.agents().len() as u64;
        if plan.release.is_some() {
            // The rollout has begun, and does not wait for this.
            let counted = block_in_place(|| lines::of_release(&volume.history, &plan));
            plan.lines = counted.unwrap_or_else(|error| {
                warn!(error = %Chain(&error), "lines of a release cannot be counted");
                None
            });
        }
        let deadline = Instant::now() + Duration::from_millis(plan.deadline_ms);
        let Some(release) = plan.release.clone().filter(|_| wait) else {
            return Ok(Reply::Plan(Box::new(plan)));
        };
        let gone = |_: FrameError| stopping();
        let began_before = plan.unchanged;
        writer
            .write(&Reply::Plan(Box::new(plan)))
            .await
            .map_err(gone)?;
        if began_before {
            tell_state(volume, release.seq, writer).await?;
        }
        let ended = timeout_at(deadline, watch(volume, &release, &mut notices, writer)).await;
        ended.map_err(|_elapsed| {
            CallFailure::new(
                FailureSort::Failed,
                "deadline",
                format!(
                    "{} is published, but its rollout did not end in time",
                    release.seq
                ),
            )
            .hint("`codevol status` shows how far it is")
        })?
    }
}

async fn watch(
    volume: &Volume,
    release: &codevol_protocol::status::ReleaseStatus,
    notices: &mut broadcast::Receiver<Notice>,
    writer: &mut ReplyWriter,
) -> Result<Reply, CallFailure> {
    let done = |outcome: Outcome| Reply::Outcome(Box::new(outcome));
    if let Some(outcome) = volume
        .fleet
        .settled(release.id)
        .await
        .ok_or_else(stopping)?
    {
        tell_pending(release.seq, notices, writer).await?;
        return Ok(done(outcome));
    }
    loop {
        match notices.recv().await {
            Ok(Notice::Event(event)) => {
                writer
                    .write(&Reply::Event(event))
                    .await
                    .map_err(|_gone| stopping())?;
            }
            Ok(Notice::Outcome(outcome)) if outcome.release >= release.seq => {
                return Ok(Reply::Outcome(outcome));
            }
            missed @ (Ok(Notice::Outcome(_)) | Err(broadcast::error::RecvError::Lagged(_))) => {
                if missed.is_err() {
                    let seq = Some(release.seq);
                    let event = volume.fleet.bus().event(EventKind::StepsMissed, seq, None);
                    tell(event, writer).await?;
                    tell_state(volume, release.seq, writer).await?;
                }
                if let Some(outcome) = volume
                    .fleet
                    .settled(release.id)
                    .await
                    .ok_or_else(stopping)?
                {
                    return Ok(done(outcome));
                }
            }
            Err(broadcast::error::RecvError::Closed) => return Err(stopping()),
        }
    }
}

async fn tell(event: Event, writer: &mut ReplyWriter) -> Result<(), CallFailure> {
    let told = writer.write(&Reply::Event(Box::new(event))).await;
    told.map_err(|_gone| stopping())
}

/// Tells how far each node is with a release, for whoever did not hear of its steps: without figures.
async fn tell_state(
    volume: &Volume,
    seq: Seq,
    writer: &mut ReplyWriter,
) -> Result<(), CallFailure> {
    let status = volume.fleet.status().await.ok_or_else(stopping)?;
    for node in status.nodes {
        let runs = node.release == Some(seq);
        let is_proven = runs
            && node
                .evidence
                .is_some_and(|found| found > Evidence::Activated);
        let failed = node.error.filter(|error| !runs && error.release == seq);
        let steps = [
            (runs || node.staged.contains(&seq), EventKind::NodeStaged),
            (runs, EventKind::NodeActivated),
            (is_proven, EventKind::NodeVerified),
            (failed.is_some(), EventKind::NodeFailed),
        ];
        for (_, kind) in steps.into_iter().filter(|(is_done, _)| *is_done) {
            let name = Some(node.name.clone());
            let mut event = volume.fleet.bus().event(kind, Some(seq), name);
            event.evidence = node.evidence.filter(|_| kind == EventKind::NodeVerified);
            event.error = failed.clone().filter(|_| kind == EventKind::NodeFailed);
            tell(event, writer).await?;
        }
    }
    Ok(())
}

/// A rollout that was over before it was looked at: its steps are told all the same.
async fn tell_pending(
    seq: Seq,
    notices: &mut broadcast::Receiver<Notice>,
    writer: &mut ReplyWriter,
) -> Result<(), CallFailure> {
    while let Ok(notice) = notices.try_recv() {
        if let Notice::Event(event) = notice
            && event.release.is_none_or(|release| release >= seq)
        {
            writer
                .write(&Reply::Event(event))
                .await
                .map_err(|_gone| stopping())?;
        }
    }
    Ok(())
}

async fn retry(
    volume: &Volume,
    named: &codevol_protocol::call::ReleaseRef,
    author: Text,
) -> Result<PushPlan, CallFailure> {
    let release = volume.history.find(named).ok_or_else(|| {
        CallFailure::new(
            FailureSort::Refused,
            "not-found",
            format!("there is no release {named}"),
        )
        .hint("`codevol log` lists the releases")
    })?;
    may_retry(volume, &release)?;
    volume
        .fleet
        .retry(release.id(), author)
        .await
        .ok_or_else(stopping)?;
    let mut plan = PushPlan::new(release.release().volume.clone(), ROLLOUT_TIMEOUT_MS);
    plan.release = Some(volume.history.status(&release));
    Ok(plan)
}

/// Only what a person may want to go live as things stand: the way back is a rollback, which freezes.
fn may_retry(volume: &Volume, release: &Published) -> Result<(), CallFailure> {
    let seq = release.seq();
    let refused = |kind, message| CallFailure::new(FailureSort::Refused, kind, message);
    match (volume.result_of(release), volume.fleet.view().frozen) {
        (ReleaseResult::Live, _) => Ok(()),
        (_, Some(frozen)) => Err(refused(
            "frozen",
            format!("the volume is frozen by {}: {}", frozen.by, frozen.why),
        )
        .hint("`codevol thaw` ends that")),
        (ReleaseResult::Superseded, None) => Err(refused(
            "not-broken",
            format!("{seq} was not found broken: there is nothing to try once more"),
        )
        .hint(format!("`codevol rollback {seq}` makes it live again"))),
        (ReleaseResult::Broken | ReleaseResult::Held, None) => Ok(()),
    }
}

/// The caller's role does not permit the call.
fn denied(call: &Call, role: Role) -> CallFailure {
    let message = format!("`{}` is not for the role `{role}`", call.name());
    CallFailure::new(FailureSort::Denied, "not-permitted", message)
        .hint("run it on the source's host, or on the machine of an operator")
}

pub(super) fn stopping() -> CallFailure {
    CallFailure::new(
        FailureSort::Unavailable,
        "stopping",
        "the source is stopping",
    )
}
