//! A source of our own making, down to the bytes of its streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::codec;
use codevol_protocol::key::SecretKey;
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::message::{AgentHello, FromAgent, FromSource, MINOR, SourceHello};
use codevol_protocol::name::Text;
use codevol_transport::{FrameError, FrameReader};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::craft::{Push, SOURCE, frame, key};

/// Longer than anything here takes; only a hang gets there.
pub(crate) const DEADLINE: Duration = Duration::from_secs(50);
/// The close codes of the wire.
pub(crate) const VIOLATION: u64 = 5;

/// Waits for something that is to happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// Where the agent dials.
#[derive(Debug)]
pub(crate) struct Source {
    endpoint: Endpoint,
}

impl Source {
    pub(crate) fn bind() -> Self {
        let config = server_config(&key(SOURCE));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { endpoint }
    }

    /// Holds this key from now on.
    pub(crate) fn turns_into(&self, key: &SecretKey) {
        self.endpoint.set_server_config(Some(server_config(key)));
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Waits for a dial, and returns how the handshake ended.
    pub(crate) async fn handshake(&self) -> Result<Connection, ConnectionError> {
        let incoming = within("dial", self.endpoint.accept()).await.unwrap();
        within("handshake", incoming.into_future()).await
    }

    /// Waits for an agent and reads its hello.
    pub(crate) async fn accept(&self) -> Conn {
        let connection = self.handshake().await.unwrap();
        let (send, receive) = within("control", connection.accept_bi()).await.unwrap();
        let mut reader = FrameReader::new(receive, CONTROL_FRAME_BYTES_MAX);
        let hello = within("hello", reader.read::<FromAgent>()).await.unwrap();
        let Some(FromAgent::Hello(hello)) = hello else {
            panic!("no hello but {hello:?}");
        };
        Conn {
            connection,
            send,
            reader,
            hello,
        }
    }
}

/// A connection of the agent.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    reader: FrameReader<RecvStream>,
    pub(crate) hello: AgentHello,
}

pub(crate) fn source_hello() -> FromSource {
    FromSource::Hello(SourceHello {
        minor: MINOR,
        build: Text::cut("hostile"),
        node: "dag-01".parse().unwrap(),
    })
}

impl Conn {
    pub(crate) async fn greet(&mut self) {
        self.say(&source_hello()).await;
    }

    pub(crate) async fn say(&mut self, message: &FromSource) {
        self.say_bytes(&frame(&codec::encode(message))).await;
    }

    /// Says anything at all. The agent may have closed already.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        drop(self.send.write_all(bytes).await);
    }

    pub(crate) async fn hear(&mut self) -> Result<Option<FromAgent>, FrameError> {
        within("message", self.reader.read()).await
    }

    pub(crate) async fn push(&self, push: &Push) {
        self.push_bytes(&push.bytes()).await;
    }

    /// Sends a whole stream. The agent may stop it early.
    pub(crate) async fn push_bytes(&self, bytes: &[u8]) {
        let mut stream = within("stream", self.connection.open_uni()).await.unwrap();
        drop(within("push", stream.write_all(bytes)).await);
        drop(stream.finish());
    }

    /// Sends the beginning of a stream, and leaves it open.
    pub(crate) async fn push_open(&self, bytes: &[u8]) -> SendStream {
        let mut stream = within("stream", self.connection.open_uni()).await.unwrap();
        drop(stream.write_all(bytes).await);
        stream
    }

    /// Waits until the agent closes the connection, and returns its code.
    pub(crate) async fn closed(&self, what: &str) -> u64 {
        match within(what, self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            error => panic!("{what}: {error:?}"),
        }
    }
}

fn server_config(key: &SecretKey) -> ServerConfig {
    let pkcs8 = [&PKCS8_PREFIX[..], &key.seed()[..]].concat();
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).unwrap();
    let spki = [&SPKI_PREFIX[..], key.public().as_bytes()].concat();
    let key = Arc::new(CertifiedKey::new(vec![spki.into()], signer));
    let provider = Arc::new(ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyKey(
            ring::default_provider().signature_verification_algorithms,
        )))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![b"codevol/1".to_vec(), b"codevol-join/1".to_vec()];
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// Takes any raw key whose holder signs with it.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
