//! The calls that have nodes look at their disks: `verify`, and `diff --node`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Reply};
use codevol_protocol::diff::TreeDiff;
use codevol_protocol::drift::{
    Answer, Depth, Looked, NodeVerified, SourceVerified, Verified, Verifying,
};
use codevol_protocol::id::BlobId;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_transport::ReplyWriter;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Desk;
use super::answer::stopping;
use crate::bus::now;
use crate::diff;
use crate::fleet::Heard;
use crate::stored::{self, Progress};
use crate::volume::Volume;

/// How long a verification may take; every release that is held takes longer.
const TIMEOUT: Duration = Duration::from_secs(900);
const DEEP_TIMEOUT: Duration = Duration::from_secs(7_200);
/// A node that says nothing for so long is not waited for: while it looks, it says how far it is.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is seen whether somebody is silent, and the caller hears how far the source is.
const TICK: Duration = Duration::from_secs(2);

impl Desk {
    /// Has every node look, and reads the source's own blobs where all is to be looked at.
    pub(super) async fn verify(
        &self,
        volume: Option<VolumeName>,
        deep: bool,
        writer: &mut ReplyWriter,
    ) -> Result<Reply, CallFailure> {
        let (name, volume) = self.volume(volume)?;
        let agents = self.door.agents();
        let asked = Instant::now();
        let depth = if deep { Depth::Held } else { Depth::Active };
        let mut asking = Asking {
            heard: volume.fleet.verify(depth, None).await,
            left: agents.into_iter().map(|name| (name, asked)).collect(),
            until: asked + if deep { DEEP_TIMEOUT } else { TIMEOUT },
            own: deep.then(|| Own::start(volume)),
        };
        let source = asking.hear_all(writer).await?;
        if let Some(found) = &source {
            mend(volume, found).await?;
        }
        Ok(Reply::Verified(Box::new(Verified {
            volume: name.clone(),
            at: now(),
            deep,
            source,
        })))
    }

    /// Returns how a node's disk differs from the release that it runs.
    pub(super) async fn node_diff(
        &self,
        volume: Option<VolumeName>,
        node: &NodeName,
    ) -> Result<TreeDiff, CallFailure> {
        let (_, volume) = self.volume(volume)?;
        self.agent(node)?;
        let until = Instant::now() + TIMEOUT;
        let heard = volume
            .fleet
            .verify(Depth::Contents, Some(node.clone()))
            .await;
        let looked = contents_of(node, heard, until).await?;
        if let Some(failure) = looked.failure {
            let message = format!("`{node}` could not look: {}", failure.message);
            let kind = failure.kind.as_str();
            return Err(CallFailure::new(FailureSort::Failed, kind, message));
        }
        let nothing = || {
            let message = format!("`{node}` runs no release that is kept here");
            CallFailure::new(FailureSort::Refused, "not-kept", message)
                .hint("`codevol status` shows what it runs")
        };
        let (_, active) = looked.active.ok_or_else(nothing)?;
        let release = volume.history.by_id(active).ok_or_else(nothing)?;
        block_in_place(|| {
            let manifest = volume.history.manifest(release.release().manifest);
            let manifest = manifest.map_err(|error| diff::unreadable(&release, &error))?;
            let looked = (node, &looked);
            Ok(diff::node::of_node(
                &volume.history,
                (&release, &manifest),
                looked,
            ))
        })
    }
}

/// Has what the store has lost of releases taken from the tree, where it stands there. What was found is
/// told all the same: a disk that loses files is to be looked at.
async fn mend(volume: &Volume, found: &SourceVerified) -> Result<(), CallFailure> {
    if found.damaged.is_empty() && found.missing.is_empty() {
        return Ok(());
    }
    let damaged: BTreeSet<BlobId> = found.damaged.iter().copied().collect();
    for release in volume.history.releases().iter().rev() {
        let is_kept = block_in_place(|| volume.history.manifest(release.release().manifest));
        if is_kept.is_ok() {
            volume.publisher.mend(release.id(), damaged.clone()).await?;
        }
    }
    Ok(())
}

async fn contents_of(
    node: &NodeName,
    mut heard: mpsc::Receiver<Heard>,
    until: Instant,
) -> Result<Looked, CallFailure> {
    loop {
        let until = until.min(Instant::now() + SILENCE);
        let answer = match timeout_at(until, heard.recv()).await {
            Ok(Some(Heard::Going(..))) => continue,
            Ok(Some(Heard::Answered(_, Answer::Answered, Some(looked)))) => return Ok(*looked),
            Ok(Some(Heard::Answered(_, answer, _))) => answer,
            Ok(None) => return Err(busy()),
            Err(_elapsed) => Answer::Silent,
        };
        let why = match answer {
            Answer::Answered | Answer::Silent => "does not answer",
            Answer::Offline => "is not connected",
            Answer::TooOld => "runs a build that cannot be asked",
        };
        let failure = CallFailure::new(
            FailureSort::Unavailable,
            "unreachable",
            format!("`{node}` {why}"),
        );
        return Err(failure.hint("`codevol status` shows who is connected"));
    }
}

