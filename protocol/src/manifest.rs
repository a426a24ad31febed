//! The manifest: every path of a tree with what stands there, sorted, in one canonical encoding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{BlobId, ManifestId};
use crate::limits::{ENTRIES_MAX, FILE_BYTES_MAX, MANIFEST_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::path::{LinkTarget, RelPath};

const VERSION: u8 = 1;
/// Links followed in a row before a path counts as a loop; Linux's own bound.
const LINK_HOPS_MAX: usize = 40;

/// What stands at one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its bytes, by name.
        blob: BlobId,
        /// How many bytes.
        size: u64,
        /// Whether it may be executed: 0755, else 0644.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: LinkTarget,
    },
    /// A directory that holds nothing; others are implied by what they hold.
    Dir,
}

impl Entry {
    /// Returns how many bytes of content the entry stands for.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Symlink { .. } | Self::Dir => 0,
        }
    }

    /// Returns the blob of a file.
    #[must_use]
    pub const fn blob(&self) -> Option<BlobId> {
        match self {
            Self::File { blob, .. } => Some(*blob),
            Self::Symlink { .. } | Self::Dir => None,
        }
    }
}

/// Why a list of entries is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no encoding of a manifest.
    #[error("manifest does not decode")]
    Decode(#[from] DecodeError),
    /// Paths out of order, or one twice.
    #[error("path `{0}` is out of order or stands twice")]
    Unsorted(RelPath),
    /// A path below something that is no directory, or below a directory said to be empty.
    #[error("path `{0}` lies below an entry that holds nothing")]
    BelowEntry(RelPath),
    /// A link that leaves the tree, by itself or through others.
    #[error("link `{0}` leaves the tree")]
    LinkLeaves(RelPath),
    /// More than [`ENTRIES_MAX`] entries.
    #[error("{0} entries are more than {ENTRIES_MAX}")]
    TooMany(usize),
    /// A file larger than [`FILE_BYTES_MAX`].
    #[error("file `{0}` is larger than {FILE_BYTES_MAX} bytes")]
    FileTooLarge(RelPath),
    /// Files larger than [`RELEASE_BYTES_MAX`] together.
    #[error("files are larger than {RELEASE_BYTES_MAX} bytes together")]
    ReleaseTooLarge,
}

/// A tree: sorted entries, each path once, none below a file, no link out of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    entries: Vec<(RelPath, Entry)>,
}

impl Manifest {
    /// Checks a sorted list of entries.
    ///
    /// # Errors
    /// When the list breaks a rule of the tree; the error names the path.
    pub fn new(entries: Vec<(RelPath, Entry)>) -> Result<Self, ManifestError> {
        if entries.len() > ENTRIES_MAX {
            return Err(ManifestError::TooMany(entries.len()));
        }
        check_order(&entries)?;
        check_sizes(&entries)?;
        check_links(&entries)?;
        Ok(Self { entries })
    }

    /// Reads a manifest out of its canonical bytes.
    ///
    /// # Errors
    /// When the bytes are not canonical or the entries break a rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let length = bytes.len() as u64;
        if length > MANIFEST_BYTES_MAX {
            let error = DecodeError::TooLong {
                bytes: length,
                bytes_max: MANIFEST_BYTES_MAX,
            };
            return Err(error.into());
        }
        Self::new(codec::decode_record(VERSION, bytes)?)
    }

    /// Takes from another tree the texts of those paths that both have, so that they are in memory once.
    pub fn share_paths(&mut self, other: &Self) {
        let mut others = other.entries.iter().map(|(path, _)| path).peekable();
        for (path, _) in &mut self.entries {
            while others.next_if(|other| *other < path).is_some() {}
            if let Some(same) = others.next_if(|other| *other == path) {
                *path = same.clone();
            }
        }
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_record(VERSION, &self.entries)
    }

    /// Returns the hash of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> ManifestId {
        ManifestId::of(&self.encode())
    }

    /// Returns the entries in order.
    #[must_use]
    pub fn entries(&self) -> &[(RelPath, Entry)] {
        &self.entries
    }

    /// Returns what stands at a path.
    #[must_use]
    pub fn entry(&self, path: &RelPath) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|(p, _)| p.cmp(path)).ok()?;
        self.entries.get(index).map(|(_, entry)| entry)
    }

    /// Returns the sum of the file sizes, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|(_, entry)| entry.size()).sum()
    }

    /// Returns how many files there are, links and empty directories not counted.
    #[must_use]
    pub fn files(&self) -> usize {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.blob().is_some())
            .count()
    }

    /// Whether the tree holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn check_order(entries: &[(RelPath, Entry)]) -> Result<(), ManifestError> {
    for pair in entries.windows(2) {
        let [(before, _), (path, _)] = pair else {
            continue;
        };
        if before >= path {
            return Err(ManifestError::Unsorted(path.clone()));
        }
        // The order is by component: what lies below an entry follows it at once.
        if path.is_below(before) {
            return Err(ManifestError::BelowEntry(path.clone()));
        }
    }
    Ok(())
}

fn check_sizes(entries: &[(RelPath, Entry)]) -> Result<(), ManifestError> {
    let mut total = 0_u64;
    for (path, entry) in entries {
        if entry.size() > FILE_BYTES_MAX {
            return Err(ManifestError::FileTooLarge(path.clone()));
        }
        total = total.saturating_add(entry.size());
    }
    if total > RELEASE_BYTES_MAX {
        Err(ManifestError::ReleaseTooLarge)
    } else {
        Ok(())
    }
}

fn check_links(entries: &[(RelPath, Entry)]) -> Result<(), ManifestError> {
    let links: BTreeMap<&str, &LinkTarget> = entries
        .iter()
        .filter_map(|(path, entry)| match entry {
            Entry::Symlink { target } => Some((path.as_str(), target)),
            Entry::File { .. } | Entry::Dir => None,
        })
        .collect();
    for (path, entry) in entries {
        if matches!(entry, Entry::Symlink { .. }) && link_leaves(path, &links) {
            return Err(ManifestError::LinkLeaves(path.clone()));
        }
    }
    Ok(())
}

/// Whether resolving the link, through every other link on the way, ever goes above the root. A
/// loop never does; neither does a dangling target.
fn link_leaves(link: &RelPath, links: &BTreeMap<&str, &LinkTarget>) -> bool {
    let mut todo: Vec<&str> = link.components().rev().collect();
    let mut at: Vec<&str> = Vec::new();
    let mut hops = 0;
    while let Some(component) = todo.pop() {
        match component {
            "" | "." => continue,
            ".." => {
                if at.pop().is_none() {
                    return true;
                }
                continue;
            }
            name => at.push(name),
        }
        if let Some(target) = links.get(at.join("/").as_str()) {
            hops += 1;
            if hops > LINK_HOPS_MAX {
                return false;
            }
            at.pop();
            todo.extend(target.as_str().rsplit('/'));
        }
    }
    false
}

#[cfg(test)]
pub(crate) mod tests;
