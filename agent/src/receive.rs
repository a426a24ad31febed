//! One push, received: the head is checked before anything else is read, each piece before it
//! counts.
//!
//! ```text
//!   stream --frames--> queue --> blocking thread: restore, verify, write --> finish
//! ```

mod error;
mod inflow;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codevol_metrics::Usage;
use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::{MISSING_MAX, SEQ_AHEAD_MAX};
use codevol_protocol::message::{Failure, FromAgent, Partial, PushHead, Report, Step};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::release::VerifiedRelease;
use codevol_protocol::trust::Trust;
use codevol_protocol::violation::Violation;
use codevol_store::journal::Event;
use codevol_store::recorder::Recorder;
use codevol_transport::LinkReader;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, block_in_place};

pub use self::error::ReceiveError;
use self::inflow::Inflow;
use self::writer::Writer;
use crate::dependencies::Checker;
use crate::drift::{DriftHandle, DriftOrder};
use crate::metrics::AgentMetrics;
use crate::speaker::Speaker;
use crate::volume::{self, Held, Root, StageError};

/// How many frames may wait for the disk.
const FRAMES_MAX: usize = 4;
/// How often the source hears that bytes go on arriving.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// What receives pushes of one volume.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The volume.
    pub volume: VolumeName,
    /// Its root.
    pub root: Arc<Mutex<Root>>,
    /// What a push that was cut short left behind. Whoever writes a push holds the lock.
    pub partial: Arc<tokio::sync::Mutex<Option<Partial>>>,
    /// Held while the spare is looked at in advance.
    pub looking: Arc<tokio::sync::Mutex<()>>,
    /// Compares a staged release with the Python environments.
    pub dependencies: Checker,
    /// Whom to tell.
    pub speaker: Speaker,
    /// Where refusals are noted.
    pub journal: Recorder,
    /// Who asks for lost bytes of what is held.
    pub drift: DriftHandle,
    /// Where it is timed.
    pub metrics: Arc<AgentMetrics>,
    /// What the volume takes on the disk.
    pub usage: Arc<Usage>,
}

/// A release that stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The release.
    pub release: ReleaseId,
    /// Bytes that travelled for it.
    pub bytes: u64,
}

/// A release that has its name.
#[derive(Debug)]
struct Staged {
    /// Bytes that travelled for it.
    bytes: u64,
    /// What makes it durable, where it is not yet.
    writing: Option<JoinHandle<Result<(), ReceiveError>>>,
}

impl Receiver {
    /// Returns what has arrived of a release that is not whole yet, for `Hello`. Waits for the disk
    /// where a push that was cut short is still being written.
    pub async fn partial(&self) -> Option<Partial> {
        *self.partial.lock().await
    }

