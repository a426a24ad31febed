//! Staging: a release on its way to being held. What is received lies in `incoming/<id>/blobs` until
//! all is there; `finish` builds the tree, makes it durable and only then gives it its name.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use codevol_protocol::delta::{Plan, Position, PrefixRange, plan_without};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_protocol::release::{ReleaseError, Seq, VerifiedRelease};
use codevol_store::dir::{Dir, DirError};

use super::check::{Checks, Stamps};
use super::cursor::Cursor;
use super::held::Held;
use super::incoming::{Incoming, Target};
use super::places::{BLOBS, Places};
use super::{Root, current_name, drift, lease};

/// Why a release is not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Nothing to do.
    #[error("the release is held already")]
    AlreadyHeld,
    /// Two releases say that they are the same step of the history: an alarm.
    #[error("{seq} is held with another id, {held}")]
    OtherAtSeq {
        /// The step.
        seq: Seq,
        /// What is held.
        held: ReleaseId,
    },
    /// The manifest is not the release's.
    #[error("the manifest is not the release's")]
    Manifest(#[from] ReleaseError),
    /// The release that the new one builds upon is not held.
    #[error("base {0} is not held")]
    UnknownBase(ReleaseId),
    /// Too large for the disk. Nothing was written.
    #[error("{needed_bytes} bytes are needed, {free_bytes} are free")]
    NoSpace {
        /// How many bytes must be received.
        needed_bytes: u64,
        /// How many may be written.
        free_bytes: u64,
    },
    /// `current` names the directory that the release needs, and it is not this release.
    #[error("`releases/{0}` is in use and is not the release of that name")]
    Occupied(String),
    /// The peer sent a piece for a place at which none travels, or not in order.
    #[error("a piece at entry {}, segment {} is out of order", .0.entry, .0.segment)]
    OutOfOrder(Position),
    /// The bytes are not those of the blob; they were dropped, and it must be sent whole.
    #[error("the bytes received for blob {0} are not its own")]
    WrongBytes(BlobId),
    /// These blobs must be sent whole: they were not received, or what is held of them is damaged.
    #[error("{} blobs are missing or damaged on disk", .0.len())]
    Missing(Vec<BlobId>),
    /// The disk.
    #[error("the disk failed")]
    Dir(#[from] DirError),
}

impl StageError {
    /// Whether the same may succeed when it is tried again, perhaps after its cause is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::WrongBytes(_) | Self::Missing(_) => true,
            // What failed is thrown away and done anew, also after a failed sync.
            Self::Dir(error) => error.errno().is_some(),
            Self::AlreadyHeld
            | Self::OtherAtSeq { .. }
            | Self::Manifest(_)
            | Self::UnknownBase(_)
            | Self::Occupied(_)
            | Self::OutOfOrder(_) => false,
        }
    }
}

/// A release on its way. Dropping it keeps what it has received for a later attempt;
/// [`Root::discard`] does not.
#[derive(Debug)]
pub struct Staging {
    pub(super) places: Arc<Places>,
    pub(super) next: Arc<Held>,
    pub(super) base: Option<Base>,
    pub(super) plan: Plan,
    pub(super) incoming: Incoming,
    /// The release's directory below incoming.
    pub(super) dir: Dir,
    missing: BTreeSet<BlobId>,
    /// Whether the release is held, and only bytes of it were lost.
    pub(super) mends: bool,
}

/// The held release that the new one builds upon.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) held: Arc<Held>,
    pub(super) dir: Dir,
    pub(super) checks: Checks,
    pub(super) stamps: Arc<Stamps>,
    /// Keeps the release from being collected meanwhile.
    _in_use: Option<File>,
}

impl Root {
    /// Begins, or takes up again, the staging of a release. Other unfinished ones are discarded.
    ///
    /// # Errors
    /// When it is held already, does not add up, or there is no room; nothing is written then.
    pub fn begin(
        &mut self,
        release: &VerifiedRelease,
        mut manifest: Manifest,
        base: Option<ReleaseId>,
    ) -> Result<Staging, StageError> {
        let (id, seq) = (release.id(), release.release().seq);
        if self.held.contains_key(&id) {
            return Err(StageError::AlreadyHeld);
        }
        if let Some(other) = self.held.values().find(|held| held.release().seq == seq) {
            let held = other.id();
            return Err(StageError::OtherAtSeq { seq, held });
        }
        release.release().admits(&manifest)?;
        if let Some(base) = base.and_then(|base| self.held.get(&base)) {
            manifest.share_paths(base.manifest());
        }
        let next = Arc::new(Held::new(release, manifest, base));
        self.clear_the_way(&next)?;
        self.discard_unfinished(Some(id))?;
        let begun = self.open_new(next);
        if begun.is_err() {
            self.places.abandon(id);
        }
        begun
    }

