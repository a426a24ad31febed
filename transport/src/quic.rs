//! How quinn is set up on the two sides: timeouts, windows, counts of streams.

use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::key::SecretKey;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ClientConfig, Connection, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::{Alpn, tls};

/// Returns the configuration of an accepted connection.
#[expect(
    clippy::expect_used,
    reason = "the provider has the suite that QUIC begins with"
)]
pub(crate) fn server_config(key: &SecretKey) -> ServerConfig {
    let crypto = QuicServerConfig::try_from(tls::server_config(key))
        .expect("the provider has the initial suite");
    let mut transport = transport_config();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .max_concurrent_uni_streams(VarInt::from_u32(4))
        // A stranger can fill these before anyone has asked who it is.
        .stream_receive_window(VarInt::from_u32(256 << 10))
        .receive_window(VarInt::from_u32(1 << 20))
        // What is on its way delays a control message on a slow link, and costs memory a peer.
        .send_window(2 << 20);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(1024)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(4 << 20);
    config
}

/// Returns the configuration of one dial.
#[expect(
    clippy::expect_used,
    reason = "the provider has the suite that QUIC begins with"
)]
pub(crate) fn client_config(
    key: Arc<CertifiedKey>,
    alpn: Alpn,
    verifier: Arc<tls::KeyVerifier>,
) -> ClientConfig {
    let crypto = QuicClientConfig::try_from(tls::client_config(key, alpn, verifier))
        .expect("the provider has the initial suite");
    let mut transport = transport_config();
    transport
        // One side is enough to keep the path open; the other side would only answer.
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(PUSHES_MAX))
        .stream_receive_window(VarInt::from_u32(PUSH_WINDOW_BYTES))
        // Room for every push to stand unread, and still for control messages.
        .receive_window(VarInt::from_u32((PUSHES_MAX + 2) * PUSH_WINDOW_BYTES))
        .send_window(1 << 20);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None);
    transport
}

/// Returns what the two sides of a connection settled on.
pub(crate) fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    let handshake = connection.handshake_data()?;
    handshake.downcast::<HandshakeData>().ok()?.protocol
}

/// Returns the configuration of a listening endpoint. All that a later process needs to answer the
/// connections of this one comes out of `reset_key`: the reset tokens, and the mark by which it
/// knows a connection id for its own.
pub(crate) fn endpoint_config(reset_key: &[u8; 32]) -> EndpointConfig {
    let ids_key = blake3::keyed_hash(reset_key, b"codevol connection ids");
    let ids_key = ids_key.as_bytes().first_chunk().copied();
    let ids_key = u64::from_le_bytes(ids_key.unwrap_or_default());
    let mut config = EndpointConfig::new(Arc::new(ResetKey(Zeroizing::new(*reset_key))));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids_key)))
        // A whole fleet may have to be told at once; a reset is smaller than what it answers.
        .min_reset_interval(Duration::from_millis(1));
    config
}

/// The key of the stateless-reset tokens.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, message: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0)
            .update(message)
            .finalize_xof()
            .fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, message);
        // The comparison of two `Hash`es takes the same time whatever they hold.
        match <[u8; blake3::OUT_LEN]>::try_from(signature) {
            Ok(signature) if expected == signature => Ok(()),
            Ok(_) | Err(_) => Err(CryptoError),
        }
    }
}

/// Most pushes under way at once to one agent.
pub(crate) const PUSHES_MAX: u32 = 8;
/// How much of one push may stand unread.
pub(crate) const PUSH_WINDOW_BYTES: u32 = 4 << 20;
/// At the next one an agent learns that its source was restarted, so it is back within this, its first
/// wait before it dials, and a handshake: together a second.
const KEEP_ALIVE: Duration = Duration::from_millis(750);
/// After so long a silence the other side is gone: a rollout does not wait longer for a member that
/// was killed. Long enough to lose ten keep-alives in a row, and to let a host hang for a while.
const IDLE_TIMEOUT_MS: u32 = 10_000;
/// The first packet of a dial is sent again after three times this, then after twice as long, and so
/// on: the shorter, the sooner a source that comes back meanwhile is found. Where the way itself takes
/// longer it costs a packet or two.
const INITIAL_RTT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