    /// Looks at what a push that may come will want, while the source's tree settles. One look at a time.
    pub fn get_ready(&self) {
        let Ok(looking) = Arc::clone(&self.looking).try_lock_owned() else {
            return;
        };
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || {
            let mut root = root.lock().unwrap_or_else(PoisonError::into_inner);
            root.look_at_spare();
            drop(looking);
        });
    }

    /// Receives one push and tells the source what came of it.
    ///
    /// # Errors
    /// When the release is not believed or cannot be staged: said to the source already, except for a
    /// breach of the protocol, for which the caller closes the link.
    pub async fn receive(
        &self,
        head: PushHead,
        stream: LinkReader,
        trust: &Trust,
    ) -> Result<Option<Received>, ReceiveError> {
        let release = head.release.id();
        let began = Instant::now();
        match self.stage(head, stream, trust).await {
            Ok(staged) => {
                self.metrics.stage.observe(began.elapsed());
                self.usage.changed();
                let bytes = staged.bytes;
                let is_refused = self.is_refused(release).await;
                if !is_refused {
                    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.report(
                        release,
                        Step::Staged {
                            received_bytes: bytes,
                            elapsed_ms,
                        },
                    )
                    .await;
                }
                if let Some(writing) = staged.writing {
                    self.made_durable(release, writing).await?;
                }
                Ok((!is_refused).then_some(Received { release, bytes }))
            }
            Err(ReceiveError::Stage(StageError::Missing(mut blobs))) => {
                let detail = format!("{} blobs came wrong or are damaged here", blobs.len());
                self.record(release, "missing", detail);
                blobs.truncate(MISSING_MAX);
                let volume = self.volume.clone();
                self.speaker
                    .say(FromAgent::Missing {
                        volume,
                        release,
                        blobs,
                    })
                    .await;
                Ok(None)
            }
            Err(error) => {
                if let ReceiveError::UnknownBase(base) = error {
                    // The source takes it for held: told that it is not, it sends the files whole.
                    self.is_not_held(base).await;
                }
                self.failed(release, &error).await;
                Err(error)
            }
        }
    }

    /// Waits until a release is durable of which the source has heard already.
    async fn made_durable(
        &self,
        release: ReleaseId,
        writing: JoinHandle<Result<(), ReceiveError>>,
    ) -> Result<(), ReceiveError> {
        let written = writing.await.or(Err(ReceiveError::Stopped))?;
        if let Err(error) = &written {
            self.usage.changed();
            self.is_not_held(release).await;
            self.failed(release, error).await;
        }
        written
    }

    async fn is_not_held(&self, release: ReleaseId) {
        let held = FromAgent::Held {
            volume: self.volume.clone(),
            added: Vec::new(),
            removed: vec![release],
        };
        self.speaker.say(held).await;
    }

    /// Says and notes why a release is not staged, unless nobody is to hear that.
    async fn failed(&self, release: ReleaseId, error: &ReceiveError) {
        if error.is_violation() || error.is_given_up() {
            return;
        }
        let why = Chain(error).to_string();
        self.record(release, error.kind(), why.clone());
        let mut failure = Failure::new(error.kind(), why);
        failure.retryable = error.is_retryable();
        self.report(release, Step::StageFailed(failure)).await;
    }

    /// Compares a staged release with the Python environments, before anybody is told that it could be
    /// activated. What stands on the disk stays: once they are mended, nothing has to travel again.
    async fn is_refused(&self, release: ReleaseId) -> bool {
        let refusal = block_in_place(|| self.dependencies.refusal(release));
        self.dependencies.tell().await;
        let Some(failure) = refusal else {
            return false;
        };
        let why = failure.message.as_str().to_owned();
        self.record(release, "dependencies", why);
        self.report(release, Step::StageFailed(failure)).await;
        true
    }

    fn record(&self, release: ReleaseId, outcome: &'static str, detail: String) {
        self.journal.record(Event {
            actor: Text::cut("source"),
            action: "push".into(),
            volume: Some(self.volume.clone()),
            release: Some(release),
            node: None,
            evidence: None,
            outcome: outcome.into(),
            detail: Some(Text::cut(detail)),
        });
    }

    async fn report(&self, release: ReleaseId, step: Step) {
        let report = Report {
            volume: self.volume.clone(),
            release,
            step,
        };
        self.speaker.say(FromAgent::Report(report)).await;
    }

    async fn stage(
        &self,
        head: PushHead,
        stream: LinkReader,
        trust: &Trust,
    ) -> Result<Staged, ReceiveError> {
        let verified = trust.verify_release(&head.release, &self.volume)?;
        // One push at a time: the stream of an older one was reset, so it ends by itself.
        let mut partial = Arc::clone(&self.partial).lock_owned().await;
        *partial = None;
        let base = self.check(&verified, head.base)?;
        let mut inflow = Inflow::new(stream);
        // A large tree's manifest takes its time, and an agent has one thread for all its tasks.
        let manifest = match base {
            Some(base) if head.same_manifest => block_in_place(|| base.manifest().clone()),
            base => {
                let encode = |base: Arc<Held>| base.manifest().encode();
                let old = block_in_place(|| base.map(encode).unwrap_or_default());
                inflow.manifest(&verified, &old).await?
            }
        };
        if head.start.entry > manifest.entries().len() as u64 {
            return Err(Violation::PushLength("less").into());
        }
        // Taken up from the disk, so that it is planned as the sender has planned it.
        let begun = block_in_place(|| {
            let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
            let is_held = root.held().contains_key(&verified.id());
            if is_held && !head.missing.is_empty() {
                return root.begin_mending(verified.id(), head.base);
            }
            root.begin(&verified, manifest, head.base)
        });
        let staging = match begun {
            Ok(staging) => staging,
            Err(StageError::AlreadyHeld) => {
                let bytes = inflow.bytes;
                return Ok(Staged {
                    bytes,
                    writing: None,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let (frames, queue) = mpsc::channel(FRAMES_MAX);
        let (told, named) = oneshot::channel();
        let writer = Writer {
            root: self.root.clone(),
            start: head.start,
            missing: head.missing,
            restored: Arc::clone(&inflow.restored),
            named: Some(told),
            partial,
        };
        let mends = staging.mends();
        let writing = tokio::task::spawn_blocking(move || writer.run(staging, queue));
        let fed = self.feed(&mut inflow, frames, verified.id()).await;
        if fed.is_ok() && named.await.is_ok() {
            if mends {
                self.drift.tell(DriftOrder::Mended);
            }
            return Ok(Staged {
                bytes: inflow.bytes,
                writing: Some(writing),
            });
        }
        let written = writing.await.or(Err(ReceiveError::Stopped))?;
        match (written, fed) {
            // Why the stream ended early says more than that it did.
            (Err(error), Err(fed)) if error.is_cut() => Err(fed),
            // What the disk says matters more than that the stream was then given up.
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            // It tells when the release has its name.
            (Ok(()), Ok(())) => Err(ReceiveError::Stopped),
        }
    }

    /// Checks what may be known before the manifest is read.
    fn check(
        &self,
        release: &VerifiedRelease,
        base: Option<ReleaseId>,
    ) -> Result<Option<Arc<Held>>, ReceiveError> {
        let root = volume::lock(&self.root);
        let (seq, id) = (release.release().seq, release.id());
        let (newest, newest_id) = root.high_water();
        let of_seq = root.held().values().find(|held| held.release().seq == seq);
        let known = of_seq
            .map(|held| held.id())
            .or_else(|| newest_id.filter(|_| newest == seq));
        if let Some(known) = known.filter(|known| *known != id) {
            return Err(ReceiveError::Forked { seq, known });
        }
        // A release that a known one names as its parent is known by that: byte for byte.
        let is_parent = || {
            root.held()
                .values()
                .any(|held| held.release().parent == Some(id))
        };
        if seq < newest && known.is_none() && !is_parent() {
            return Err(ReceiveError::Replayed { seq, newest });
        }
        if seq.0 > newest.0.saturating_add(SEQ_AHEAD_MAX) {
            return Err(ReceiveError::TooFarAhead { seq, newest });
        }
        base.map(|base| {
            let held = root.held().get(&base).cloned();
            held.ok_or(ReceiveError::UnknownBase(base))
        })
        .transpose()
    }

    /// Hands frames to the thread until the stream ends; tells now and then that they come.
    async fn feed(
        &self,
        inflow: &mut Inflow,
        frames: mpsc::Sender<Vec<u8>>,
        release: ReleaseId,
    ) -> Result<(), ReceiveError> {
        let mut told = Instant::now();
        while let Some(frame) = inflow.frame().await? {
            if frames.send(frame).await.is_err() {
                // The thread has ended, with more to say than that.
                return Ok(());
            }
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                let bytes = inflow.bytes;
                self.report(release, Step::Receiving { bytes }).await;
            }
        }
        Ok(())
    }
}