    fn open_new(&self, next: Arc<Held>) -> Result<Staging, StageError> {
        let staging = self.open_staging(Arc::clone(&next), next.base())?;
        staging.check_space()?;
        self.places.step()?;
        next.write(&self.places.records, &self.places.blanks)?;
        Ok(staging)
    }

    /// Sees to it that the release's name is free. A directory that has it without a record is the
    /// release itself where it matches; else it gives way, unless `current` names it.
    fn clear_the_way(&mut self, next: &Arc<Held>) -> Result<(), StageError> {
        let name = next.dir_name();
        let dir = match self.places.releases.open_dir(&name) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_whole = drift::matches(&dir, next.manifest())?;
        let is_current = current_name(&self.places)?.as_ref() == Some(&name);
        if is_whole {
            next.write(&self.places.records, &self.places.blanks)?;
            // It may have got its name, and then not have been made durable.
            self.places.root.sync_filesystem()?;
            self.held.insert(next.id(), Arc::clone(next));
            if is_current {
                self.active = Some(next.id());
            }
            return Err(StageError::AlreadyHeld);
        }
        if is_current {
            return Err(StageError::Occupied(name));
        }
        Ok(self.places.discard(&self.places.releases, &name)?)
    }

    /// Drops what was received of a release that is not wanted any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn discard(&self, staging: Staging) -> Result<(), DirError> {
        if staging.mends {
            return self.places.remove_received(staging.next.id());
        }
        self.places.remove_staging(staging.next.id())
    }

    /// Opens what there is of a release below incoming.
    pub(super) fn open_staging(
        &self,
        next: Arc<Held>,
        base: Option<ReleaseId>,
    ) -> Result<Staging, StageError> {
        let places = Arc::clone(&self.places);
        let (dir, blobs) = places.staging(next.id())?;
        let base = match base {
            Some(id) => Some(self.open_base(id)?.ok_or(StageError::UnknownBase(id))?),
            None => None,
        };
        let incoming = Incoming::resume(blobs, next.manifest(), self.cut)?;
        let missing = BTreeSet::new();
        let old = base.as_ref().map(|base| base.held.manifest());
        Ok(Staging {
            plan: plan_without(old, next.manifest(), &missing, self.cut),
            places,
            next,
            base,
            incoming,
            dir,
            missing,
            mends: false,
        })
    }

    /// Opens a held release to build upon; nothing where it is not held.
    pub(super) fn open_base(&self, id: ReleaseId) -> Result<Option<Base>, DirError> {
        let Some(held) = self.held.get(&id) else {
            return Ok(None);
        };
        let dir = self.places.releases.open_dir(&held.dir_name())?;
        Ok(Some(Base {
            held: Arc::clone(held),
            checks: Checks::default(),
            stamps: self.stamps_of(id),
            _in_use: lease::use_release(&dir)?,
            dir,
        }))
    }
}

impl Staging {
    /// Whether the release is held already, and only bytes of it are taken.
    #[must_use]
    pub const fn mends(&self) -> bool {
        self.mends
    }

    /// Returns the release that this is to become.
    #[must_use]
    pub fn release(&self) -> &Held {
        &self.next
    }

    /// Returns the plan by which it comes about.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the first place of the plan whose piece is not here; the end where all are.
    #[must_use]
    pub fn position(&self) -> Position {
        self.incoming.position(&self.plan, self.next.manifest())
    }

    /// Returns bytes of the base, for a decompressor's prefix. They were verified.
    ///
    /// # Errors
    /// [`StageError::Missing`] where the base is damaged: the file at that path must be sent whole.
    pub fn base_range(&mut self, range: &PrefixRange) -> Result<Vec<u8>, StageError> {
        let bytes = match &mut self.base {
            Some(base) => base.range(range)?,
            None => None,
        };
        if let Some(bytes) = bytes {
            return Ok(bytes);
        }
        let blobs: Vec<BlobId> = self
            .next
            .manifest()
            .entry(&range.path)
            .and_then(Entry::blob)
            .into_iter()
            .collect();
        self.ask_for(&blobs);
        Err(StageError::Missing(blobs))
    }

