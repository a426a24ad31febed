//! One push, received: the head is checked before anything else is read, each piece before it
//! counts.
//!
//! ```text
//!   stream --frames--> queue --> blocking thread: restore, verify, write --> finish
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use codevol_protocol::delta::{self, Piece, Position};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::limits::{
    MANIFEST_BYTES_MAX, MISSING_MAX, PROGRESS_BYTES_PER_SECOND_MIN, PROGRESS_TIMEOUT, SEQ_AHEAD_MAX,
};
use codevol_protocol::manifest::{Manifest, ManifestError};
use codevol_protocol::message::{Failure, FromAgent, Partial, PushHead, Report, Step};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::patch::{self, PatchError};
use codevol_protocol::release::{ReleaseError, Seq, VerifiedRelease};
use codevol_protocol::trust::{ReleaseRefused, Trust};
use codevol_protocol::violation::Violation;
use codevol_store::journal::Event;
use codevol_store::recorder::Recorder;
use codevol_transport::{FrameError, LinkReader};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::timeout;

use crate::speaker::Speaker;
use crate::volume::{Root, StageError, Staging};

/// How many frames may wait for the disk.
const FRAMES_MAX: usize = 4;
/// How often the source hears that bytes go on arriving.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A push came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The release is not for us, or not by whom we believe.
    #[error("release is refused")]
    Refused(#[from] ReleaseRefused),
    /// The release is older than what is known here, and not part of what is known.
    #[error("{seq} is not newer than {newest}, and not one that was known before")]
    Replayed {
        /// What came.
        seq: Seq,
        /// The newest known here.
        newest: Seq,
    },
    /// Another release with this seq is known: an alarm.
    #[error("{seq} is known here as another release, {}", .known.short())]
    Forked {
        /// The seq.
        seq: Seq,
        /// The release that is known.
        known: ReleaseId,
    },
    /// The seq is impossibly far ahead.
    #[error("{seq} is too far ahead of {newest}")]
    TooFarAhead {
        /// What came.
        seq: Seq,
        /// The newest known here.
        newest: Seq,
    },
    /// The base is not held here.
    #[error("base {} is not held", .0.short())]
    UnknownBase(ReleaseId),
    /// The manifest is none.
    #[error("manifest is refused")]
    Manifest(#[from] ManifestError),
    /// The record breaks a rule.
    #[error("release record is refused")]
    Record(#[from] ReleaseError),
    /// The manifest does not decompress.
    #[error("manifest cannot be restored")]
    Patch(#[from] PatchError),
    /// The release cannot be staged.
    #[error("release cannot be staged")]
    Stage(#[from] StageError),
    /// The stream failed.
    #[error("push stream failed")]
    Frame(#[from] FrameError),
    /// The sender broke a rule.
    #[error("sender broke the protocol")]
    Violation(#[from] Violation),
    /// The staging thread died.
    #[error("staging thread stopped")]
    Stopped,
}

impl ReceiveError {
    /// Whether the same push may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Stage(error) => error.is_retryable(),
            Self::Frame(error) => error.is_retryable(),
            Self::UnknownBase(_) | Self::Stopped => true,
            Self::Refused(_)
            | Self::Replayed { .. }
            | Self::Forked { .. }
            | Self::TooFarAhead { .. }
            | Self::Manifest(_)
            | Self::Record(_)
            | Self::Patch(_)
            | Self::Violation(_) => false,
        }
    }

    /// Whether the sender broke a rule of the protocol, so that the link is to be closed.
    #[must_use]
    pub const fn is_violation(&self) -> bool {
        match self {
            // The manifest that it was to be restored upon is one that both sides know by its hash.
            Self::Violation(_) | Self::Patch(_) => true,
            Self::Frame(error) => error.violation().is_some(),
            Self::Refused(_)
            | Self::Replayed { .. }
            | Self::Forked { .. }
            | Self::TooFarAhead { .. }
            | Self::UnknownBase(_)
            | Self::Manifest(_)
            | Self::Record(_)
            | Self::Stage(_)
            | Self::Stopped => false,
        }
    }

    /// Whether nobody is at fault: the link ended, or the sender gave the push up.
    const fn is_given_up(&self) -> bool {
        matches!(
            self,
            Self::Frame(FrameError::Closed(_) | FrameError::Reset | FrameError::Io(_))
        )
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_)
            | Self::Record(_)
            | Self::Manifest(_)
            | Self::Stage(StageError::Manifest(_)) => "refused",
            Self::Replayed { .. } | Self::TooFarAhead { .. } => "replayed",
            Self::Forked { .. } | Self::Stage(StageError::OtherAtSeq { .. }) => "forked",
            Self::Stage(StageError::Missing(_)) => "missing",
            Self::Stage(StageError::NoSpace { .. }) => "no-space",
            Self::Stage(StageError::Dir(error)) if error.is_no_space() => "no-space",
            Self::Stage(_) => "io",
            Self::UnknownBase(_)
            | Self::Patch(_)
            | Self::Frame(_)
            | Self::Violation(_)
            | Self::Stopped => "transfer",
        }
    }
}

/// What receives pushes of one volume.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The volume.
    pub volume: VolumeName,
    /// Its root.
    pub root: Arc<Mutex<Root>>,
    /// What a push that was cut short left behind. Whoever writes a push holds the lock.
    pub partial: Arc<tokio::sync::Mutex<Option<Partial>>>,
    /// Whom to tell.
    pub speaker: Speaker,
    /// Where refusals are noted.
    pub journal: Recorder,
}

/// A release that stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The release.
    pub release: ReleaseId,
    /// Bytes that travelled for it.
    pub bytes: u64,
}

