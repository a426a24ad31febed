//! The dialling side: resolves the name anew, tries every address, and pins the key inside TLS.
//!
//! Each dial has a UDP socket of its own, which is a client endpoint and accepts nothing. A new
//! source port also leaves behind what the network remembers of the last connection: the address
//! translation of a pod or balancer that is gone.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::name::Text;
use quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode};
use rustls::sign::CertifiedKey;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::close::{CloseCode, CloseReason};
use crate::link::Link;
use crate::{Alpn, VERSIONS, quic, tls};

/// A dial came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("cannot resolve `{host_port}`")]
    Unresolvable {
        /// What was dialled.
        host_port: String,
        /// Why not.
        source: io::Error,
    },
    /// This host cannot even send to that address.
    #[error("cannot dial `{address}`")]
    Unreachable {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("no answer from `{host_port}`")]
    TimedOut {
        /// What was dialled.
        host_port: String,
    },
    /// Who answers does not hold the pinned key. Nothing was told to it.
    #[error("`{address}` does not hold the key `{pinned}`")]
    WrongKey {
        /// Who answered.
        address: SocketAddr,
        /// The key that was wanted.
        pinned: PublicKey,
    },
    /// Who answers does not speak the protocol, or not this version of it.
    #[error("`{address}` does not speak `{alpn}`{}", .spoken.as_ref().map_or_else(String::new, |spoken| format!(", but `{spoken}`")))]
    Version {
        /// Who answered.
        address: SocketAddr,
        /// What was wanted.
        alpn: Alpn,
        /// What it speaks, where it says that.
        spoken: Option<Text>,
    },
    /// The connection ended before it was there.
    #[error("`{address}` let the handshake fail")]
    Closed {
        /// Who answered.
        address: SocketAddr,
        /// How it ended.
        source: CloseReason,
    },
}

impl DialError {
    /// Returns whether dialling again can help without a person doing something first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unresolvable { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::WrongKey { .. } | Self::Version { .. } => false,
            Self::Closed { source, .. } => source.is_retryable(),
        }
    }
}

/// Dials other nodes as one node.
#[derive(Debug, Clone)]
pub struct Dialer {
    key: Arc<CertifiedKey>,
}

impl Dialer {
    /// Dials with this key.
    #[must_use]
    pub fn new(key: &SecretKey) -> Self {
        Self {
            key: tls::certified(key),
        }
    }

    /// Dials `host:port`, and returns a link once the other side has proven that it holds the
    /// pinned key. That the other side takes *our* key shows only later: a close with
    /// [`crate::CloseCode::NotEnrolled`] reaches the first read, or [`Link::closed`].
    ///
    /// Every address of the name is tried, a new one as soon as the last one failed or was silent
    /// for a moment. Dropped, all of them are given up.
    ///
    /// # Errors
    /// When no address leads to the holder of the key by the deadline; of several failures, the
    /// one that says most.
    pub async fn dial(
        &self,
        host_port: &str,
        alpn: Alpn,
        pinned: &PublicKey,
        deadline: Duration,
    ) -> Result<Link, DialError> {
        let end = Instant::now() + deadline;
        let addresses = resolve(host_port, end).await?;
        let failure = match self.race(addresses, alpn, *pinned, end).await {
            Ok(link) => return Ok(link),
            Err(failure) => failure,
        };
        Err(failure.unwrap_or_else(|| DialError::TimedOut {
            host_port: host_port.to_owned(),
        }))
    }

