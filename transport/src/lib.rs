//! QUIC between the nodes of a fleet: node keys in files, TLS with raw public keys, a listener, a
//! dialer, and framed streams over the links they make.
//!
//! A link proves which key the other side holds and nothing more: who is enrolled, and what a frame
//! means, is decided by the caller.
//!
//! ```text
//!  keyfile -> tls -> listener --\                      /-> frame (control, pushes)
//!                    dialer   ---+-> link (one peer) --+-> close (how it ended)
//!                    backoff  --/                      \
//! ```

pub mod backoff;
pub mod close;
pub mod control;
pub mod dialer;
pub mod frame;
pub mod keyfile;
pub mod link;
pub mod listener;
mod quic;
mod tls;
pub mod traffic;
pub mod watch;

pub use backoff::Backoff;
pub use close::{CloseCode, CloseReason};
pub use control::{CallReader, Caller, ControlError, ControlListener, ReplyWriter};
pub use dialer::{DialError, Dialer};
pub use frame::{FrameError, FrameReader, FrameWriter, Inlet, Outlet};
pub use link::{Link, LinkReader, LinkWriter, PushWriter};
pub use listener::{AcceptError, BindError, Listener, Peer, Pending};
pub use traffic::{Carried, Counted, Traffic};
pub use watch::Changes;

use std::fmt;

/// What a connection is for, settled inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// An enrolled node speaks.
    Node,
    /// A stranger with a token asks to be enrolled.
    Join,
}

impl Alpn {
    const ALL: [Self; 2] = [Self::Node, Self::Join];

    /// Returns the protocol's name, with its version, as TLS carries it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "codevol/1",
            Self::Join => "codevol-join/1",
        }
    }

    /// Names all that this build speaks, for a peer that speaks none of it.
    fn spoken() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    fn from_wire(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|alpn| alpn.as_str().as_bytes() == name)
    }
}

/// What two sides settle on that share no version of a protocol, old or new: the listening one says what
/// it speaks, and closes. It never changes.
const VERSIONS: &[u8] = b"codevol-versions";

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
