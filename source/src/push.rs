//! One push: a release sent to one agent on one stream, with no question first.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::delta::Position;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::message::{Failure, PushHead};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::path::RelPath;
use codevol_transport::{CloseReason, FrameError, Link};
use tokio::task::block_in_place;
use tracing::warn;

use crate::encode::{Deltas, EncodeError};
use crate::history::{History, HistoryError, Published};
use crate::volume::Volume;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The volume.
    pub volume: VolumeName,
    /// The release.
    pub release: ReleaseId,
    /// What the agent holds.
    pub held: Vec<ReleaseId>,
    /// Blobs of the release that the agent lost.
    pub missing: BTreeSet<BlobId>,
    /// Where a broken transfer goes on.
    pub start: Position,
}

/// What was sent.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The volume.
    pub volume: VolumeName,
    /// The release.
    pub release: ReleaseId,
}

/// A release could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The log has no such release.
    #[error("release {} is not in the log", .0.short())]
    Unknown(ReleaseId),
    /// The log cannot be read.
    #[error("cannot read the release")]
    History(#[from] HistoryError),
    /// A piece cannot be encoded.
    #[error("cannot encode the release")]
    Encode(#[from] EncodeError),
    /// Bytes that an agent found wrong are wrong here.
    #[error("a stored blob is damaged")]
    Damaged,
    /// The store has lost files of the release, and the tree does not hold them any more.
    #[error("{files} files of the release are lost, `{first}` first")]
    Lost {
        /// How many.
        files: usize,
        /// The first of them.
        first: RelPath,
    },
    /// The stream failed.
    #[error("push stream failed")]
    Frame(#[from] FrameError),
    /// The link ended.
    #[error("link ended")]
    Closed(#[from] CloseReason),
}

impl PushError {
    /// Whether the source has the release's record alone: it took that in from an agent.
    #[must_use]
    pub fn is_not_kept(&self) -> bool {
        matches!(self, Self::History(error) if error.is_not_found())
    }

    /// Whether the store has not, or not right, what it should have.
    fn is_of_the_store(&self) -> bool {
        match self {
            Self::Damaged | Self::Encode(EncodeError::Blob(_) | EncodeError::Read { .. }) => true,
            Self::Encode(EncodeError::Compress(_) | EncodeError::Stopped)
            | Self::Unknown(_)
            | Self::History(_)
            | Self::Lost { .. }
            | Self::Frame(_)
            | Self::Closed(_) => false,
        }
    }

    /// Returns what is said of it to people, where the agent is not to wait for the same push again and
    /// again without a word.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        if self.is_not_kept() {
            let message =
                "the source was restored from a backup, and has not the files of this release";
            let hint = "`codevol push --thaw` publishes the tree, which reaches it";
            let failure = Failure::new("not-kept", message);
            // Asking for it again brings nothing: the node waits for the next release, or for a source
            // that has the files.
            return Some(Failure {
                hint: Some(Text::cut(hint)),
                retryable: false,
                ..failure
            });
        }
        let Self::Lost { files, first } = self else {
            return None;
        };
        let more = match files.saturating_sub(1) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "the source's store has lost `{first}`{more}, and the tree has it otherwise now"
        );
        let hint =
            "publish the tree as it is; or put the file back into it, or STATE from a backup";
        Some(Failure {
            hint: Some(Text::cut(hint)),
            ..Failure::new("lost", message)
        })
    }
}

/// Sends a release as [`send`] does, and where the store has lost something for that, once more with what
/// the tree still has.
///
/// # Errors
/// As [`send`].
pub async fn send_or_mend(
    link: &Link,
    volume: &Volume,
    mut wanted: Wanted,
) -> Result<(), PushError> {
    let (history, deltas) = (&volume.history, &volume.deltas);
    let failed = match send(link, history, deltas, wanted.clone()).await {
        Err(error) if error.is_of_the_store() => error,
        sent => return sent,
    };
    let suspected = wanted.missing.clone();
    let mended = match volume.publisher.mend(wanted.release, suspected).await {
        Ok(mended) => mended,
        Err(why) => {
            let (release, why) = (wanted.release, why.causes.first().unwrap_or(&why.message));
            warn!(volume = %wanted.volume, %release, %why, "what the store has lost cannot be taken from the tree");
            return Err(failed);
        }
    };
    if let Some(first) = mended.lost.first() {
        return Err(PushError::Lost {
            files: mended.lost.len(),
            first: first.clone(),
        });
    }
    deltas.forget();
    let without = block_in_place(|| without_old(history, &wanted))?;
    wanted.missing.extend(without);
    wanted.start = Position::default();
    send(link, history, deltas, wanted).await
}

