//! What travels for a release: the manifest and each piece of the delta plan as zstd frames with
//! the old bytes as prefix. A delta is encoded once, piece by piece as it is first wanted, and
//! shared by all agents that have the same base.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use codevol_protocol::delta::{self, Cut, Piece, Plan, Position};
use codevol_protocol::id::{BlobId, ManifestId};
use codevol_protocol::limits::{SEGMENT_BYTES, SEGMENT_MARGIN_BYTES};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::patch::{self, Compressor, PatchError};
use codevol_store::blobs::{BlobError, Blobs};
use tokio::sync::OnceCell;

/// Pieces are encoded in groups of about this many plain bytes: one hop to another thread each.
const GROUP_BYTES: u64 = 1 << 20;
/// Less than this is encoded where it is wanted: sooner done than handed to another thread.
const INLINE_BYTES: u64 = 64 << 10;
/// About how long an entry of a manifest is.
const ENTRY_BYTES: u64 = 64;
/// A delta of more plain bytes is encoded anew for each agent rather than kept in memory.
const SHARED_BYTES_MAX: u64 = 256 << 20;
/// A delta of at most so many plain bytes is kept for the agents that come later; a larger one goes
/// with the last push of it.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// How many deltas are known.
const DELTAS_MAX: usize = 4;

/// A delta could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A blob that the log promises cannot be opened.
    #[error("cannot open a stored blob")]
    Blob(#[from] BlobError),
    /// A blob cannot be read.
    #[error("cannot read blob {}", blob.short())]
    Read {
        /// Which.
        blob: BlobId,
        /// Why.
        source: io::Error,
    },
    /// zstd failed.
    #[error("cannot compress")]
    Compress(#[from] PatchError),
    /// The encoder's thread died.
    #[error("encoder stopped")]
    Stopped,
}

/// One manifest and one base: what an agent that holds the base needs.
#[derive(Debug)]
pub struct Delta {
    base: Option<Arc<Manifest>>,
    manifest: Arc<Manifest>,
    groups: Vec<Group>,
    shared: bool,
    kept: bool,
    manifest_frames: OnceCell<Arc<Vec<Vec<u8>>>>,
}

#[derive(Debug)]
struct Group {
    pieces: Vec<Piece>,
    frames: OnceCell<Arc<Vec<Vec<u8>>>>,
}

impl Delta {
    fn new(
        base: Option<Arc<Manifest>>,
        manifest: Arc<Manifest>,
        missing: &BTreeSet<BlobId>,
    ) -> Self {
        let plan = delta::plan_without(base.as_deref(), &manifest, missing, Cut::default());
        let bytes = plan.received_bytes();
        let shared = missing.is_empty() && bytes <= SHARED_BYTES_MAX;
        let kept = bytes <= KEPT_BYTES_MAX;
        let groups = groups(&plan);
        Self {
            base,
            manifest,
            groups,
            shared,
            kept,
            manifest_frames: OnceCell::new(),
        }
    }

    /// Returns how many groups of pieces there are.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns the manifest as frames, with the base's as prefix.
    ///
    /// # Errors
    /// When zstd fails.
    pub async fn manifest_frames(&self) -> Result<Arc<Vec<Vec<u8>>>, EncodeError> {
        let encode = || async {
            let (manifest, base) = (self.manifest.clone(), self.base.clone());
            let bytes = manifest.entries().len() as u64 * ENTRY_BYTES;
            encoded(bytes, move || encode_manifest(&manifest, base.as_deref())).await
        };
        self.manifest_frames.get_or_try_init(encode).await.cloned()
    }

    /// Returns the frames of one group, from a position on.
    ///
    /// # Errors
    /// When a stored blob cannot be read or zstd fails.
    pub async fn frames(
        &self,
        group: usize,
        from: Position,
        blobs: &Arc<Blobs>,
    ) -> Result<Vec<Vec<u8>>, EncodeError> {
        let Some(group) = self.groups.get(group) else {
            return Ok(Vec::new());
        };
        let behind = group
            .pieces
            .iter()
            .filter(|piece| piece.position < from)
            .count();
        if behind == group.pieces.len() {
            return Ok(Vec::new());
        }
        let encode = || async {
            let (pieces, blobs) = (group.pieces.clone(), blobs.clone());
            let (manifest, base) = (self.manifest.clone(), self.base.clone());
            let bytes = pieces.iter().map(|piece| piece.length).sum();
            encoded(bytes, move || {
                let mut compressor = Compressor::default();
                let mut encode = |piece: &Piece| {
                    let (plain, prefix) = read_piece(piece, &manifest, base.as_deref(), &blobs)?;
                    Ok(compressor.compress(&plain, &prefix)?)
                };
                pieces.iter().map(&mut encode).collect()
            })
            .await
        };
        let frames = if self.shared {
            group.frames.get_or_try_init(encode).await?.clone()
        } else {
            encode().await?
        };
        Ok(frames.iter().skip(behind).cloned().collect())
    }
}

/// Encodes so many plain bytes, on a thread for such work unless they are few.
async fn encoded<F>(bytes: u64, work: F) -> Result<Arc<Vec<Vec<u8>>>, EncodeError>
where
    F: FnOnce() -> Result<Vec<Vec<u8>>, EncodeError> + Send + 'static,
{
    if bytes <= INLINE_BYTES {
        return work().map(Arc::new);
    }
    let frames = tokio::task::spawn_blocking(work)
        .await
        .or(Err(EncodeError::Stopped))?;
    frames.map(Arc::new)
}

fn groups(plan: &Plan) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = GROUP_BYTES;
    for piece in plan.pieces_from(Position::default()) {
        if bytes >= GROUP_BYTES {
            groups.push(Group {
                pieces: Vec::new(),
                frames: OnceCell::new(),
            });
            bytes = 0;
        }
        bytes += piece.length;
        if let Some(group) = groups.last_mut() {
            group.pieces.push(piece);
        }
    }
    groups
}

