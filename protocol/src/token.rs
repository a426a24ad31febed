//! The join token: all that a new node needs to find the source, know it, and be let in, once.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec;
use crate::key::PublicKey;
use crate::limits::VOLUMES_MAX;
use crate::role::Role;

const PREFIX: &str = "cvj1";
/// An agent's token names no role: every build that can join reads it.
const AGENT_VERSION: u8 = 1;
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// Names an invitation; not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What proves that the joiner was invited: 128 random bits, compared in constant time, cleared
/// when dropped, never printed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct TokenSecret(pub [u8; 16]);

impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenSecret {}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

/// An invitation as it is handed over: `cvj1` and lower-case base 32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Where the source is reached: `host:port`, tried in order.
    pub source: Vec<String>,
    /// The source's node key, pinned before anything is sent.
    pub source_key: PublicKey,
    /// Which invitation this is.
    pub id: TokenId,
    /// The proof.
    pub secret: TokenSecret,
    /// What the joiner is to be: it must know what to ask for. The source goes by its own table.
    pub role: Role,
}

/// The text is no token; a single changed character is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin as a token does.
    #[error("a join token begins with `{PREFIX}`")]
    Prefix,
    /// It was cut or changed on the way.
    #[error("join token is damaged: its checksum does not hold")]
    Damaged,
}

impl Token {
    /// Returns the token as text: a secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        let body = match self.role {
            Role::Agent => {
                let fields = (&self.source, &self.source_key, &self.id, &self.secret);
                codec::encode_record(AGENT_VERSION, &fields)
            }
            Role::Operator | Role::Publisher => codec::encode_record(VERSION, self),
        };
        let bytes = [&body[..], &checksum(&body)].concat();
        format!(
            "{PREFIX}{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new_derive_key("codevol join token checksum")
        .update(body)
        .finalize_xof()
        .fill(&mut sum);
    sum
}

impl FromStr for Token {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(InvalidToken::Prefix)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidToken::Damaged);
        }
        // The decoder refuses trailing bits that carry nothing: each bit of the text counts.
        let bytes = BASE32_NOPAD
            .decode(digits.to_ascii_uppercase().as_bytes())
            .or(Err(InvalidToken::Damaged))?;
        let (body, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InvalidToken::Damaged)?;
        if checksum(body) != *sum {
            return Err(InvalidToken::Damaged);
        }
        let token = decode(body).ok_or(InvalidToken::Damaged)?;
        if token.source.is_empty() || token.source.len() > VOLUMES_MAX {
            return Err(InvalidToken::Damaged);
        }
        Ok(token)
    }
}

fn decode(body: &[u8]) -> Option<Token> {
    if body.first() == Some(&AGENT_VERSION) {
        let (source, source_key, id, secret) = codec::decode_record(AGENT_VERSION, body).ok()?;
        return Some(Token {
            source,
            source_key,
            id,
            secret,
            role: Role::Agent,
        });
    }
    let token: Token = codec::decode_record(VERSION, body).ok()?;
    // One encoding only.
    (token.role != Role::Agent).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn token() -> Token {
        Token {
            source: vec!["src01:7443".to_owned()],
            source_key: SecretKey::from_seed(&[1; 32]).public(),
            id: TokenId([2; 8]),
            secret: TokenSecret([3; 16]),
            role: Role::Agent,
        }
    }

    #[test]
    fn a_token_reads_back_and_begins_with_no_dash() {
        for role in [Role::Agent, Role::Operator, Role::Publisher] {
            let token = Token { role, ..token() };
            let text = token.reveal();
            assert!(text.starts_with("cvj1") && !text.contains(|c: char| c.is_ascii_uppercase()));
            assert_eq!(text.parse(), Ok(token));
        }
    }

    #[test]
    fn an_agents_token_is_one_that_older_builds_read() {
        let token = token();
        let fields = (&token.source, &token.source_key, &token.id, &token.secret);
        let body = codec::encode_record(1, &fields);
        let bytes = [&body[..], &checksum(&body)].concat();
        let digits = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
        assert_eq!(token.reveal(), format!("cvj1{digits}"));
    }

    #[test]
    fn each_character_of_a_token_counts() {
        let text = token().reveal();
        for at in 0..text.len() {
            for other in b"abcdefghijklmnopqrstuvwxyz234567A-" {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] != *other {
                    bytes[at] = *other;
                    let changed = String::from_utf8(bytes).unwrap();
                    assert!(changed.parse::<Token>().is_err(), "{changed} was taken");
                }
            }
        }
        assert!(text[..text.len() - 1].parse::<Token>().is_err());
        assert!(format!("{text}a").parse::<Token>().is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", token()).contains('3'.to_string().repeat(3).as_str()));
        assert!(format!("{:?}", token()).contains("TokenSecret(hidden)"));
    }
}
