//! How a person names a release.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ReleaseId;
use crate::release::Seq;

/// A release as a person names it: `r42`, `42`, or the beginning of its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseRef {
    /// By its place.
    Seq(Seq),
    /// By the first hex digits of its id, eight at least.
    Prefix(String),
}

/// The text names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no release: write `r42`, or 8 or more hex digits of its id", .0.escape_debug())]
pub struct InvalidReleaseRef(String);

impl FromStr for ReleaseRef {
    type Err = InvalidReleaseRef;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if let Some(digits) = text.strip_prefix('r')
            && let Ok(seq) = digits.parse()
        {
            return Ok(Self::Seq(Seq(seq)));
        }
        if text.len() < 8
            && let Ok(seq) = text.parse()
        {
            return Ok(Self::Seq(Seq(seq)));
        }
        if (8..=64).contains(&text.len()) && text.bytes().all(hex) {
            return Ok(Self::Prefix(text.to_owned()));
        }
        Err(InvalidReleaseRef(text.to_owned()))
    }
}

impl std::fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seq(seq) => seq.fmt(f),
            Self::Prefix(prefix) => f.pad(prefix),
        }
    }
}

impl ReleaseRef {
    /// Whether this is the release that is meant.
    #[must_use]
    pub fn names(&self, seq: Seq, id: &ReleaseId) -> bool {
        match self {
            Self::Seq(wanted) => *wanted == seq,
            Self::Prefix(prefix) => id.to_string().starts_with(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_by_seq_or_by_its_id() {
        let id = ReleaseId::of(b"x");
        for text in ["r42", "42", &id.short(), &id.to_string()] {
            let named: ReleaseRef = text.parse().unwrap();
            assert!(named.names(Seq(42), &id), "{text}");
        }
        assert!(!"r41".parse::<ReleaseRef>().unwrap().names(Seq(42), &id));
        for bad in ["", "r", "x42", "abcdefg", "r-1", "ABCDEF12", "12 "] {
            assert!(bad.parse::<ReleaseRef>().is_err(), "{bad:?} was taken");
        }
    }
}