    /// Takes a piece of the plan: the plain bytes. They are verified before they count; a piece that
    /// is here already is passed over.
    ///
    /// # Errors
    /// [`StageError::WrongBytes`] where they are not the blob's; the staging goes on without them.
    /// After [`StageError::Dir`] it is over, and what it held is removed.
    pub fn write(&mut self, position: Position, bytes: &[u8]) -> Result<(), StageError> {
        let piece = self.plan.piece(position);
        let piece = piece.ok_or(StageError::OutOfOrder(position))?;
        let index = usize::try_from(position.entry).unwrap_or(usize::MAX);
        let entry = self.next.manifest().entries().get(index);
        let Some(&(_, Entry::File { blob, size, .. })) = entry else {
            return Err(StageError::OutOfOrder(position));
        };
        let target = Target { blob, size };
        let cut = self.plan.cut();
        let step = self.places.step().map_err(StageError::from);
        let blanks = &self.places.blanks;
        let written = step.and_then(|()| self.incoming.write(target, (&piece, cut), bytes, blanks));
        match &written {
            Err(StageError::WrongBytes(_)) => self.ask_for(&[blob]),
            Err(StageError::Dir(_)) => self.abandon(),
            _ => {}
        }
        written
    }

    /// Refuses what does not fit.
    pub(super) fn check_space(&self) -> Result<(), StageError> {
        let pieces = self.plan.pieces_from(self.position());
        let needed_bytes = pieces.map(|piece| piece.length).sum();
        let free_bytes = self.places.free_bytes()?;
        if needed_bytes > free_bytes {
            return Err(StageError::NoSpace {
                needed_bytes,
                free_bytes,
            });
        }
        Ok(())
    }

    /// Removes what was received, after a failure: it may be what fills the disk.
    pub(super) fn abandon(&self) {
        let id = self.next.id();
        if !self.mends {
            return self.places.abandon(id);
        }
        // Its record stays: it is held.
        if let Err(error) = self.places.remove_received(id) {
            tracing::warn!(release = %id, error = %error, "leftovers of mending stay");
        }
    }

    /// Whether a blob was received, whole and verified.
    pub(super) fn has(&self, blob: BlobId) -> bool {
        self.incoming.has(blob)
    }

    /// Opens the directory of what was received.
    pub(super) fn received(&self) -> Result<Dir, DirError> {
        self.dir.open_dir(BLOBS)
    }

    /// Plans anew so that these blobs travel whole.
    pub fn ask_for(&mut self, blobs: &[BlobId]) {
        self.missing.extend(blobs);
        let old = self.base.as_ref().map(|base| base.held.manifest());
        let (new, cut) = (self.next.manifest(), self.plan.cut());
        self.plan = plan_without(old, new, &self.missing, cut);
    }

    /// Returns the blobs that were found damaged or came wrong, and had to be sent whole.
    pub(super) const fn resent(&self) -> &BTreeSet<BlobId> {
        &self.missing
    }
}

impl Base {
    /// Whether the file at a path still holds what its entry says.
    pub(super) fn is_good(
        &mut self,
        tree: &mut Cursor<'_>,
        path: &RelPath,
    ) -> Result<bool, DirError> {
        let entries = self.held.manifest().entries();
        let Ok(index) = entries.binary_search_by(|(p, _)| p.cmp(path)) else {
            return Ok(false);
        };
        let Some((path, entry)) = entries.get(index) else {
            return Ok(false);
        };
        let stamp = self.stamps.get(index).copied().flatten();
        let stat = self.checks.check(tree, (path, entry), stamp)?;
        Ok(stat.is_some())
    }

    fn range(&mut self, range: &PrefixRange) -> Result<Option<Vec<u8>>, DirError> {
        let path = range.path.as_str();
        let dir = self.dir.try_clone()?;
        if !self.is_good(&mut Cursor::new(&dir), &range.path)? {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(range.length).unwrap_or(0)];
        let read = self
            .dir
            .open_file(path)
            .map(|file| file.read_exact_at(&mut bytes, range.offset));
        match read? {
            Ok(()) => Ok(Some(bytes)),
            Err(_) => Ok(None),
        }
    }
}
