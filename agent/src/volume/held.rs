//! The record and the manifest of each release that is held or on its way, one file a release. They
//! are read back at start; nothing in them is believed that their own hashes do not prove.

use std::io::Write as _;
use std::sync::Arc;

use codevol_protocol::codec;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::MANIFEST_BYTES_MAX;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::release::{Release, SignedRelease, VerifiedRelease, dir_name};
use codevol_store::blanks::Blanks;
use codevol_store::dir::{Dir, DirError};
use codevol_store::together::Together;

/// Room for the record before the manifest, in bytes.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// A release that this node holds, or is about to.
#[derive(Debug)]
pub struct Held {
    id: ReleaseId,
    release: Release,
    signed: SignedRelease,
    manifest: Manifest,
    base: Option<ReleaseId>,
}

impl Held {
    pub(super) fn new(
        verified: &VerifiedRelease,
        manifest: Manifest,
        base: Option<ReleaseId>,
    ) -> Self {
        Self {
            id: verified.id(),
            release: verified.release().clone(),
            signed: verified.signed().clone(),
            manifest,
            base,
        }
    }

    /// Makes this node's own baseline; nothing where the record is none, or of another tree.
    pub(super) fn baseline(signed: SignedRelease, manifest: Manifest) -> Option<Self> {
        let release = signed.read_baseline().ok()?;
        release.admits(&manifest).ok()?;
        Some(Self {
            id: signed.id(),
            release,
            signed,
            manifest,
            base: None,
        })
    }

    /// Returns the release's id.
    #[must_use]
    pub const fn id(&self) -> ReleaseId {
        self.id
    }

    /// Returns the record.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// Returns the record as it travelled. Its signature was checked when it came, by the trust
    /// record of that time.
    #[must_use]
    pub const fn signed(&self) -> &SignedRelease {
        &self.signed
    }

    /// Returns the tree.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the release that it was planned upon.
    #[must_use]
    pub const fn base(&self) -> Option<ReleaseId> {
        self.base
    }

    /// Returns the name of its directory.
    #[must_use]
    pub fn dir_name(&self) -> String {
        dir_name(self.release.seq, &self.id)
    }

    /// Writes the file; durable only after a later sync.
    pub(super) fn write(&self, records: &Dir, blanks: &Blanks) -> Result<(), DirError> {
        let name = self.id.to_string();
        records.remove_file(&name)?;
        let mut bytes = codec::encode(&(&self.signed, self.base));
        bytes.extend(self.manifest.encode());
        let mut file = blanks.create_file(records, &name, 0o600)?;
        file.write_all(&bytes).map_err(|source| DirError::Io {
            action: "write",
            path: name,
            source,
        })
    }

    /// Adds the file and its name to what is to be made durable.
    pub(super) fn add_to(&self, together: &mut Together, records: &Dir) -> Result<(), DirError> {
        together.add_file(records, &self.id.to_string())?;
        together.add_dir("records", records)
    }

    /// Reads a file back; nothing where it does not prove itself. Trees are alike: it takes the texts of
    /// its paths from another one, where it has the same.
    pub(super) fn read(
        records: &Dir,
        id: ReleaseId,
        like: Option<&Self>,
    ) -> Result<Option<Arc<Self>>, DirError> {
        let bytes = match records.read(&id.to_string(), RECORD_BYTES_MAX + MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(DirError::TooLong { .. } | DirError::WrongKind { .. }) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let held = Self::decode(&bytes).filter(|held| held.id == id);
        Ok(held.map(|mut held| {
            if let Some(like) = like {
                held.manifest.share_paths(like.manifest());
            }
            Arc::new(held)
        }))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        type Head = (SignedRelease, Option<ReleaseId>);
        let ((signed, base), rest) = codec::decode_head::<Head>(bytes).ok()?;
        let release = signed.read().or_else(|_| signed.read_baseline()).ok()?;
        let manifest = Manifest::decode(rest).ok()?;
        release.admits(&manifest).ok()?;
        Some(Self {
            id: signed.id(),
            release,
            signed,
            manifest,
            base,
        })
    }
}
