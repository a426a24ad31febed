//! TLS 1.3 with raw public keys (RFC 7250): no authority, no certificate, no ticket. The dialling
//! side pins the key it expects; the listening side accepts any ed25519 key and leaves the rest to
//! its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use codevol_protocol::key::{PublicKey, SecretKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::{Alpn, VERSIONS};

/// Wraps a node key as rustls wants it.
#[expect(
    clippy::expect_used,
    reason = "any 32 bytes are an ed25519 seed, and the wrapping is fixed"
)]
pub(crate) fn certified(key: &SecretKey) -> Arc<CertifiedKey> {
    let pkcs8 = Zeroizing::new([&PKCS8_PREFIX[..], &key.seed()[..]].concat());
    let signing_key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..]))
        .expect("the document is well formed");
    let spki = [&SPKI_PREFIX[..], key.public().as_bytes()].concat();
    Arc::new(CertifiedKey::new(vec![spki.into()], signing_key))
}

/// Reads the key out of what the peer presented.
pub(crate) fn public_key(presented: &CertificateDer<'_>) -> Option<PublicKey> {
    let bytes = presented.strip_prefix(&SPKI_PREFIX[..])?;
    PublicKey::try_from(<[u8; 32]>::try_from(bytes).ok()?).ok()
}

/// Returns the TLS side of a listener.
#[expect(
    clippy::expect_used,
    reason = "the provider has TLS 1.3 whatever the input"
)]
pub(crate) fn server_config(key: &SecretKey) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(KeyVerifier::of(None)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
            key,
        ))));
    // In the order in which it prefers them.
    config.alpn_protocols = Alpn::ALL.map(|alpn| alpn.as_str().into()).to_vec();
    config.alpn_protocols.push(VERSIONS.to_vec());
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Returns the TLS side of one dial.
#[expect(
    clippy::expect_used,
    reason = "the provider has TLS 1.3 whatever the input"
)]
pub(crate) fn client_config(
    key: Arc<CertifiedKey>,
    alpn: Alpn,
    verifier: Arc<KeyVerifier>,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.alpn_protocols = vec![alpn.as_str().into(), VERSIONS.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

/// Checks the key that the other side presents, and its proof that it holds it.
#[derive(Debug)]
pub(crate) struct KeyVerifier {
    /// The one key that will do; any where there is none.
    pinned: Option<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether the other side failed to show that it holds the pinned key. rustls tells its caller
    /// no more than an alert.
    wrong_key: AtomicBool,
}

impl KeyVerifier {
    pub(crate) fn of(pinned: Option<PublicKey>) -> Self {
        Self {
            pinned,
            algorithms: ring::default_provider().signature_verification_algorithms,
            wrong_key: AtomicBool::new(false),
        }
    }

    /// Returns whether the other side failed to show that it holds the key.
    pub(crate) fn saw_wrong_key(&self) -> bool {
        self.wrong_key.load(Ordering::Relaxed)
    }

    fn check_key(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        match (public_key(presented), self.pinned) {
            (Some(key), Some(pinned)) if key == pinned => Ok(()),
            (Some(_), None) => Ok(()),
            (Some(_) | None, Some(_)) | (None, None) => {
                self.wrong_key.store(true, Ordering::Relaxed);
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(presented.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
            .inspect_err(|_| self.wrong_key.store(true, Ordering::Relaxed))
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// What stands before the 32 bytes of an ed25519 public key on the wire.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// What stands before the 32 bytes of an ed25519 seed in PKCS#8.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
