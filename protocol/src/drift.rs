//! What is said of drift: what a node found on its disk, when it looks and whom it tells. Every list
//! is cut where it is made, so that a message fits into its frame.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::diff::Shape;
use crate::id::{BlobId, ReleaseId};
use crate::limits::{CODE_SERVERS_MAX, DRIFT_BYTES_MAX, DRIFT_CONTENT_BYTES_MAX, DRIFT_MAX};
use crate::message::{Failure, Verification};
use crate::name::{NodeName, Text, VolumeName};
use crate::release::{Seq, UnixMillis};
use crate::status::{Drift, DriftKind};
use crate::violation::Violation;

/// What differs on one node, as much of it as one message names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drifted {
    /// The paths.
    pub paths: Vec<Drift>,
    /// How many more there are.
    pub more: u64,
}

impl Drifted {
    /// Lists as many as one message names, and counts the rest and what was counted already.
    #[must_use]
    pub fn cut(paths: impl IntoIterator<Item = Drift>, counted: u64) -> Self {
        let mut bytes_left = DRIFT_BYTES_MAX;
        Self::cut_to(paths, counted, &mut bytes_left)
    }

    /// The same, with so many bytes left for paths.
    #[must_use]
    pub fn cut_to(
        paths: impl IntoIterator<Item = Drift>,
        counted: u64,
        bytes_left: &mut usize,
    ) -> Self {
        let mut found = Self {
            paths: Vec::new(),
            more: counted,
        };
        for drift in paths {
            let left = bytes_left.checked_sub(drift.path.as_str().len());
            match left.filter(|_| found.paths.len() < DRIFT_MAX) {
                Some(left) => {
                    *bytes_left = left;
                    found.paths.push(drift);
                }
                None => found.more += 1,
            }
        }
        found
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.more == 0
    }

    /// Returns how many paths differ.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.more.saturating_add(self.paths.len() as u64)
    }

    /// Returns the first few paths and their kinds, for a line of a journal.
    #[must_use]
    pub fn summary(&self) -> String {
        let shown = self.paths.iter().take(SUMMARY_MAX);
        let shown: Vec<String> = shown
            .map(|drift| {
                let (path, kind) = (cut(drift.path.as_str()), drift.kind.as_str());
                format!("{} {path} ({kind})", drift.release)
            })
            .collect();
        let rest = self.count().saturating_sub(shown.len() as u64);
        match rest {
            0 => shown.join(", "),
            rest => format!("{} and {rest} more", shown.join(", ")),
        }
    }
}

/// How many paths a summary names.
const SUMMARY_MAX: usize = 5;
/// How much of each path a summary shows, in bytes.
const SUMMARY_PATH_BYTES_MAX: usize = 256;

fn cut(path: &str) -> &str {
    let end = path.floor_char_boundary(SUMMARY_PATH_BYTES_MAX);
    path.get(..end).unwrap_or(path)
}

/// How far a node looks when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// The release that it runs, and what its code servers loaded.
    Active,
    /// Every release that it holds, and the code servers.
    Held,
    /// The release that it runs, with the bytes of what differs.
    Contents,
}

/// What a node found when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The release that it runs.
    pub active: Option<(Seq, ReleaseId)>,
    /// What differs.
    pub drifted: Drifted,
    /// What lies at the paths that differ, where that was asked for, in their order.
    pub contents: Vec<Content>,
    /// What its code servers loaded; nothing where that was not asked.
    pub verification: Option<Verification>,
    /// How many releases were looked at.
    pub releases: u64,
    /// How many files.
    pub files: u64,
    /// How many bytes were hashed.
    pub bytes: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Why it could not look at all of it.
    pub failure: Option<Failure>,
}

impl Looked {
    /// Judges what came from a peer.
    ///
    /// # Errors
    /// When a list is longer than it may be.
    pub(crate) fn judge(&self) -> Result<(), Violation> {
        at_most("drift", self.drifted.paths.len(), DRIFT_MAX)?;
        at_most("contents", self.contents.len(), DRIFT_MAX)?;
        let bytes = self.contents.iter().map(Content::len).sum();
        at_most("contents", bytes, DRIFT_CONTENT_BYTES_MAX)?;
        let servers = self.verification.as_ref().map(|v| v.code_servers.len());
        at_most(
            "code servers",
            servers.unwrap_or_default(),
            CODE_SERVERS_MAX,
        )
    }
}

pub(crate) fn at_most(what: &'static str, count: usize, count_max: usize) -> Result<(), Violation> {
    if count > count_max {
        Err(Violation::TooMany {
            what,
            count,
            count_max,
        })
    } else {
        Ok(())
    }
}

/// What lies at a path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The path.
    pub path: Text,
    /// In which way it differs.
    pub kind: DriftKind,
    /// What stands there; nothing where it is gone, or is none of what a tree has.
    pub shape: Option<Shape>,
    /// The bytes of a file, where they are few enough to travel.
    pub bytes: Option<Vec<u8>>,
}

impl Content {
    fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len)
    }
}

/// What drifts on a node, told whenever that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// The volume.
    pub volume: VolumeName,
    /// All that differs now.
    pub drifted: Drifted,
    /// How many paths the node put back since its last report.
    pub restored: u64,
}