/// Cuts the manifest as a large file is cut, each segment with the base manifest's same range as
/// its prefix.
fn encode_manifest(
    manifest: &Manifest,
    base: Option<&Manifest>,
) -> Result<Vec<Vec<u8>>, EncodeError> {
    let plain = manifest.encode();
    let old = base.map(Manifest::encode).unwrap_or_default();
    let frames = delta::byte_segments(plain.len(), old.len()).map(|(range, prefix)| {
        let plain = plain.get(range).unwrap_or_default();
        let prefix = old.get(prefix).unwrap_or_default();
        Ok(patch::compress(plain, prefix)?)
    });
    frames.collect()
}

/// Reads the bytes of a piece, and its prefix.
fn read_piece(
    piece: &Piece,
    manifest: &Manifest,
    base: Option<&Manifest>,
    blobs: &Blobs,
) -> Result<(Vec<u8>, Vec<u8>), EncodeError> {
    let index = usize::try_from(piece.position.entry).unwrap_or(usize::MAX);
    let blob = manifest
        .entries()
        .get(index)
        .and_then(|(_, entry)| entry.blob());
    let plain = match blob {
        Some(blob) => read_range(blobs, blob, piece.offset, piece.length)?,
        None => Vec::new(),
    };
    let old = piece.prefix.as_ref().and_then(|range| {
        let blob = base?.entry(&range.path)?.blob()?;
        Some((blob, range.offset, range.length))
    });
    let prefix = match old {
        Some((blob, offset, length)) => read_range(blobs, blob, offset, length)?,
        None => Vec::new(),
    };
    Ok((plain, prefix))
}

fn read_range(
    blobs: &Blobs,
    blob: BlobId,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, EncodeError> {
    // A piece and its prefix are bounded by the cut: never more than a segment and its margins.
    let length = length.min(SEGMENT_BYTES + 2 * SEGMENT_MARGIN_BYTES);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let file: File = blobs.open_file(blob)?;
    file.read_exact_at(&mut bytes, offset)
        .map_err(|source| EncodeError::Read { blob, source })?;
    Ok(bytes)
}

/// The deltas that were wanted last.
#[derive(Debug, Default)]
pub struct Deltas {
    recent: Mutex<VecDeque<Recent>>,
}

/// Which delta it is, and the delta as long as somebody has it.
type Recent = (Key, Weak<Delta>, Option<Arc<Delta>>);
type Key = (Option<ManifestId>, ManifestId);

impl Deltas {
    /// Forgets what was encoded: it may be of bytes that were wrong.
    pub fn forget(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.clear();
    }

    /// Returns the delta from a base to a manifest; `missing` names blobs of the base that the
    /// agent found damaged, and makes the delta that agent's own.
    #[must_use]
    pub fn delta(
        &self,
        base: Option<(ManifestId, Arc<Manifest>)>,
        target: (ManifestId, Arc<Manifest>),
        missing: &BTreeSet<BlobId>,
    ) -> Arc<Delta> {
        let key = (base.as_ref().map(|(id, _)| *id), target.0);
        let base = base.map(|(_, manifest)| manifest);
        if !missing.is_empty() {
            return Arc::new(Delta::new(base, target.1, missing));
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = recent.iter().filter(|(known, ..)| *known == key);
        if let Some(delta) = known.find_map(|(_, delta, _)| delta.upgrade()) {
            return delta;
        }
        let delta = Arc::new(Delta::new(base, target.1, missing));
        let kept = delta.kept.then(|| delta.clone());
        recent.retain(|(known, ..)| *known != key);
        recent.push_front((key, Arc::downgrade(&delta), kept));
        recent.truncate(DELTAS_MAX);
        delta
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::manifest::Entry;

    use super::*;

    fn tree(size: u64) -> (ManifestId, Arc<Manifest>) {
        let blob = BlobId::of(&size.to_le_bytes());
        let executable = false;
        let file = Entry::File {
            blob,
            size,
            executable,
        };
        let manifest = Manifest::new(vec![("a.py".parse().unwrap(), file)]).unwrap();
        (manifest.id(), Arc::new(manifest))
    }

    /// Whether who comes after the last push gets the delta that was encoded for it.
    fn is_kept(bytes: u64) -> bool {
        let (deltas, none) = (Deltas::default(), BTreeSet::new());
        let first = deltas.delta(None, tree(bytes), &none);
        let second = deltas.delta(None, tree(bytes), &none);
        assert!(Arc::ptr_eq(&first, &second), "both push at once");
        let gone = Arc::downgrade(&first);
        drop((first, second));
        gone.upgrade().is_some()
    }

    #[test]
    fn a_small_delta_is_kept_for_who_comes_later_and_a_large_one_takes_no_memory() {
        assert!(is_kept(KEPT_BYTES_MAX));
        assert!(!is_kept(KEPT_BYTES_MAX + 1));
    }

    #[test]
    fn a_delta_for_damage_is_the_agents_own() {
        let (deltas, target) = (Deltas::default(), tree(3));
        let missing = BTreeSet::from([BlobId::of(b"x")]);
        let own = deltas.delta(Some(tree(2)), target.clone(), &missing);
        let all = deltas.delta(Some(tree(2)), target, &BTreeSet::new());
        assert!(!Arc::ptr_eq(&own, &all));
    }
}
