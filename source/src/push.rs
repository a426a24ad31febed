//! One push: a release sent to one agent on one stream, with no question first.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::delta::Position;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::message::PushHead;
use codevol_protocol::name::VolumeName;
use codevol_transport::{CloseReason, FrameError, Link};

use crate::encode::{Deltas, EncodeError};
use crate::history::{History, HistoryError, Published};

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
}

/// Sends a release. Dropped before the end, it resets the stream.
///
/// # Errors
/// When something cannot be read, encoded or sent.
pub async fn send(
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
