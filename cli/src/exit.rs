//! The exit statuses. Scripts rely on them: a meaning never changes its number.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done; live on every targeted node, or no node is enrolled.
    Done,
    /// Failed; the JSON says whether it was taken back.
    Failed,
    /// Wrong usage, or `--yes` is missing where a command asks and there is no terminal.
    Usage,
    /// Some nodes are live, others are offline or unverified.
    Partial,
    /// Refused: frozen, quarantined, blast guard, conflict, exists.
    Refused,
    /// Drift was found.
    Drift,
    /// The daemon or the node cannot be reached.
    Unreachable,
    /// Not permitted, not enrolled, or the token was refused.
    NotPermitted,
    /// The configuration or the environment is invalid.
    Invalid,
    /// Interrupted by a person.
    Interrupted,
}

impl ExitStatus {
    /// Returns the number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Refused => 4,
            Self::Drift => 5,
            Self::Unreachable => 69,
            Self::NotPermitted => 77,
            Self::Invalid => 78,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
