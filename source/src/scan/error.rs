//! Why a tree could not be looked at.

use std::io;
use std::path::PathBuf;

use codevol_protocol::manifest::ManifestError;
use codevol_protocol::path::RelPath;
use rustix::io::Errno;

use crate::rules::RulesError;

/// Why a tree could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Another directory, link or mount stands where the root was, or nothing.
    #[error("the tree at `{0}` is gone or was replaced by another")]
    RootReplaced(PathBuf),
    /// A call on the tree failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// What should be read is no regular file, or no longer.
    #[error("`{0}` is no regular file")]
    NotAFile(RelPath),
    /// What is to be replaced is not what it was when that was decided.
    #[error("`{0}` was saved meanwhile")]
    Changed(RelPath),
    /// The ignore rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The tree is larger than a manifest may be.
    #[error("tree is too large to publish")]
    TooLarge(#[from] ManifestError),
}

impl ScanError {
    pub(super) fn io(action: &'static str, path: Option<&RelPath>, source: Errno) -> Self {
        Self::Io {
            action,
            path: path.map_or_else(|| ".".to_owned(), RelPath::to_string),
            source: source.into(),
        }
    }

    /// Whether the same scan may succeed later without anybody's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NotAFile(_) | Self::Changed(_))
    }
}
