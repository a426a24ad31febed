//! Strangers, impostors and noise.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::net::UdpSocket;

use super::*;
use crate::{AcceptError, tls};

fn verifier() -> Arc<tls::KeyVerifier> {
    Arc::new(tls::KeyVerifier::of(Some(source_key().public())))
}

fn client_tls() -> rustls::ClientConfig {
    tls::client_config(tls::certified(&agent_key()), Alpn::Node, verifier())
}

/// Shows one key and signs with another.
fn two_faced(shown: &SecretKey, held: &SecretKey) -> Arc<CertifiedKey> {
    let cert = tls::certified(shown).cert.clone();
    Arc::new(CertifiedKey::new(cert, tls::certified(held).key.clone()))
}

/// Dials a listener with this TLS, and returns what the listener makes of it.
async fn refused(tls: rustls::ClientConfig) -> AcceptError {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connecting = client.connect_with(config, addr, "codevol").unwrap();
    let dialled = async {
        // With TLS 1.3 the client is done before the server has looked at its key.
        match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    let accepted = async {
        let pending = listener.accept().await.unwrap();
        pending.handshake(DEADLINE).await
    };
    let (_, accepted) = tokio::join!(dialled, accepted);
    // The listener is none the worse for it.
    pair_on(&listener, Alpn::Node).await;
    accepted.unwrap_err()
}

/// Dials a server with this TLS, and returns what the dialler makes of it.
async fn refuses(tls: rustls::ServerConfig) -> DialError {
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let server = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = server.local_addr().unwrap();
    let pinned = source_key().public();
    let accepted = async { server.accept().await.unwrap().await };
    let (dialled, accepted) = tokio::join!(dial(addr, Alpn::Node, &pinned), accepted);
    // It failed before the dialler showed its own key, let alone sent anything.
    accepted.unwrap_err();
    dialled.unwrap_err()
}

#[tokio::test]
async fn a_server_with_another_key_is_the_wrong_one_and_learns_nothing() {
    let error = refuses(tls::server_config(&SecretKey::from_seed(&[9; 32]))).await;
    assert!(
        matches!(&error, DialError::WrongKey { pinned, .. } if *pinned == source_key().public()),
        "{error:?}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_server_that_shows_the_pinned_key_without_holding_it_is_the_wrong_one() {
    let impostor = SecretKey::from_seed(&[9; 32]);
    let mut tls = tls::server_config(&impostor);
    tls.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(two_faced(
        &source_key(),
        &impostor,
    )));
    let error = refuses(tls).await;
    assert!(matches!(error, DialError::WrongKey { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_of_another_version_is_told_apart_from_a_wrong_key() {
    let mut tls = tls::server_config(&source_key());
    tls.alpn_protocols = vec![b"codevol/2".to_vec()];
    let error = refuses(tls).await;
    assert!(matches!(error, DialError::Version { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_of_another_version_is_named_with_both_versions() {
    for (version, says) in [("codevol/2", "codevol/2"), ("codevol/0", "\x1b[2J")] {
        let mut tls = tls::server_config(&source_key());
        tls.alpn_protocols = vec![version.into(), b"codevol-versions".to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let server = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = server.local_addr().unwrap();
        let pinned = source_key().public();
        let answered = async {
            let connection = server.accept().await.unwrap().await.unwrap();
            connection.close(CloseCode::Version.into(), says.as_bytes());
        };
        let (dialled, ()) = tokio::join!(dial(addr, Alpn::Node, &pinned), answered);
        let error = dialled.unwrap_err();
        assert!(!error.is_retryable());
        let shown = says.replace('\x1b', "\\u{1b}");
        let expected = format!("`{addr}` does not speak `codevol/1`, but `{shown}`");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_client_of_another_version_is_told_which_there_are() {
    for version in ["codevol/0", "codevol/2"] {
        let listener = listen();
        let addr = listener.local_addr().unwrap();
        let mut tls = client_tls();
        tls.alpn_protocols = vec![version.into(), b"codevol-versions".to_vec()];
        let client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = client.connect_with(config, addr, "codevol").unwrap();
        let told = async { CloseReason::from(connecting.await.unwrap().closed().await) };
        let accepted = async {
            let pending = listener.accept().await.unwrap();
            pending.handshake(DEADLINE).await
        };
        let (told, accepted) = tokio::join!(told, accepted);
        let reason = "codevol/1, codevol-join/1".to_owned();
        let code = CloseCode::Version;
        assert_eq!(told, CloseReason::Peer { code, reason });
        let error = accepted.unwrap_err();
        assert!(matches!(error, AcceptError::Version), "{error:?}");
        // The listener is none the worse for it.
        pair_on(&listener, Alpn::Node).await;
    }
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused() {
    for protocols in [vec![b"h3".to_vec()], vec![b"codevol/2".to_vec()], vec![]] {
        let mut tls = client_tls();
        tls.alpn_protocols = protocols;
        let error = refused(tls).await;
        assert!(matches!(error, AcceptError::Handshake(_)), "{error:?}");
    }
}

/// A client that has nothing to show, whether or not it has heard of raw public keys.
#[derive(Debug)]
struct NoKey {
    knows_raw_keys: bool,
}

impl ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }

    fn only_raw_public_keys(&self) -> bool {
        self.knows_raw_keys
    }
}

#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    for knows_raw_keys in [true, false] {
        let mut tls = client_tls();
        tls.client_auth_cert_resolver = Arc::new(NoKey { knows_raw_keys });
        let error = refused(tls).await;
        assert!(matches!(error, AcceptError::Handshake(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_that_shows_a_key_without_holding_it_is_refused() {
    let mut tls = client_tls();
    tls.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(two_faced(
        &agent_key(),
        &SecretKey::from_seed(&[9; 32]),
    )));
    let error = refused(tls).await;
    assert!(matches!(error, AcceptError::Handshake(_)), "{error:?}");
}

/// Signs anything for the key that is the neutral point: everybody can.
#[derive(Debug)]
struct Neutral;

impl SigningKey for Neutral {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Neutral {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // R is the neutral point and s is nought: s·B = R + h·A holds for every message.
        let mut signature = vec![0; 64];
        signature[0] = 1;
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[tokio::test]
async fn a_client_with_a_key_of_small_order_is_refused_though_its_signature_holds() {
    let mut spki = tls::certified(&agent_key()).cert[0].to_vec();
    spki[12..].fill(0);
    spki[12] = 1;
    let shown = CertifiedKey::new(vec![spki.into()], Arc::new(Neutral));
    let mut tls = client_tls();
    tls.client_auth_cert_resolver =
        Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(shown)));
    let error = refused(tls).await;
    assert!(matches!(error, AcceptError::Handshake(_)), "{error:?}");
}

#[test]
fn tls_1_2_is_refused_by_both_sides() {
    let versions: [&[&rustls::SupportedProtocolVersion]; 1] = [&[&rustls::version::TLS12]];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old_client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions[0])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier())
        .with_client_cert_resolver(client_tls().client_auth_cert_resolver);
    let old_server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions[0])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(tls::server_config(&source_key()).cert_resolver);
    for (client, server) in [
        (old_client, tls::server_config(&source_key())),
        (client_tls(), old_server),
    ] {
        let name = "codevol".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.read_tls(&mut &hello[..]).unwrap();
        let error = server.process_new_packets().unwrap_err();
        assert!(
            matches!(error, rustls::Error::PeerIncompatible(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn noise_on_the_socket_does_not_keep_the_next_peer_out() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let noise = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut bytes = [0; 1400];
    for first in 0..=u8::MAX {
        getrandom::fill(&mut bytes).unwrap();
        bytes[0] = first;
        // Half of it names version 1 of QUIC, as a real packet does.
        if first % 2 == 0 {
            bytes[1..5].copy_from_slice(&1_u32.to_be_bytes());
        }
        let length = 1 + usize::from(first) * 5;
        noise.send_to(&bytes[..length], addr).await.unwrap();
    }
    let (_link, peer) = pair_on(&listener, Alpn::Node).await;
    assert_eq!(peer.key, agent_key().public());
}

#[tokio::test]
async fn a_dial_says_what_kept_it_from_arriving() {
    let dialer = Dialer::new(&agent_key());
    let pinned = source_key().public();
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mute_addr = mute.local_addr().unwrap().to_string();
    let short = Duration::from_millis(300);
    let dial = async |host_port: &str| {
        let result = dialer.dial(host_port, Alpn::Node, &pinned, short).await;
        result.unwrap_err()
    };
    let error = dial("no port").await;
    assert!(matches!(error, DialError::Unresolvable { .. }), "{error:?}");
    let error = dial("127.0.0.1:0").await;
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    let error = dial(&mute_addr).await;
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_socket_that_is_taken_cannot_be_bound() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let error = Listener::bind(addr, &source_key(), &RESET_KEY).unwrap_err();
    assert_eq!(error.addr, addr);
}
