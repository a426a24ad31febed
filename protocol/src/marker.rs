//! The release's marker: `.codevol-release.json` at the root of each release directory and of each sealed
//! release, for people, for Python code, and for the lock by which a process says that it uses the
//! release. It is no part of the manifest.

use serde::{Deserialize, Serialize};

use crate::id::{ManifestId, ReleaseId};
use crate::manifest::Manifest;
use crate::name::{Text, VolumeName};
use crate::release::{Git, Origin, Release, Seq, UnixMillis};

/// The file's name.
pub const MARKER: &str = ".codevol-release.json";
/// What the file says it is.
pub const MARKER_SCHEMA: &str = "codevol.release/1";

/// What the file says of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// [`MARKER_SCHEMA`].
    pub schema: Text,
    /// The volume.
    pub volume: VolumeName,
    /// The release's place in the history.
    pub seq: Seq,
    /// The release.
    pub id: ReleaseId,
    /// Its tree.
    pub manifest: ManifestId,
    /// The release before it.
    pub parent: Option<ReleaseId>,
    /// What made it.
    pub origin: Origin,
    /// When it was published, by the publisher's word.
    pub created_at: UnixMillis,
    /// Who asked for it.
    pub author: Text,
    /// Why.
    pub message: Text,
    /// Where the tree stood in git.
    pub git: Option<Git>,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
}

impl Marker {
    /// Returns the marker of a release.
    #[must_use]
    pub fn new(id: ReleaseId, release: &Release, manifest: &Manifest) -> Self {
        Self {
            schema: Text::cut(MARKER_SCHEMA),
            volume: release.volume.clone(),
            seq: release.seq,
            id,
            manifest: release.manifest,
            parent: release.parent,
            origin: release.origin,
            created_at: release.created_at,
            author: release.author.clone(),
            message: release.message.clone(),
            git: release.git.clone(),
            files: manifest.files() as u64,
            bytes: release.total_bytes,
        }
    }
}
