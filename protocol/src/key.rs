//! Ed25519 keys and signatures. Each signature is bound to the kind of record it covers, so that
//! none can be passed off as a signature over another kind.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes or text are no usable ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text is not `ed25519:` and 52 base-32 characters.
    #[error("a key is `ed25519:` and 52 lower-case base-32 characters")]
    Text,
    /// The bytes are no point of the curve, or not its one canonical encoding.
    #[error("key is not a canonical point of the curve")]
    NotCanonical,
    /// The point has a small order: signatures under it prove nothing.
    #[error("key has a small order")]
    SmallOrder,
}

/// An ed25519 public key: a canonical point that has no small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Text in JSON, bytes on the wire.
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            Self::try_from(<[u8; 32]>::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

impl PublicKey {
    /// Returns the key as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight characters of the key's text, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()
            .chars()
            .skip(PREFIX.len())
            .take(8)
            .collect()
    }
}

const PREFIX: &str = "ed25519:";

impl TryFrom<[u8; 32]> for PublicKey {
    type Error = InvalidKey;
    fn try_from(bytes: [u8; 32]) -> Result<Self, Self::Error> {
        let key = VerifyingKey::from_bytes(&bytes).or(Err(InvalidKey::NotCanonical))?;
        if key.is_weak() {
            return Err(InvalidKey::SmallOrder);
        }
        // `from_bytes` keeps the bytes it was given; compressing the point again shows whether
        // they were its one canonical encoding.
        if key.to_edwards().compress().to_bytes() != bytes {
            return Err(InvalidKey::NotCanonical);
        }
        Ok(Self(bytes))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidKey::Text)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidKey::Text);
        }
        let bytes = BASE32_NOPAD
            .decode(digits.to_ascii_uppercase().as_bytes())
            .or(Err(InvalidKey::Text))?;
        Self::try_from(<[u8; 32]>::try_from(bytes).or(Err(InvalidKey::Text))?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}",
            BASE32_NOPAD.encode(&self.0).to_ascii_lowercase()
        )
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

/// An ed25519 secret key. Its memory is cleared when it is dropped; it is never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes the key out of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Returns the 32 bytes that the key is made of: secret.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the canonical bytes of one kind of record.
    #[must_use]
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&message(domain, bytes)).to_bytes().to_vec())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

/// What kind of record a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A release record, signed by a publisher.
    Release,
    /// A trust record, signed by the operator.
    Trust,
}

impl Domain {
    const fn tag(self) -> &'static [u8] {
        match self {
            Self::Release => b"codevol release record\0",
            Self::Trust => b"codevol trust record\0",
        }
    }
}

fn message(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    [domain.tag(), bytes].concat()
}

/// An ed25519 signature, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(Vec<u8>);

/// The signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not hold")]
pub struct BadSignature;

impl Signature {
    /// Checks that `key` signed these bytes as this kind of record, by the strict rules of
    /// `ed25519-dalek`'s `verify_strict` (no small-order components, canonical encodings only).
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(
        &self,
        key: &PublicKey,
        domain: Domain,
        bytes: &[u8],
    ) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_slice(&self.0).or(Err(BadSignature))?;
        let key = VerifyingKey::from_bytes(&key.0).or(Err(BadSignature))?;
        key.verify_strict(&message(domain, bytes), &signature)
            .or(Err(BadSignature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    #[test]
    fn a_signature_holds_for_its_key_kind_and_bytes_alone() {
        let signature = key(1).sign(Domain::Release, b"bytes");
        assert_eq!(
            signature.verify(&key(1).public(), Domain::Release, b"bytes"),
            Ok(())
        );
        for (seed, domain, bytes) in [
            (2, Domain::Release, &b"bytes"[..]),
            (1, Domain::Trust, b"bytes"),
            (1, Domain::Release, b"byteS"),
        ] {
            assert_eq!(
                signature.verify(&key(seed).public(), domain, bytes),
                Err(BadSignature)
            );
        }
        assert_eq!(
            Signature(Vec::new()).verify(&key(1).public(), Domain::Release, b"bytes"),
            Err(BadSignature)
        );
    }

    #[test]
    fn small_order_and_non_canonical_keys_do_not_parse() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::try_from(identity), Err(InvalidKey::SmallOrder));
        assert_eq!(PublicKey::try_from([0; 32]), Err(InvalidKey::SmallOrder));
        // y = p + 3: the same point as y = 3 or no point, but never the canonical encoding.
        for low in 0xed..=0xff {
            let mut bytes = [0xff; 32];
            bytes[0] = low;
            bytes[31] = 0x7f;
            assert!(PublicKey::try_from(bytes).is_err(), "{low:#x}");
        }
    }

    #[test]
    fn a_key_reads_back_from_its_text_and_a_secret_is_not_printed() {
        let public = key(3).public();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!(
            public.to_string().to_uppercase().parse::<PublicKey>(),
            Err(InvalidKey::Text)
        );
        assert!(format!("{:?}", key(3)).starts_with("SecretKey(of "));
    }
}
