//! The one encoding: postcard with a version byte before records, decoded only where encoding the
//! value again gives the same bytes. And length-prefixed frames around messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are no encoding of what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not parse.
    #[error("bytes do not parse: {0}")]
    Malformed(String),
    /// The bytes parse, but are not the one canonical encoding (or something follows them).
    #[error("bytes are not the canonical encoding")]
    NotCanonical,
    /// The version byte names a format that this build does not know.
    #[error("format version {found} is not known, only {known}")]
    Version {
        /// What the bytes say.
        found: u8,
        /// What this build knows.
        known: u8,
    },
    /// The bytes are longer than the format allows.
    #[error("{bytes} bytes are more than the {bytes_max} allowed")]
    TooLong {
        /// How many there are.
        bytes: u64,
        /// How many there may be.
        bytes_max: u64,
    },
}

/// Returns the encoding of a message.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "no type of ours fails to serialise into memory"
)]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our types serialise without error")
}

/// Reads a message; nothing may follow it.
///
/// # Errors
/// When the bytes are no encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = decode_head(bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::NotCanonical)
    }
}

/// Reads a message that raw bytes follow, and returns both.
///
/// # Errors
/// When the bytes do not begin with an encoding of a `T`.
pub fn decode_head<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// Returns the canonical bytes of a record: its version, then its encoding.
#[must_use]
pub fn encode_record<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend(encode(value));
    bytes
}

/// Reads a record out of its canonical bytes.
///
/// # Errors
/// When the version is another, or the bytes are not what [`encode_record`] gives for the value.
pub fn decode_record<T: Serialize + DeserializeOwned>(
    version: u8,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&found, body)) if found == version => {
            let value = decode(body)?;
            if encode(&value) == body {
                Ok(value)
            } else {
                Err(DecodeError::NotCanonical)
            }
        }
        Some((&found, _)) => Err(DecodeError::Version {
            found,
            known: version,
        }),
        None => Err(DecodeError::Malformed("no bytes".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_bytes_of_the_known_version_decode() {
        let bytes = encode_record(1, &300_u32);
        assert_eq!(decode_record::<u32>(1, &bytes), Ok(300));
        assert_eq!(
            decode_record::<u32>(2, &bytes),
            Err(DecodeError::Version { found: 1, known: 2 })
        );
        // 300 in three bytes instead of two: the same value, another encoding.
        assert_eq!(
            decode_record::<u32>(1, &[1, 0xac, 0x82, 0]),
            Err(DecodeError::NotCanonical)
        );
        assert_eq!(
            decode_record::<u32>(1, &[&bytes[..], &[0]].concat()),
            Err(DecodeError::NotCanonical)
        );
        assert!(decode_record::<u32>(1, &[]).is_err());
    }
}
