//! Why a link ended: the code that the closing side sends, and what the other side makes of it.

use std::fmt;

use quinn::{ConnectionError, VarInt};

/// Why one side closes a link, as the wire carries it. The numbers never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The closing side is done, or went away without a word.
    Done,
    /// The closing side's daemon stops; it will be back.
    Shutdown,
    /// The key is not enrolled.
    NotEnrolled,
    /// A newer connection of the same key took the place of this one.
    Replaced,
    /// The key was revoked.
    Revoked,
    /// The other side broke a rule of the protocol.
    Violation,
    /// The versions of the two sides do not work together.
    Version,
    /// The key's role does not permit what was asked.
    NotPermitted,
    /// A bound of the closing side is reached.
    Busy,
    /// The closing side failed for a reason of its own.
    Internal,
    /// A code that this build does not know.
    Other(u32),
}

impl CloseCode {
    /// Every code that has a name here, in the order of the numbers on the wire.
    const NAMED: [Self; 10] = [
        Self::Done,
        Self::Shutdown,
        Self::NotEnrolled,
        Self::Replaced,
        Self::Revoked,
        Self::Violation,
        Self::Version,
        Self::NotPermitted,
        Self::Busy,
        Self::Internal,
    ];

    /// Returns whether dialling again can help without a person doing something first.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Done
            | Self::Shutdown
            | Self::Replaced
            | Self::Violation
            | Self::Busy
            | Self::Internal
            | Self::Other(_) => true,
            Self::NotEnrolled | Self::Revoked | Self::Version | Self::NotPermitted => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Shutdown => "shutdown",
            Self::NotEnrolled => "not-enrolled",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Violation => "violation",
            Self::Version => "version",
            Self::NotPermitted => "not-permitted",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::Other(_) => "code",
        }
    }
}

impl From<u32> for CloseCode {
    fn from(number: u32) -> Self {
        Self::NAMED
            .into_iter()
            .find(|code| u32::from(*code) == number)
            .unwrap_or(Self::Other(number))
    }
}

impl From<CloseCode> for u32 {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::Done => 0,
            CloseCode::Shutdown => 1,
            CloseCode::NotEnrolled => 2,
            CloseCode::Replaced => 3,
            CloseCode::Revoked => 4,
            CloseCode::Violation => 5,
            CloseCode::Version => 6,
            CloseCode::NotPermitted => 7,
            CloseCode::Busy => 8,
            CloseCode::Internal => 9,
            CloseCode::Other(number) => number,
        }
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code.into())
    }
}

impl From<VarInt> for CloseCode {
    fn from(number: VarInt) -> Self {
        // What does not fit is as unknown as any other number without a name.
        u32::try_from(number.into_inner()).map_or(Self::Other(u32::MAX), Self::from)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Other(number) => write!(f, " {number}"),
            Self::Done
            | Self::Shutdown
            | Self::NotEnrolled
            | Self::Replaced
            | Self::Revoked
            | Self::Violation
            | Self::Version
            | Self::NotPermitted
            | Self::Busy
            | Self::Internal => Ok(()),
        }
    }
}

/// How a link ended, seen from this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it and said why. The text is the peer's: escape it before it is shown.
    #[error("closed by the peer: {code}")]
    Peer {
        /// The code it gave.
        code: CloseCode,
        /// What it added for people, at most as long as a datagram.
        reason: String,
    },
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The peer was silent for longer than the idle timeout.
    #[error("peer is silent")]
    Silent,
    /// The peer does not know the connection any more: it was restarted.
    #[error("peer was restarted")]
    Restarted,
    /// TLS or QUIC itself failed.
    #[error("connection failed")]
    Transport(#[source] ConnectionError),
}

impl CloseReason {
    /// Returns whether dialling again can help without a person doing something first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Peer { code, .. } => code.is_retryable(),
            Self::Local | Self::Silent | Self::Restarted | Self::Transport(_) => true,
        }
    }

    /// Returns the code the peer gave, where it gave one.
    #[must_use]
    pub const fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Peer { code, .. } => Some(*code),
            Self::Local | Self::Silent | Self::Restarted | Self::Transport(_) => None,
        }
    }
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Peer {
                code: close.error_code.into(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => Self::Transport(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number_and_the_numbers_stay() {
        for (number, code) in (0_u32..).zip(CloseCode::NAMED) {
            assert_eq!(u32::from(code), number, "{code}");
            assert_eq!(CloseCode::from(number), code);
        }
        assert_eq!(CloseCode::from(77), CloseCode::Other(77));
        assert_eq!(u32::from(CloseCode::Other(77)), 77);
        assert_eq!(CloseCode::Other(77).to_string(), "code 77");
    }
}