impl Receiver {
    /// Returns what has arrived of a release that is not whole yet, for `Hello`. Waits for the disk
    /// where a push that was cut short is still being written.
    pub async fn partial(&self) -> Option<Partial> {
        *self.partial.lock().await
    }

    /// Receives one push and tells the source what came of it.
    ///
    /// # Errors
    /// When the release is refused or cannot be staged: said to the source already, except for a
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
            Ok(bytes) => {
                let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.report(
                    release,
                    Step::Staged {
                        received_bytes: bytes,
                        elapsed_ms,
                    },
                )
                .await;
                Ok(Some(Received { release, bytes }))
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
                if !error.is_violation() && !error.is_given_up() {
                    let why = Chain(&error).to_string();
                    self.record(release, error.kind(), why.clone());
                    let mut failure = Failure::new(error.kind(), why);
                    failure.retryable = error.is_retryable();
                    self.report(release, Step::StageFailed(failure)).await;
                }
                Err(error)
            }
        }
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
    ) -> Result<u64, ReceiveError> {
        let verified = trust.verify_release(&head.release, &self.volume)?;
        // One push at a time: the stream of an older one was reset, so it ends by itself.
        let mut partial = Arc::clone(&self.partial).lock_owned().await;
        *partial = None;
        let base = self.check(&verified, head.base)?;
        let mut inflow = Inflow::new(stream);
        let manifest = match &base {
            Some(base) if head.same_manifest => (**base).clone(),
            Some(_) | None => {
                let old = base.as_deref().map(Manifest::encode).unwrap_or_default();
                read_manifest(&mut inflow, &verified, &old).await?
            }
        };
        if head.start.entry > manifest.entries().len() as u64 {
            return Err(Violation::PushLength("less").into());
        }
        // Taken up from the disk, so that it is planned as the sender has planned it.
        let begun = tokio::task::block_in_place(|| {
            let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
            root.begin(&verified, manifest, head.base)
        });
        let staging = match begun {
            Ok(staging) => staging,
            Err(StageError::AlreadyHeld) => return Ok(inflow.bytes),
            Err(error) => return Err(error.into()),
        };
        let (frames, queue) = mpsc::channel(FRAMES_MAX);
        let writer = Writer {
            root: self.root.clone(),
            start: head.start,
            missing: head.missing,
            restored: Arc::clone(&inflow.restored),
            partial,
        };
        let thread = tokio::task::spawn_blocking(move || writer.run(staging, queue));
        let fed = self.feed(&mut inflow, frames, verified.id()).await;
        let written = thread.await.or(Err(ReceiveError::Stopped))?;
        match (written, fed) {
            // Why the stream ended early says more than that it did.
            (Err(error), Err(fed)) if is_cut(&error) => Err(fed),
            // What the disk says matters more than that the stream was then given up.
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(inflow.bytes),
        }
    }

    /// Checks what may be known before the manifest is read.
    fn check(
        &self,
        release: &VerifiedRelease,
        base: Option<ReleaseId>,
    ) -> Result<Option<Arc<Manifest>>, ReceiveError> {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
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
            let held = root
                .held()
                .get(&base)
                .ok_or(ReceiveError::UnknownBase(base))?;
            Ok(Arc::new(held.manifest().clone()))
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

/// Whether the stream ended before all pieces were there.
fn is_cut(error: &ReceiveError) -> bool {
    matches!(
        error,
        ReceiveError::Violation(Violation::PushLength("less"))
    )
}

/// The frames of a push. A sender that stops between two of them, or trickles, is too slow: it
/// would keep all that comes after it waiting.
#[derive(Debug)]
struct Inflow {
    stream: LinkReader,
    /// Bytes that travelled.
    bytes: u64,
    /// Bytes of content that came of them.
    restored: Arc<AtomicU64>,
    /// How long the sender was waited for.
    waited: Duration,
}

impl Inflow {
    fn new(stream: LinkReader) -> Self {
        Self {
            stream,
            bytes: 0,
            restored: Arc::default(),
            waited: Duration::ZERO,
        }
    }

    async fn frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let restored = self.restored.load(Ordering::Relaxed).max(self.bytes);
        let earned = Duration::from_secs(restored / PROGRESS_BYTES_PER_SECOND_MIN);
        let left = (PROGRESS_TIMEOUT + earned).saturating_sub(self.waited);
        let began = Instant::now();
        let read = timeout(left.min(PROGRESS_TIMEOUT), self.stream.read_bytes()).await;
        self.waited += began.elapsed();
        let frame = read.or(Err(FrameError::Slow))??;
        self.bytes += frame.as_ref().map_or(0, Vec::len) as u64;
        Ok(frame)
    }
}

