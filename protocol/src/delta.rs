//! The delta plan: how each entry of a new tree comes about on a node that holds an old one. Source
//! and agent work it out by themselves from the same two manifests, so the wire carries only pieces.
//!
//! ```text
//! old manifest + new manifest -> Plan: one step an entry -> pieces, in manifest order, on the wire
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::id::BlobId;
use crate::limits::{SEGMENT_BYTES, SEGMENT_MARGIN_BYTES};
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;

/// How one entry of the new tree comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The same file stands at the same path of the old tree.
    Keep,
    /// The old tree holds the same bytes at this path, perhaps with another mode.
    Local {
        /// Where the old tree holds them.
        from: RelPath,
    },
    /// The same bytes come earlier in this plan, perhaps with another mode.
    Again {
        /// The entry of the new manifest that receives them.
        entry: u64,
    },
    /// The bytes must travel.
    Receive {
        /// How many bytes.
        size: u64,
        /// The old file at the same path, whose bytes the sender may build upon.
        prefix: Option<Prefix>,
    },
    /// A symbolic link: the manifest says all of it.
    Symlink,
    /// An empty directory.
    Dir,
}

/// An old file that is the prefix of a new one's compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Where the old tree holds it.
    pub path: RelPath,
    /// Its size, in bytes; never 0.
    pub size: u64,
}

/// A place in a plan's pieces.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The entry's index in the new manifest.
    pub entry: u64,
    /// The segment of that entry's file.
    pub segment: u64,
}

/// One piece that travels: a whole file, or a segment of a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands in the plan.
    pub position: Position,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; 0 only for an empty file.
    pub length: u64,
    /// Which bytes of the old file are its prefix.
    pub prefix: Option<PrefixRange>,
}

/// A range of an old file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRange {
    /// Where the old tree holds the file.
    pub path: RelPath,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub length: u64,
}

/// How large files are cut. Both ends must cut alike; anything but the default is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Size of a segment, in bytes; at least 1.
    pub segment_bytes: u64,
    /// How much of the old file on both sides of a segment's range is its prefix, in bytes.
    pub margin_bytes: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            margin_bytes: SEGMENT_MARGIN_BYTES,
        }
    }
}

impl Cut {
    /// Returns how many segments a file travels in: an empty file travels in one.
    #[must_use]
    pub const fn segments(&self, size: u64) -> u64 {
        let segments = size.div_ceil(self.segment_bytes);
        if segments == 0 { 1 } else { segments }
    }

    fn piece(&self, position: Position, size: u64, prefix: Option<&Prefix>) -> Piece {
        let offset = position.segment * self.segment_bytes;
        let length = self.segment_bytes.min(size.saturating_sub(offset));
        let prefix = prefix.and_then(|prefix| {
            let from = offset.saturating_sub(self.margin_bytes);
            let to = prefix.size.min(offset + length + self.margin_bytes);
            (from < to).then(|| PrefixRange {
                path: prefix.path.clone(),
                offset: from,
                length: to - from,
            })
        });
        Piece {
            position,
            offset,
            length,
            prefix,
        }
    }
}

/// How a whole tree comes about: one step for each entry of the new manifest, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    cut: Cut,
    steps: Vec<Step>,
}

/// Plans the way from the old tree, or from nothing, to the new one.
#[must_use]
pub fn plan(old: Option<&Manifest>, new: &Manifest) -> Plan {
    plan_without(old, new, &BTreeSet::new(), Cut::default())
}

/// Plans as [`plan`] does, but has these blobs of the new tree travel whole whatever the old one
/// holds: what `Missing` asks for.
#[must_use]
pub fn plan_without(
    old: Option<&Manifest>,
    new: &Manifest,
    missing: &BTreeSet<BlobId>,
    cut: Cut,
) -> Plan {
    let at_path = same_paths(old, new);
    let elsewhere = elsewhere(old, new, &at_path, missing);
    let mut received: BTreeMap<BlobId, u64> = BTreeMap::new();
    let entries = (0..).zip(new.entries()).zip(at_path);
    let steps = entries.map(|((index, (path, entry)), old)| {
        let (blob, size, executable) = match *entry {
            Entry::File {
                blob,
                size,
                executable,
            } => (blob, size, executable),
            Entry::Symlink { .. } => return Step::Symlink,
            Entry::Dir => return Step::Dir,
        };
        let whole = missing.contains(&blob);
        if old == Some(entry) && !whole {
            return Step::Keep;
        }
        // With the same mode it can be linked, with the other one it must be copied.
        let local = [executable, !executable]
            .iter()
            .find_map(|&executable| elsewhere.get(&(blob, executable)));
        if let Some(&from) = local {
            return Step::Local { from: from.clone() };
        }
        if let Some(&entry) = received.get(&blob) {
            return Step::Again { entry };
        }
        received.insert(blob, index);
        let prefix = old.map_or(0, Entry::size);
        let prefix = (prefix > 0 && size > 0 && !whole).then(|| Prefix {
            path: path.clone(),
            size: prefix,
        });
        Step::Receive { size, prefix }
    });
    Plan {
        steps: steps.collect(),
        cut,
    }
}