    /// Tries the addresses until one answers as it should; no error where all there was is silence.
    async fn race(
        &self,
        addresses: Vec<SocketAddr>,
        alpn: Alpn,
        pinned: PublicKey,
        end: Instant,
    ) -> Result<Link, Option<DialError>> {
        let mut addresses = addresses.into_iter().peekable();
        let mut attempts = JoinSet::new();
        let mut failures = Vec::new();
        while Instant::now() < end {
            match addresses.next() {
                Some(address) => {
                    attempts.spawn(attempt(Arc::clone(&self.key), address, alpn, pinned));
                }
                None if attempts.is_empty() => break,
                None => {}
            }
            let wait = match addresses.peek() {
                Some(_) => end.min(Instant::now() + STAGGER),
                None => end,
            };
            // A panic in an attempt counts as silence.
            if let Ok(Some(ended)) = timeout_at(wait, attempts.join_next()).await {
                match ended.unwrap_or(Err(None)) {
                    Ok(link) => return Ok(link),
                    Err(failure) => failures.push(failure),
                }
            }
        }
        failures.resize_with(failures.len() + attempts.len(), || None);
        Err(most_telling(failures))
    }
}

/// Returns the failure that says most: an answer, else silence, else that nothing could be sent.
fn most_telling(failures: Vec<Option<DialError>>) -> Option<DialError> {
    let said = |failure: &Option<DialError>| match failure {
        Some(DialError::Unreachable { .. }) => 2,
        None => 1,
        Some(_) => 0,
    };
    failures.into_iter().min_by_key(said).flatten()
}

async fn resolve(host_port: &str, end: Instant) -> Result<Vec<SocketAddr>, DialError> {
    let unresolvable = |source| DialError::Unresolvable {
        host_port: host_port.to_owned(),
        source,
    };
    let addresses = timeout_at(end, lookup_host(host_port))
        .await
        .map_err(|elapsed| unresolvable(elapsed.into()))?
        .map_err(unresolvable)?;
    let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(unresolvable(io::ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

/// Tries one address; no error where nobody answered.
async fn attempt(
    key: Arc<CertifiedKey>,
    address: SocketAddr,
    alpn: Alpn,
    pinned: PublicKey,
) -> Result<Link, Option<DialError>> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let unreachable = |source| Some(DialError::Unreachable { address, source });
    let verifier = Arc::new(tls::KeyVerifier::of(Some(pinned)));
    let config = quic::client_config(key, alpn, Arc::clone(&verifier));
    let endpoint = Endpoint::client(any).map_err(unreachable)?;
    let connecting = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| unreachable(io::Error::other(error)))?;
    let other_version = |spoken| {
        let version = DialError::Version {
            address,
            alpn,
            spoken,
        };
        Err(Some(version))
    };
    match connecting.await {
        Ok(connection) if quic::protocol(&connection).as_deref() == Some(VERSIONS) => {
            other_version(spoken(&connection).await)
        }
        Ok(connection) => Ok(Link::new(connection, pinned, Some(endpoint))),
        Err(_) if verifier.saw_wrong_key() => Err(Some(DialError::WrongKey { address, pinned })),
        Err(ConnectionError::TimedOut) => Err(None),
        Err(error) if is_alpn_refusal(&error) => other_version(None),
        Err(error) => Err(Some(DialError::Closed {
            address,
            source: error.into(),
        })),
    }
}

/// Waits until the other side has said what it speaks.
async fn spoken(connection: &Connection) -> Option<Text> {
    let closed = timeout(SPOKEN_TIMEOUT, connection.closed()).await.ok()?;
    match CloseReason::from(closed) {
        CloseReason::Peer {
            code: CloseCode::Version,
            reason,
        } => Some(Text::cut(reason)),
        CloseReason::Peer { .. }
        | CloseReason::Local
        | CloseReason::Silent
        | CloseReason::Restarted
        | CloseReason::Transport(_) => None,
    }
}

fn is_alpn_refusal(error: &ConnectionError) -> bool {
    let refusal =
        TransportErrorCode::crypto(rustls::AlertDescription::NoApplicationProtocol.into());
    match error {
        ConnectionError::ConnectionClosed(close) => close.error_code == refusal,
        ConnectionError::TransportError(error) => error.code == refusal,
        ConnectionError::VersionMismatch => true,
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => false,
    }
}

/// How long an address may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// How long the other side may take to say what it speaks.
const SPOKEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
/// What quinn wants as a name; it is never sent, the key alone says who answers.
const SERVER_NAME: &str = "codevol";

#[cfg(test)]
mod tests;
