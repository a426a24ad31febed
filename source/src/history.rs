//! The releases of one volume: the log, the manifests and the blobs behind it, read by everyone,
//! appended to by the publisher alone.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use codevol_protocol::call::ReleaseRef;
use codevol_protocol::id::{BlobId, ManifestId, ReleaseId};
use codevol_protocol::limits::IGNORE_RULES_BYTES_MAX;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::{Release, Seq, SignedRelease};
use codevol_protocol::status::ReleaseStatus;
use codevol_protocol::trust::{ReleaseRefused, Trust};
use codevol_store::blobs::{BlobError, Blobs};
use codevol_store::dir::{Dir, DirError};
use codevol_store::landing::Landing;
use codevol_store::log::{Append, Log, LogError, Record};
use codevol_store::manifests::{Manifests, ManifestsError};
use codevol_store::wal::{Place, Wal};

/// How many decoded manifests are kept at hand.
const MANIFESTS_MAX: usize = 4;
const DIR_MODE: u32 = 0o700;

/// The history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A directory of ours cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The log.
    #[error("release log of the source is unusable")]
    Log(#[from] LogError),
    /// A manifest.
    #[error("stored manifest is unusable")]
    Manifest(#[from] ManifestsError),
    /// A blob.
    #[error("stored blob is unusable")]
    Blob(#[from] BlobError),
    /// A record that no publisher signed for this volume.
    #[error("{seq} of the log is not to be believed")]
    Untrusted {
        /// Which.
        seq: Seq,
        /// Why.
        source: Box<ReleaseRefused>,
    },
    /// Another process appended first.
    #[error("another process appended to the log first")]
    Lost,
}

impl HistoryError {
    /// Whether what was asked for is not kept any more.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Manifest(error) => error.is_not_found(),
            Self::Blob(error) => error.is_not_found(),
            Self::Dir(_) | Self::Log(_) | Self::Lost | Self::Untrusted { .. } => false,
        }
    }
}

/// A release of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    id: ReleaseId,
    release: Release,
    signed: SignedRelease,
}

impl Published {
    fn new(record: &Record) -> Self {
        Self {
            id: record.id,
            release: record.release.clone(),
            signed: record.signed.clone(),
        }
    }

    /// Returns its id.
    #[must_use]
    pub const fn id(&self) -> ReleaseId {
        self.id
    }

    /// Returns its place in the history.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.release.seq
    }

    /// Returns its record.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// Returns its record as it travels.
    #[must_use]
    pub const fn signed(&self) -> &SignedRelease {
        &self.signed
    }
}

/// What a history keeps and nothing needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surplus {
    /// Manifests.
    pub manifests: Vec<ManifestId>,
    /// Blobs.
    pub blobs: Vec<BlobId>,
    /// How much room they take, in bytes.
    pub bytes: u64,
}

/// The releases of one volume.
#[derive(Debug)]
pub struct History {
    log: Mutex<Appender>,
    manifests: Manifests,
    blobs: Arc<Blobs>,
    published: RwLock<BTreeMap<Seq, Arc<Published>>>,
    recent: Mutex<VecDeque<(ManifestId, Arc<Manifest>)>>,
}

/// What a release is appended by.
#[derive(Debug)]
struct Appender {
    log: Log,
    wal: Wal,
}

impl History {
    /// Opens the history that a directory of STATE holds, or begins one.
    ///
    /// # Errors
    /// When the directory cannot be used or the log is damaged.
    pub fn open(dir: &Dir) -> Result<Self, HistoryError> {
        let [log, manifests, blobs] =
            ["log", "manifests", "blobs"].map(|name| dir.ensure_dir(name, DIR_MODE));
        let (log, manifests, blobs) = (log?, manifests?, blobs?);
        // What a power cut took away again, and was acknowledged.
        let wal = Wal::open(dir, |put| match put.place {
            Place::Blobs => Blobs::restore(&blobs, &put.path, &put.bytes),
            Place::Manifests => Manifests::restore(&manifests, &put.path, &put.bytes),
            Place::Log => Log::restore(&log, &put.path, &put.bytes),
        })?;
        let log = Log::open(&log)?;
        let manifests = Manifests::open(&manifests)?;
        let blobs = Arc::new(Blobs::open(&blobs)?);
        let mut published = BTreeMap::new();
        for record in log.iter() {
            let release = Published::new(record);
            published.insert(release.seq(), Arc::new(release));
        }
        Ok(Self {
            log: Mutex::new(Appender { log, wal }),
            manifests,
            blobs,
            published: RwLock::new(published),
            recent: Mutex::default(),
        })
    }

    /// Returns the blobs.
    #[must_use]
    pub const fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Returns the newest release.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Published>> {
        self.read()
            .last_key_value()
            .map(|(_, release)| release.clone())
    }

    /// Returns every release, oldest first.
    #[must_use]
    pub fn releases(&self) -> Vec<Arc<Published>> {
        self.read().values().cloned().collect()
    }

    /// Returns the number of the release with this id.
    #[must_use]
    pub fn seq(&self, id: ReleaseId) -> Option<Seq> {
        self.by_id(id).map(|release| release.seq())
    }

    /// Returns the release with this id. Newest first: that is the one usually asked for.
    #[must_use]
    pub fn by_id(&self, id: ReleaseId) -> Option<Arc<Published>> {
        self.read()
            .values()
            .rev()
            .find(|release| release.id == id)
            .cloned()
    }