/// What the old tree has at the path of each entry of the new one.
fn same_paths<'a>(old: Option<&'a Manifest>, new: &Manifest) -> Vec<Option<&'a Entry>> {
    let mut old = old.map_or(&[][..], Manifest::entries).iter().peekable();
    let paths = new.entries().iter().map(|(path, _)| {
        while old.next_if(|(before, _)| before < path).is_some() {}
        old.next_if(|(same, _)| same == path)
            .map(|(_, entry)| entry)
    });
    paths.collect()
}

/// Where the old tree holds, with which mode, the bytes of those files that changed.
fn elsewhere<'a>(
    old: Option<&'a Manifest>,
    new: &Manifest,
    at_path: &[Option<&Entry>],
    missing: &BTreeSet<BlobId>,
) -> BTreeMap<(BlobId, bool), &'a RelPath> {
    let changed: BTreeSet<BlobId> = new
        .entries()
        .iter()
        .zip(at_path)
        .filter(|((_, entry), old)| Some(entry) != **old)
        .filter_map(|((_, entry), _)| entry.blob())
        .filter(|blob| !missing.contains(blob))
        .collect();
    let mut held = BTreeMap::new();
    for (path, entry) in old.into_iter().flat_map(Manifest::entries) {
        if let &Entry::File {
            blob, executable, ..
        } = entry
            && changed.contains(&blob)
        {
            held.entry((blob, executable)).or_insert(path);
        }
    }
    held
}

impl Plan {
    /// Returns the steps, one for each entry of the new manifest.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns how large files are cut.
    #[must_use]
    pub const fn cut(&self) -> Cut {
        self.cut
    }

    /// Returns how many bytes must be received in all, before compression.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.pieces_from(Position::default())
            .map(|piece| piece.length)
            .sum()
    }

    /// Returns the piece at a position; nothing where none travels.
    #[must_use]
    pub fn piece(&self, position: Position) -> Option<Piece> {
        let step = self.steps.get(usize::try_from(position.entry).ok()?)?;
        let (size, prefix) = receives(step)?;
        (position.segment < self.cut.segments(size)).then(|| self.cut.piece(position, size, prefix))
    }

    /// Returns the pieces that travel, in order, from this position on.
    pub fn pieces_from(&self, from: Position) -> impl Iterator<Item = Piece> {
        let skipped = usize::try_from(from.entry).unwrap_or(usize::MAX);
        let steps = (from.entry..).zip(self.steps.iter().skip(skipped));
        steps
            .filter_map(|(entry, step)| Some((entry, receives(step)?)))
            .flat_map(move |(entry, (size, prefix))| {
                let first = if entry == from.entry { from.segment } else { 0 };
                (first..self.cut.segments(size))
                    .map(move |segment| self.cut.piece(Position { entry, segment }, size, prefix))
            })
    }
}

/// Cuts bytes that are no file, such as a manifest, as a large file is cut: each segment's range,
/// and the range of the old bytes that is its prefix.
pub fn byte_segments(
    length: usize,
    old_length: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (segment, margin) = (bytes(SEGMENT_BYTES), bytes(SEGMENT_MARGIN_BYTES));
    (0..length.div_ceil(segment).max(1)).map(move |index| {
        let range = index * segment..length.min((index + 1) * segment);
        let from = range.start.saturating_sub(margin).min(old_length);
        let to = old_length.min(range.end + margin);
        (range, from..to)
    })
}

fn receives(step: &Step) -> Option<(u64, Option<&Prefix>)> {
    match step {
        Step::Receive { size, prefix } => Some((*size, prefix.as_ref())),
        Step::Keep | Step::Local { .. } | Step::Again { .. } | Step::Symlink | Step::Dir => None,
    }
}

#[cfg(test)]
mod tests;
