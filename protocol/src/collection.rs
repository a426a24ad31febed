//! What a garbage collection deleted, or would delete.

use serde::{Deserialize, Serialize};

use crate::id::ReleaseId;
use crate::name::VolumeName;
use crate::release::Seq;

/// How many releases a collection names; the rest is counted.
pub const NAMED_MAX: usize = 1_000;

/// What a collection of one volume deleted, or would delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// The volume.
    pub volume: VolumeName,
    /// Whether nothing was deleted: it was only looked.
    pub dry_run: bool,
    /// Releases whose files go, oldest first. On a source their records stay.
    pub releases: Vec<Named>,
    /// How many more there are than are named.
    pub releases_more: u64,
    /// Releases that would go, but are in use by some process. They go when that has ended.
    pub in_use: Vec<Named>,
    /// How many blobs go that belong to no release that is kept. On an agent: none has any.
    pub blobs: u64,
    /// How much room that makes, in bytes.
    pub bytes: u64,
}

impl Collection {
    /// Begins one in which nothing goes.
    #[must_use]
    pub const fn new(volume: VolumeName, dry_run: bool) -> Self {
        Self {
            volume,
            dry_run,
            releases: Vec::new(),
            releases_more: 0,
            in_use: Vec::new(),
            blobs: 0,
            bytes: 0,
        }
    }

    /// Whether nothing goes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.blobs == 0 && self.bytes == 0
    }

    /// Sets which releases go.
    pub fn set_releases(&mut self, mut releases: Vec<Named>) {
        releases.sort_by_key(|named| named.release);
        let more = releases.len().saturating_sub(NAMED_MAX);
        releases.truncate(NAMED_MAX);
        self.releases_more = more as u64;
        self.releases = releases;
    }
}

/// A release, by its place and by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its place.
    pub release: Seq,
    /// Its id.
    pub id: ReleaseId,
}
