//! Why a push came to nothing, and who is at fault.

use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::ManifestError;
use codevol_protocol::patch::PatchError;
use codevol_protocol::release::{ReleaseError, Seq};
use codevol_protocol::trust::ReleaseRefused;
use codevol_protocol::violation::Violation;
use codevol_transport::FrameError;

use crate::volume::StageError;

/// A push came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The release is not for us, or not by whom we believe.
    #[error("release is refused")]
    Refused(#[from] ReleaseRefused),
    /// The release is older than what is known here, and not part of what is known.
    #[error("{seq} is not newer than {newest}, and not one that was known before")]
    Replayed {
        /// What came.
        seq: Seq,
        /// The newest known here.
        newest: Seq,
    },
    /// Another release with this seq is known: an alarm.
    #[error("{seq} is known here as another release, {}", .known.short())]
    Forked {
        /// The seq.
        seq: Seq,
        /// The release that is known.
        known: ReleaseId,
    },
    /// The seq is impossibly far ahead.
    #[error("{seq} is too far ahead of {newest}")]
    TooFarAhead {
        /// What came.
        seq: Seq,
        /// The newest known here.
        newest: Seq,
    },
    /// The base is not held here.
    #[error("base {} is not held", .0.short())]
    UnknownBase(ReleaseId),
    /// The manifest is none.
    #[error("manifest is refused")]
    Manifest(#[from] ManifestError),
    /// The record breaks a rule.
    #[error("release record is refused")]
    Record(#[from] ReleaseError),
    /// The manifest does not decompress.
    #[error("manifest cannot be restored")]
    Patch(#[from] PatchError),
    /// The release cannot be staged.
    #[error("release cannot be staged")]
    Stage(#[from] StageError),
    /// The stream failed.
    #[error("push stream failed")]
    Frame(#[from] FrameError),
    /// The sender broke a rule.
    #[error("sender broke the protocol")]
    Violation(#[from] Violation),
    /// The staging thread died.
    #[error("staging thread stopped")]
    Stopped,
}

impl ReceiveError {
    /// Whether the same push may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Stage(error) => error.is_retryable(),
            Self::Frame(error) => error.is_retryable(),
            Self::UnknownBase(_) | Self::Stopped => true,
            Self::Refused(_)
            | Self::Replayed { .. }
            | Self::Forked { .. }
            | Self::TooFarAhead { .. }
            | Self::Manifest(_)
            | Self::Record(_)
            | Self::Patch(_)
            | Self::Violation(_) => false,
        }
    }

    /// Whether the sender broke a rule of the protocol, so that the link is to be closed.
    #[must_use]
    pub const fn is_violation(&self) -> bool {
        match self {
            // The manifest that it was to be restored upon is one that both sides know by its hash.
            Self::Violation(_) | Self::Patch(_) => true,
            Self::Frame(error) => error.violation().is_some(),
            Self::Refused(_)
            | Self::Replayed { .. }
            | Self::Forked { .. }
            | Self::TooFarAhead { .. }
            | Self::UnknownBase(_)
            | Self::Manifest(_)
            | Self::Record(_)
            | Self::Stage(_)
            | Self::Stopped => false,
        }
    }

    /// Whether nobody is at fault: the link ended, or the sender gave the push up.
    pub(super) const fn is_given_up(&self) -> bool {
        matches!(
            self,
            Self::Frame(FrameError::Closed(_) | FrameError::Reset | FrameError::Io(_))
        )
    }

    /// Returns the word for scripts.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_)
            | Self::Record(_)
            | Self::Manifest(_)
            | Self::Stage(StageError::Manifest(_)) => "refused",
            Self::Replayed { .. } | Self::TooFarAhead { .. } => "replayed",
            Self::Forked { .. } | Self::Stage(StageError::OtherAtSeq { .. }) => "forked",
            Self::Stage(StageError::Missing(_)) => "missing",
            Self::Stage(StageError::NoSpace { .. }) => "no-space",
            Self::Stage(StageError::Dir(error)) if error.is_no_space() => "no-space",
            Self::Stage(_) => "io",
            Self::UnknownBase(_)
            | Self::Patch(_)
            | Self::Frame(_)
            | Self::Violation(_)
            | Self::Stopped => "transfer",
        }
    }

    /// Whether the stream ended before all pieces were there.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Violation(Violation::PushLength("less")))
    }
}
