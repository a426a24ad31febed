//! What the watcher says.

use codevol_protocol::path::RelPath;
use codevol_protocol::settle::Input;

/// That something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A path, and what is below it.
    Dirty {
        /// The path.
        path: RelPath,
        /// What happened to it.
        kind: DirtyKind,
    },
    /// Anything, anywhere: look at the whole tree.
    Unsure {
        /// Why.
        reason: UnsureReason,
    },
    /// Git may have begun or ended its work: ask [`crate::git::GitDir::busy`].
    Git,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirtyKind {
    /// It was written to, and its writer may go on.
    Modified,
    /// It was closed after a write, or is gone from its path.
    Closed,
    /// It appeared, or its mode changed.
    Other,
}

/// Why the whole tree must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsureReason {
    /// The watcher has just begun, or many directories are newly watched.
    Started,
    /// The kernel dropped events.
    Overflow,
    /// The queue of hints was full.
    QueueFull,
    /// A directory could not be watched.
    WatchFailed,
    /// The root was moved, deleted or unmounted.
    RootGone,
    /// Something changed at the root whose name is no path, the ignore file among them.
    Unnamed,
    /// The tree is polled: nothing is known, it is only time to look.
    Poll,
}

impl Hint {
    /// Returns what the settle machine is to hear of it; nothing where it is to be asked git, or
    /// where it is only time to look.
    #[must_use]
    pub fn input(&self) -> Option<Input> {
        match self {
            Self::Dirty { path, kind } => Some(match kind {
                DirtyKind::Modified => Input::Modified(path.clone()),
                DirtyKind::Closed => Input::Closed(path.clone()),
                DirtyKind::Other => Input::Changed,
            }),
            Self::Git
            | Self::Unsure {
                reason: UnsureReason::Poll,
            } => None,
            Self::Unsure { .. } => Some(Input::Changed),
        }
    }

    /// Whether something may have happened, and it is not only time to look.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        !matches!(
            self,
            Self::Unsure {
                reason: UnsureReason::Poll
            }
        )
    }
}