/// Returns the blobs of the release that have to travel whole, as the old file at their path, which the
/// agent holds, is lost here.
fn without_old(history: &History, wanted: &Wanted) -> Result<BTreeSet<BlobId>, PushError> {
    let release = history.by_id(wanted.release);
    let release = release.ok_or(PushError::Unknown(wanted.release))?;
    let Some((_, base)) = best_base(history, &wanted.held, &release) else {
        return Ok(BTreeSet::new());
    };
    let manifest = history.manifest(release.release().manifest)?;
    let mut without = BTreeSet::new();
    for (path, entry) in manifest.entries() {
        let old = base.entry(path).filter(|old| *old != entry);
        let (
            Some(blob),
            Some(Entry::File {
                blob: old, size, ..
            }),
        ) = (entry.blob(), old)
        else {
            continue;
        };
        if history.blobs().size(*old).map_err(EncodeError::from)? != Some(*size) {
            without.insert(blob);
        }
    }
    Ok(without)
}

/// Sends a release. Dropped before the end, it resets the stream.
///
/// # Errors
/// When something cannot be read, encoded or sent.
async fn send(
    link: &Link,
    history: &Arc<History>,
    deltas: &Arc<Deltas>,
    wanted: Wanted,
) -> Result<(), PushError> {
    let Wanted {
        volume,
        release,
        held,
        missing,
        start,
    } = wanted;
    let release = history.by_id(release).ok_or(PushError::Unknown(release))?;
    // An agent that got them would find them wrong once more.
    let is_sound = |blob: &BlobId| history.blobs().check(*blob).is_ok();
    if !block_in_place(|| missing.iter().all(is_sound)) {
        return Err(PushError::Damaged);
    }
    let base = best_base(history, &held, &release);
    let target = (
        release.release().manifest,
        history.manifest(release.release().manifest)?,
    );
    let base_manifest = base
        .as_ref()
        .map(|(base, manifest)| (base.release().manifest, manifest.clone()));
    let delta = deltas.delta(base_manifest, target, &missing);

    let manifest = release.release().manifest;
    let same_manifest = base
        .as_ref()
        .is_some_and(|(base, _)| base.release().manifest == manifest);
    let head = PushHead {
        volume,
        release: release.signed().clone(),
        base: base.as_ref().map(|(base, _)| base.id()),
        same_manifest,
        start,
        missing: missing.into_iter().collect(),
    };
    let mut stream = link.open_push().await?;
    stream.write(&head).await?;
    if !same_manifest {
        for frame in delta.manifest_frames().await?.iter() {
            stream.write_bytes(frame).await?;
        }
    }
    for group in 0..delta.groups() {
        for frame in delta.frames(group, start, history.blobs()).await? {
            stream.write_bytes(&frame).await?;
        }
    }
    stream.finish().await?;
    Ok(())
}

/// Picks the held release with the same tree, so that nothing travels; else the newest one that the
/// source still keeps whole.
fn best_base(
    history: &History,
    held: &[ReleaseId],
    target: &Published,
) -> Option<(Arc<Published>, Arc<Manifest>)> {
    let held = held.iter().filter_map(|id| history.by_id(*id));
    let mut held: Vec<Arc<Published>> = held.collect();
    let wanted = target.release().manifest;
    held.sort_by_key(|base| Reverse((base.release().manifest == wanted, base.seq())));
    held.into_iter().find_map(|base| {
        let manifest = history.manifest(base.release().manifest).ok()?;
        Some((base, manifest))
    })
}
