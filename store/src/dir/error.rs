//! What can go wrong with a call relative to a directory.

use std::io;

use rustix::io::Errno;

/// A call on a directory failed.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The system refused it.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Written bytes may not be on the disk, and nothing can tell: to be treated as a crash.
    #[error("cannot make `{path}` durable")]
    Sync {
        /// What was to be durable.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The way there is no plain way down: a link, a mount, `..`, or an absolute path.
    #[error("`{path}` leads over a link, over a mount or out of its directory")]
    NotBeneath {
        /// The path.
        path: String,
    },
    /// Something else stands there.
    #[error("`{path}` is not a {wanted}")]
    WrongKind {
        /// The path.
        path: String,
        /// What should stand there.
        wanted: &'static str,
    },
    /// The file is larger than its reader allows.
    #[error("`{path}` is larger than {bytes_max} bytes")]
    TooLong {
        /// The path.
        path: String,
        /// The bound.
        bytes_max: u64,
    },
}

impl DirError {
    /// Builds the error of one call.
    pub(crate) fn io(action: &'static str, path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Builds the error of a failed fsync.
    pub(crate) fn sync(path: &str, source: impl Into<io::Error>) -> Self {
        Self::Sync {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Returns what the system said, where it said something.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } | Self::Sync { source, .. } => Errno::from_io_error(source),
            Self::NotBeneath { .. } | Self::WrongKind { .. } | Self::TooLong { .. } => None,
        }
    }

    /// Whether nothing stands there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// Whether something stands there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// Whether a name or a link's target is no UTF-8.
    #[must_use]
    pub fn is_no_text(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData)
    }

    /// Whether the disk or the quota is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// Whether it is this user that may not.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM))
    }

    /// Whether a hard link cannot be made where a copy can: the owner, the count, the file system.
    #[must_use]
    pub fn is_link_refused(&self) -> bool {
        let errno = self.errno();
        self.is_permission_denied()
            || matches!(errno, Some(Errno::MLINK | Errno::XDEV | Errno::OPNOTSUPP))
    }

    /// Whether the same call may succeed once its cause is gone: space, descriptors, memory.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        // After a failed fsync the kernel drops the pages: trying again would only seem to succeed.
        !matches!(self, Self::Sync { .. })
            && matches!(
                self.errno(),
                Some(
                    Errno::NOSPC
                        | Errno::DQUOT
                        | Errno::MFILE
                        | Errno::NFILE
                        | Errno::NOMEM
                        | Errno::INTR
                        | Errno::AGAIN
                        | Errno::BUSY
                )
            )
    }
}
