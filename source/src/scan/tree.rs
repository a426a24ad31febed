//! What the last scan saw, as a tree: the scan's memory and its stat cache.

use std::collections::BTreeMap;

use codevol_protocol::id::BlobId;
use codevol_protocol::path::{InvalidLinkTarget, InvalidRelPath, LinkTarget, RelPath};

use serde::{Deserialize, Serialize};

use super::dir::Stat;
use crate::rules::Rank;

/// How long an empty file may wait for its first bytes. Between a file's truncation and the event that
/// tells of it the disk may be waited for: 8 ms were measured, of ext4 under load.
const UNWRITTEN_NS: i64 = 100_000_000;

/// What stood at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory that was walked.
    Dir(Dir),
    /// A file, and the blob that it held in this state.
    File(Known),
    /// A file that is not hashed yet; only while a scan is under way.
    Unread,
    /// A link.
    Link(LinkTarget),
    /// Left out by a rule.
    Ignored { is_dir: bool },
    /// Left out because it cannot be carried.
    Skipped(SkipReason),
    /// A file that changed each time while it was read.
    Unstable,
}

/// A file's bytes, as of a state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) stat: Stat,
    pub(super) blob: BlobId,
    /// It was read so soon after its last change that another change may bear the same times.
    pub(super) racy: bool,
}

/// A walked directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dir {
    /// The rule that ignores it, where it was walked only for what a stronger rule brings back.
    pub(super) ignored_by: Option<Rank>,
    pub(super) names: BTreeMap<Vec<u8>, Node>,
}

/// Why something on disk is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// Its name is not allowed in a tree.
    #[error("{0}")]
    Name(InvalidRelPath),
    /// It is a link whose target is not allowed in a tree.
    #[error("{0}")]
    Target(InvalidLinkTarget),
    /// It is a link whose target is not UTF-8.
    #[error("link target is not UTF-8")]
    TargetNotUtf8,
    /// It is a link that leaves the tree, by itself or through other links.
    #[error("link leaves the tree")]
    LinkLeaves,
    /// It is no file, link or directory.
    #[error("{0} is not carried")]
    Special(Special),
    /// Another file system is mounted there.
    #[error("another file system is mounted there")]
    OtherFileSystem,
    /// It is larger than a file may be.
    #[error("file is too large")]
    TooLarge,
    /// The source may not read it.
    #[error("no permission to read it")]
    Unreadable,
    /// Its file system gives it a name that no file can have.
    #[error("no file can have this name")]
    NoName,
}

/// A file that is not carried because of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device, or what this build does not know.
    Device,
}

impl std::fmt::Display for Special {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

impl Node {
    /// Whether it is a file that was made or emptied so short a while before the scan began, or since,
    /// that whoever did that may be about to write.
    pub(super) fn may_be_unwritten(&self, now_ns: i64) -> bool {
        let Self::File(Known { stat, .. }) = self else {
            return false;
        };
        stat.size == 0 && now_ns.saturating_sub(stat.ctime_ns) < UNWRITTEN_NS
    }
}

impl Dir {
    /// Returns what stood at a path.
    pub(super) fn node(&self, path: &RelPath) -> Option<&Node> {
        let mut components = path.components();
        let mut node = self.names.get(components.next()?.as_bytes())?;
        for component in components {
            let Node::Dir(dir) = node else { return None };
            node = dir.names.get(component.as_bytes())?;
        }
        Some(node)
    }

    /// Returns the walked directory at a path; the root has none.
    pub(super) fn dir(&self, path: Option<&RelPath>) -> Option<&Self> {
        match path.map(|path| self.node(path)) {
            None => Some(self),
            Some(Some(Node::Dir(dir))) => Some(dir),
            Some(_) => None,
        }
    }

    /// Puts what stands at a name of a walked directory, or that nothing does.
    pub(super) fn set(&mut self, dir: Option<&RelPath>, name: &[u8], node: Option<Node>) {
        let mut at = self;
        for component in dir.iter().flat_map(|dir| dir.components()) {
            let Some(Node::Dir(dir)) = at.names.get_mut(component.as_bytes()) else {
                return;
            };
            at = dir;
        }
        match node {
            Some(node) => at.names.insert(name.to_vec(), node),
            None => at.names.remove(name),
        };
    }
}
