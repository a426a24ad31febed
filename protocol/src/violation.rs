//! What a peer can do wrong. A violation closes that one connection.

use crate::codec::DecodeError;
use crate::id::ReleaseId;
use crate::name::VolumeName;

/// A breach of the protocol by the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something came before the first `Hello`.
    #[error("a message came before hello")]
    NotGreeted,
    /// `Hello` came twice.
    #[error("hello came twice")]
    RepeatedHello,
    /// A message is about a volume that the other does not have.
    #[error("volume `{0}` is not part of this session")]
    UnknownVolume(VolumeName),
    /// A message is about a release that was neither pushed nor held.
    #[error("release {} was neither pushed nor held", .0.short())]
    UnknownRelease(ReleaseId),
    /// A list is longer than its limit.
    #[error("{what} holds {count}, more than {count_max}")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// How long it is.
        count: usize,
        /// How long it may be.
        count_max: usize,
    },
    /// A step was reported in the wrong order.
    #[error("{step} was reported of a release that is not {expected}")]
    OutOfOrder {
        /// The step.
        step: &'static str,
        /// What the release would have to be.
        expected: &'static str,
    },
    /// A push stream ended early, or went on behind its end.
    #[error("push stream holds {0} than the plan asks for")]
    PushLength(&'static str),
    /// A ping was answered that nobody had sent.
    #[error("a ping was answered that was not sent")]
    UnaskedPong,
    /// Something else came in place of whether the node is held, or that came twice.
    #[error("whether the node is held was not said right after hello, and once")]
    HoldsUnsaid,
    /// Records were asked for and not handed out, or came unasked.
    #[error("records of releases were not handed out when they were asked for, and only then")]
    RecordsUnsaid,
    /// A frame does not decode.
    #[error("frame does not decode")]
    Decode(#[from] DecodeError),
}
