//! The other side of a link as a test makes it, down to the bytes of its streams: it holds the key
//! and speaks the protocol that the test wants, and keeps no rule. Nothing here is of the code that
//! is tested; whatever cannot go on panics.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's ground: what fails here fails the test"
)]

mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use codevol_protocol::key::SecretKey;
use quinn::{Connection, ConnectionError, Endpoint, ServerConfig};

/// Longer than anything in a test takes; only a hang gets there.
pub const DEADLINE: Duration = Duration::from_secs(50);

/// The close code of a key that is no member's.
pub const NOT_ENROLLED: u64 = 2;
/// The close code of a link that a newer one of the same key replaced.
pub const REPLACED: u64 = 3;
/// The close code of a key that is a member's no more.
pub const REVOKED: u64 = 4;
/// The close code of a breach of the protocol.
pub const VIOLATION: u64 = 5;

/// Waits for something that is to happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// Returns the key of a seed.
#[must_use]
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Returns a frame, whatever it holds.
#[must_use]
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_le_bytes()[..], bytes].concat()
}

/// Dials with this key and protocol.
pub async fn dial(at: SocketAddr, key: &SecretKey, alpn: &str) -> Connection {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(tls::client_config(key, alpn), at, "codevol");
    within("dial", connecting.unwrap()).await.unwrap()
}

/// Returns what an endpoint needs to be dialled as the holder of this key.
#[must_use]
pub fn listening(key: &SecretKey) -> ServerConfig {
    tls::server_config(key)
}

/// Waits until the other side closes the connection, and returns its code.
pub async fn closed(connection: &Connection, what: &str) -> u64 {
    match within(what, connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        error => panic!("{what}: {error:?}"),
    }
}