async fn read_manifest(
    inflow: &mut Inflow,
    release: &VerifiedRelease,
    old: &[u8],
) -> Result<Manifest, ReceiveError> {
    // The record's own limit was checked when it was decoded.
    let length = usize::try_from(release.release().manifest_bytes.min(MANIFEST_BYTES_MAX));
    let length = length.unwrap_or(usize::MAX);
    let mut plain = Vec::new();
    for (range, prefix) in delta::byte_segments(length, old.len()) {
        let frame = inflow.frame().await?.ok_or(Violation::PushLength("less"))?;
        let prefix = old.get(prefix).unwrap_or_default();
        plain.extend(patch::restore(&frame, prefix, range.len())?);
    }
    Ok(Manifest::decode(&plain)?)
}

/// The blocking half: restores and writes the pieces in the plan's order.
struct Writer {
    root: Arc<Mutex<Root>>,
    start: Position,
    missing: Vec<BlobId>,
    restored: Arc<AtomicU64>,
    /// Held until nothing more is written, also where nobody waits for the thread any more.
    partial: OwnedMutexGuard<Option<Partial>>,
}

impl Writer {
    fn run(
        mut self,
        mut staging: Staging,
        mut queue: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), ReceiveError> {
        let written = self.write_all(&mut staging, &mut queue);
        // A plan of its own, with blobs that were asked for, is not the one to go on with.
        if self.missing.is_empty() && written.as_ref().is_err_and(is_cut) {
            *self.partial = Some(Partial {
                release: staging.release().id(),
                next: staging.position(),
            });
        }
        written
    }

    fn write_all(
        &self,
        staging: &mut Staging,
        queue: &mut mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), ReceiveError> {
        if !self.missing.is_empty() {
            staging.ask_for(&self.missing);
        }
        let pieces: Vec<_> = staging.plan().pieces_from(self.start).collect();
        let mut dropped = None;
        for piece in pieces {
            let frame = queue.blocking_recv().ok_or(Violation::PushLength("less"))?;
            let entry = piece.position.entry;
            self.restored.fetch_add(piece.length, Ordering::Relaxed);
            // The segments after one that was wrong are of no use.
            if dropped == Some(entry) {
                continue;
            }
            // A piece that cannot be restored is no reason to stop: `finish` names all that is to
            // be sent again.
            let written = restore(staging, &piece, &frame);
            match written.and_then(|plain| staging.write(piece.position, &plain)) {
                Ok(()) => {}
                Err(StageError::Missing(_) | StageError::WrongBytes(_)) => dropped = Some(entry),
                Err(error) => return Err(error.into()),
            }
        }
        if queue.blocking_recv().is_some() {
            return Err(Violation::PushLength("more").into());
        }
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        staging.finish(&mut root)?;
        Ok(())
    }
}

fn restore(staging: &mut Staging, piece: &Piece, frame: &[u8]) -> Result<Vec<u8>, StageError> {
    let prefix = match &piece.prefix {
        Some(range) => staging.base_range(range)?,
        None => Vec::new(),
    };
    let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
    // What does not decompress is as wrong as what does not hash: no bytes are written then.
    Ok(patch::restore(frame, &prefix, length).unwrap_or_default())
}