fn busy() -> CallFailure {
    let message = "too many verifications run already";
    CallFailure::new(FailureSort::Unavailable, "busy", message)
}

/// A verification that goes on.
struct Asking {
    heard: mpsc::Receiver<Heard>,
    /// Who has not answered, and when each was heard last.
    left: BTreeMap<NodeName, Instant>,
    until: Instant,
    own: Option<Own>,
}

/// The source's own store, being read.
struct Own {
    progress: Progress,
    stop: CancellationToken,
    task: JoinHandle<SourceVerified>,
}

impl Own {
    fn start(volume: &Volume) -> Self {
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        let (history, seen, stopped) = (volume.history.clone(), progress.clone(), stop.clone());
        let task = tokio::task::spawn_blocking(move || stored::check(&history, &seen, &stopped));
        Self {
            progress,
            stop,
            task,
        }
    }
}

/// Whoever asked may leave.
impl Drop for Own {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Asking {
    /// Tells what each node found as it comes, and returns what the source found.
    async fn hear_all(
        &mut self,
        writer: &mut ReplyWriter,
    ) -> Result<Option<SourceVerified>, CallFailure> {
        let mut tick = interval(TICK);
        let mut answers = 0_usize;
        let mut is_open = true;
        while is_open {
            // Cancel-safe: `recv` and `tick` lose nothing when dropped.
            tokio::select! {
                heard = self.heard.recv() => match heard {
                    Some(heard) => {
                        answers += usize::from(matches!(heard, Heard::Answered(..)));
                        self.tell(heard, writer).await?;
                    }
                    None => is_open = false,
                },
                _ = tick.tick() => {
                    self.tell_own(writer).await?;
                    self.give_up_silent(writer).await?;
                    is_open = !self.left.is_empty();
                }
            }
        }
        if answers == 0 && !self.left.is_empty() {
            return Err(busy());
        }
        // Who is still here was enrolled after the question was put.
        for name in std::mem::take(&mut self.left).into_keys() {
            tell_answer(name, (Answer::Offline, None), writer).await?;
        }
        self.finish_own(writer).await
    }

    async fn finish_own(
        &mut self,
        writer: &mut ReplyWriter,
    ) -> Result<Option<SourceVerified>, CallFailure> {
        let mut tick = interval(TICK);
        loop {
            let Some(own) = &mut self.own else {
                return Ok(None);
            };
            // Cancel-safe: the task goes on, and a tick that is lost is made up for.
            tokio::select! {
                found = &mut own.task => return Ok(Some(found.unwrap_or_else(|error| {
                    let failure = Some(Text::cut(error.to_string()));
                    SourceVerified { failure, ..SourceVerified::default() }
                }))),
                _ = tick.tick() => {
                    if Instant::now() >= self.until {
                        own.stop.cancel();
                    }
                    self.tell_own(writer).await?;
                }
            }
        }
    }

    async fn tell(&mut self, heard: Heard, writer: &mut ReplyWriter) -> Result<(), CallFailure> {
        match heard {
            Heard::Going(node, pass) => {
                if let Some(last) = self.left.get_mut(&node) {
                    *last = Instant::now();
                }
                let node = Some(node);
                say(Reply::Verifying(Verifying { node, pass }), writer).await
            }
            Heard::Answered(node, answer, looked) => {
                self.left.remove(&node);
                tell_answer(node, (answer, looked), writer).await
            }
        }
    }

    async fn tell_own(&self, writer: &mut ReplyWriter) -> Result<(), CallFailure> {
        let Some(own) = &self.own else { return Ok(()) };
        let (node, pass) = (None, own.progress.pass());
        say(Reply::Verifying(Verifying { node, pass }), writer).await
    }

    async fn give_up_silent(&mut self, writer: &mut ReplyWriter) -> Result<(), CallFailure> {
        let is_over = Instant::now() >= self.until;
        let silent = |_: &NodeName, last: &mut Instant| is_over || last.elapsed() >= SILENCE;
        let silent: Vec<NodeName> = self
            .left
            .extract_if(.., silent)
            .map(|(name, _)| name)
            .collect();
        for name in silent {
            tell_answer(name, (Answer::Silent, None), writer).await?;
        }
        Ok(())
    }
}

async fn tell_answer(
    name: NodeName,
    (answer, looked): (Answer, Option<Box<Looked>>),
    writer: &mut ReplyWriter,
) -> Result<(), CallFailure> {
    let found = NodeVerified {
        name,
        answer,
        looked: looked.map(|looked| *looked),
    };
    say(Reply::NodeVerified(Box::new(found)), writer).await
}

async fn say(reply: Reply, writer: &mut ReplyWriter) -> Result<(), CallFailure> {
    writer.write(&reply).await.map_err(|_gone| stopping())
}