    /// Returns the release that a person means.
    #[must_use]
    pub fn find(&self, named: &ReleaseRef) -> Option<Arc<Published>> {
        self.read()
            .values()
            .rev()
            .find(|release| named.names(release.seq(), &release.id))
            .cloned()
    }

    /// Returns a manifest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self, id: ManifestId) -> Result<Arc<Manifest>, HistoryError> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, manifest)) = recent.iter().find(|(known, _)| *known == id) {
            return Ok(manifest.clone());
        }
        drop(recent);
        let manifest = Arc::new(self.manifests.read(id)?);
        self.remember(id, manifest.clone());
        Ok(manifest)
    }

    fn remember(&self, id: ManifestId, manifest: Arc<Manifest>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _)| *known != id);
        recent.push_front((id, manifest));
        recent.truncate(MANIFESTS_MAX);
    }

    /// Returns all manifests and blobs but these.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn surplus(
        &self,
        manifests: &BTreeSet<ManifestId>,
        blobs: &BTreeSet<BlobId>,
    ) -> Result<Surplus, HistoryError> {
        let manifests = self.manifests.surplus(manifests)?;
        let blobs = self.blobs.surplus(blobs)?;
        let bytes = |(_, bytes): &(_, u64)| *bytes;
        let of_manifests: u64 = manifests.iter().map(|(_, bytes)| *bytes).sum();
        Ok(Surplus {
            bytes: of_manifests + blobs.iter().map(bytes).sum::<u64>(),
            manifests: manifests.into_iter().map(|(id, _)| id).collect(),
            blobs: blobs.into_iter().map(|(id, _)| id).collect(),
        })
    }

    /// Removes what is not needed. The manifests go first: whatever has one has its files too.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, surplus: &Surplus) -> Result<(), HistoryError> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _)| !surplus.manifests.contains(known));
        for id in &surplus.manifests {
            self.manifests.remove(*id)?;
        }
        for id in &surplus.blobs {
            self.blobs.remove(*id)?;
        }
        Ok(())
    }

    /// Checks that trusted keys signed every release of the log, for this volume.
    ///
    /// # Errors
    /// When one is not to be believed: somebody else wrote into the log.
    pub fn verify(&self, trust: &Trust, volume: &VolumeName) -> Result<(), HistoryError> {
        for release in self.read().values() {
            let verified = trust.verify_release(release.signed(), volume);
            let seq = release.seq();
            verified.map_err(|source| HistoryError::Untrusted {
                seq,
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Returns what people are shown of a release. A manifest that cannot be read counts its
    /// entries as files.
    #[must_use]
    pub fn status(&self, release: &Published) -> ReleaseStatus {
        let record = release.release();
        let files = self
            .manifest(record.manifest)
            .map(|manifest| manifest.files() as u64);
        ReleaseStatus::new(release.id, record, files.unwrap_or(record.entries))
    }

    /// Returns the ignore rules of a release.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ignore_rules(&self, blob: BlobId) -> Result<Vec<u8>, HistoryError> {
        Ok(self.blobs.read(blob, IGNORE_RULES_BYTES_MAX)?)
    }

    /// Appends a release, durably, together with its manifest, its ignore rules and the files that
    /// are to land: none of it counts before the record has its name.
    ///
    /// # Errors
    /// When another process was faster, or the disk fails.
    pub fn append(
        &self,
        signed: &SignedRelease,
        manifest: &Arc<Manifest>,
        rules: &[u8],
        mut landing: Landing,
    ) -> Result<Arc<Published>, HistoryError> {
        let mut blob = self.blobs.batch();
        blob.put(&mut &*rules)?;
        blob.land(&mut landing);
        let id = self.manifests.land(manifest, &mut landing)?;
        let mut appender = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let Appender { log, wal } = &mut *appender;
        let next = log.prepare(signed, &mut landing)?;
        let landed = landing.commit(Some(wal))?;
        self.remember(id, manifest.clone());
        let appended = log.append(next, landed)?;
        let newest = log.newest().map(|record| Arc::new(Published::new(record)));
        let (Append::Appended, Some(release)) = (appended, newest) else {
            return Err(HistoryError::Lost);
        };
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        published.insert(release.seq(), release.clone());
        Ok(release)
    }

    /// Makes the files of which the next release will be made, while nobody waits.
    ///
    /// # Errors
    /// When none can be made: the next release makes its own then.
    pub fn prepare(&self) -> Result<(), HistoryError> {
        let appender = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(appender.wal.blanks().fill()?)
    }

    /// Takes in a record that was lost here, durably. Its files are not kept. Says whether it is in the
    /// log now.
    ///
    /// # Errors
    /// When it is no release, or the disk fails.
    pub fn take_in(&self, signed: &SignedRelease) -> Result<bool, HistoryError> {
        let mut appender = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if appender.log.take_in(signed)? != Append::Appended {
            return Ok(false);
        }
        let Some(record) = appender.log.by_id(&signed.id()) else {
            return Ok(false);
        };
        let release = Arc::new(Published::new(record));
        let published = self.published.write();
        let mut published = published.unwrap_or_else(PoisonError::into_inner);
        published.insert(release.seq(), release);
        Ok(true)
    }

    /// Returns the number above which records may be lacking: the newest, or one before a gap.
    #[must_use]
    pub fn whole_up_to(&self) -> Seq {
        let appender = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = appender.log.newest().map(|newest| newest.release.seq);
        appender.log.before_gap().or(newest).unwrap_or(Seq(0))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Seq, Arc<Published>>> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