/// How far a node that was asked to look has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// How many files were looked at.
    pub files: u64,
    /// Of how many.
    pub files_all: u64,
}

/// What a node says to [`crate::message::FromSource::Verify`]: how far it is, now and then, and at
/// the end what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// It goes on.
    Going(Pass),
    /// It has ended.
    Ended(Box<Looked>),
}

impl Word {
    /// Judges what came from a peer.
    ///
    /// # Errors
    /// When a list is longer than it may be.
    pub(crate) fn judge(&self) -> Result<(), Violation> {
        match self {
            Self::Going(_) => Ok(()),
            Self::Ended(looked) => looked.judge(),
        }
    }
}

/// How `verify` ended; what each node found was told before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The volume.
    pub volume: VolumeName,
    /// When it ended.
    pub at: UnixMillis,
    /// Whether all that is held was looked at.
    pub deep: bool,
    /// The source's blobs; nothing where they were not looked at.
    pub source: Option<SourceVerified>,
}

/// What `verify` found on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVerified {
    /// Its name.
    pub name: NodeName,
    /// Whether it could be asked.
    pub answer: Answer,
    /// What it found; nothing where it gave no answer.
    pub looked: Option<Looked>,
}

/// Whether a node could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It answered.
    Answered,
    /// It is not connected, or left before it answered.
    Offline,
    /// It did not answer in time.
    Silent,
    /// Its build cannot be asked.
    TooOld,
}

/// What `verify` found in the source's own store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceVerified {
    /// How many blobs were read.
    pub blobs: u64,
    /// Those that are not what their names say, as many as are named.
    pub damaged: Vec<BlobId>,
    /// How many more there are.
    pub damaged_more: u64,
    /// Blobs that a kept release needs and that are gone, as many as are named.
    pub missing: Vec<BlobId>,
    /// How many more there are.
    pub missing_more: u64,
    /// Why not all of it could be read.
    pub failure: Option<Text>,
}

impl SourceVerified {
    /// Lists damaged and missing blobs, as many as are named.
    #[must_use]
    pub fn new(blobs: u64, damaged: &BTreeSet<BlobId>, missing: &BTreeSet<BlobId>) -> Self {
        let named = |all: &BTreeSet<BlobId>| all.iter().take(DRIFT_MAX).copied().collect();
        let more = |all: &BTreeSet<BlobId>| all.len().saturating_sub(DRIFT_MAX) as u64;
        Self {
            blobs,
            damaged: named(damaged),
            damaged_more: more(damaged),
            missing: named(missing),
            missing_more: more(missing),
            failure: None,
        }
    }

    /// Whether every blob is there and whole.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty()
    }
}

/// How far a verification is, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifying {
    /// Who: a node, or nothing for the source itself.
    pub node: Option<NodeName>,
    /// How far.
    pub pass: Pass,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(path: impl Into<String>) -> Drift {
        Drift {
            release: Seq(1),
            path: Text::cut(path),
            kind: DriftKind::Changed,
        }
    }

    #[test]
    fn a_report_names_a_bounded_number_of_paths_and_counts_the_rest() {
        let many = (0..DRIFT_MAX + 7).map(|n| drift(format!("{n}.py")));
        let cut = Drifted::cut(many, 5);
        assert_eq!((cut.paths.len(), cut.more), (DRIFT_MAX, 12));
        assert_eq!(cut.count(), DRIFT_MAX as u64 + 12);
        let long = (0..DRIFT_MAX).map(|_| drift("x".repeat(4_096)));
        let cut = Drifted::cut(long, 0);
        assert_eq!(cut.paths.len(), DRIFT_BYTES_MAX / 4_096);
        assert_eq!(cut.count(), DRIFT_MAX as u64);
        assert!(Drifted::cut([], 0).is_empty());
        assert!(!Drifted::cut([], 1).is_empty());
    }

    #[test]
    fn a_summary_names_the_first_few() {
        let few = Drifted::cut([drift("a.py"), drift("b.py")], 0);
        assert_eq!(few.summary(), "r1 a.py (changed), r1 b.py (changed)");
        let many = Drifted::cut((0..9).map(|n| drift(format!("{n}"))), 1);
        assert!(many.summary().ends_with("r1 4 (changed) and 5 more"));
    }

    #[test]
    fn an_answer_that_is_too_long_is_a_violation() {
        let mut looked = Looked {
            active: None,
            drifted: Drifted::default(),
            contents: Vec::new(),
            verification: None,
            releases: 1,
            files: 1,
            bytes: 1,
            elapsed_ms: 1,
            failure: None,
        };
        assert_eq!(looked.judge(), Ok(()));
        let content = Content {
            path: Text::cut("a"),
            kind: DriftKind::Changed,
            shape: None,
            bytes: Some(vec![0; DRIFT_CONTENT_BYTES_MAX]),
        };
        looked.contents = vec![content.clone()];
        assert_eq!(looked.judge(), Ok(()));
        looked.contents.push(content);
        assert!(looked.judge().is_err());
        looked.contents.clear();
        looked.drifted.paths = vec![drift("a"); DRIFT_MAX + 1];
        assert!(looked.judge().is_err());
    }
}
