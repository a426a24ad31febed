//! The listening side: one UDP socket, any number of peers. It takes any ed25519 key; who is
//! enrolled is for the caller to decide, right after the handshake.
//!
//! ```text
//!  accept -> Pending -> handshake (a task of the caller's) -> Peer
//!     \-> too many handshakes: Retry, and those who answered it wait in a queue of their own
//! ```

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::key::{PublicKey, SecretKey};
use quinn::{Connection, Endpoint, Incoming, TokioRuntime};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::close::{CloseCode, CloseReason};
use crate::link::{DRAIN_MAX, Link};
use crate::{Alpn, VERSIONS, quic, tls};

/// The socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on UDP `{addr}`")]
pub struct BindError {
    /// Where it should have been.
    pub addr: SocketAddr,
    /// Why it cannot.
    #[source]
    pub source: io::Error,
}

/// A handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It took too long.
    #[error("handshake took too long")]
    TimedOut,
    /// The peer has no ed25519 raw public key, speaks no protocol of ours, or went away.
    #[error("handshake failed")]
    Handshake(#[source] CloseReason),
    /// The peer speaks no version that we speak. It was told which those are.
    #[error("peer speaks none of {}", Alpn::spoken())]
    Version,
    /// TLS let something through that is no key or protocol of ours.
    #[error("handshake proved no key or no protocol")]
    Unproven,
}

/// Listens on one UDP socket. Dropped, it accepts no more; links that were accepted live on.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    /// Handshakes with whoever comes.
    strangers: Arc<Semaphore>,
    /// Handshakes with those whose address a Retry has proven: forged senders cannot fill this.
    retried: Arc<Semaphore>,
}

impl Listener {
    /// Binds the socket. The reset key must outlive the process: with it a later listener tells
    /// the peers of this one that their connections are gone. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn bind(
        addr: SocketAddr,
        key: &SecretKey,
        reset_key: &[u8; 32],
    ) -> Result<Self, BindError> {
        let endpoint = UdpSocket::bind(addr)
            .and_then(|socket| {
                Endpoint::new(
                    quic::endpoint_config(reset_key),
                    Some(quic::server_config(key)),
                    socket,
                    Arc::new(TokioRuntime),
                )
            })
            .map_err(|source| BindError { addr, source })?;
        Ok(Self {
            endpoint,
            strangers: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            retried: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        })
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for the next peer that may begin its handshake; nothing once the listener is closed,
    /// or its socket has failed. Cancel-safe. Does no part of the handshake itself, so that a slow one keeps nobody waiting.
    pub async fn accept(&self) -> Option<Pending> {
        loop {
            // Cancel-safe: the only await, and it takes a peer only when it returns one.
            let incoming = self.endpoint.accept().await?;
            let proven = incoming.remote_address_validated();
            let places = if proven {
                &self.retried
            } else {
                &self.strangers
            };
            match Arc::clone(places).try_acquire_owned() {
                Ok(place) => return Some(Pending { incoming, place }),
                Err(_) if proven => incoming.refuse(),
                // Cannot fail: only an address that was proven already may not be asked again.
                Err(_) => drop(incoming.retry()),
            }
        }
    }

    /// Closes every link with [`CloseCode::Shutdown`], and waits, for a second at most, until the
    /// peers were told.
    pub async fn close(&self) {
        self.endpoint.close(CloseCode::Shutdown.into(), b"");
        // Who does not answer finds out by its idle timeout, or by a reset of the next listener.
        timeout(DRAIN_MAX, self.endpoint.wait_idle())
            .await
            .unwrap_or_default();
    }
}

/// A peer that has begun to dial. Dropped, it is refused.
#[derive(Debug)]
pub struct Pending {
    incoming: Incoming,
    place: OwnedSemaphorePermit,
}

impl Pending {
    /// Returns where the peer claims to be.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Does the handshake. Run it in a task of its own.
    ///
    /// # Errors
    /// When it fails, or is not done by the deadline.
    pub async fn handshake(self, deadline: Duration) -> Result<Peer, AcceptError> {
        let Self { incoming, place } = self;
        let connection = timeout(deadline, incoming.into_future())
            .await
            .or(Err(AcceptError::TimedOut))?
            .map_err(|error| AcceptError::Handshake(error.into()))?;
        drop(place);
        let protocol = quic::protocol(&connection);
        if protocol.as_deref() == Some(VERSIONS) {
            connection.close(CloseCode::Version.into(), Alpn::spoken().as_bytes());
            return Err(AcceptError::Version);
        }
        Peer::of(connection, protocol).ok_or(AcceptError::Unproven)
    }
}

/// A peer that holds the key it shows. Nothing says yet that it is a member.
#[derive(Debug)]
pub struct Peer {
    /// The connection to it.
    pub link: Link,
    /// The key it proved to hold.
    pub key: PublicKey,
    /// What the connection is for.
    pub alpn: Alpn,
    /// Where it dialled from.
    pub remote: SocketAddr,
}

impl Peer {
    fn of(connection: Connection, protocol: Option<Vec<u8>>) -> Option<Self> {
        let presented = connection.peer_identity()?;
        let presented = presented.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let key = tls::public_key(presented.first()?)?;
        Some(Self {
            key,
            alpn: Alpn::from_wire(&protocol?)?,
            remote: connection.remote_address(),
            link: Link::new(connection, key, None),
        })
    }
}

/// Most handshakes in progress: of strangers, and again of those who answered a Retry.
const HANDSHAKES_MAX: usize = 256;

#[cfg(test)]
mod tests;
