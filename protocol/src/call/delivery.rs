//! Publishing files that lie with the caller. They follow the call on its own stream:
//!
//! ```text
//!   caller                              source
//!     | Deliver{manifest_bytes, ...} ->   |   refused at once, where it may not be
//!     | manifest, ignore rules ->         |   chunks
//!     |   <- Lacks{files, more}           |   what the source does not hold, in the manifest's order
//!     | those files ->                    |   chunks; each is checked against its hash
//!     |   <- Plan, events, Outcome        |   as of any push
//! ```
//! A dry run needs no file, and the plan follows the ignore rules.

use serde::{Deserialize, Serialize};

use super::Push;
use crate::limits::{CHUNK_BYTES, IGNORE_RULES_BYTES_MAX, LACKS_MAX, MANIFEST_BYTES_MAX};
use crate::name::Text;
use crate::release::Git;

/// What is delivered, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// How it is to be published. It names no paths: the manifest does.
    pub push: Push,
    /// Whether it is a whole tree; else it is laid over what is live.
    pub whole: bool,
    /// Whether an edit in the source's tree that is not published gives way to it.
    pub force: bool,
    /// The caller's host, for people.
    pub host: Text,
    /// Where the caller's files stand in git.
    pub git: Option<Git>,
    /// How long the manifest is.
    pub manifest_bytes: u64,
    /// How long the ignore rules of a whole tree are; a part of one has none.
    pub rules_bytes: u64,
}

/// What is announced is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {bytes} bytes is over the limit of {bytes_max}")]
pub struct TooMuch {
    what: &'static str,
    bytes: u64,
    bytes_max: u64,
}

impl Delivery {
    /// Checks what is announced, before memory is taken for it.
    ///
    /// # Errors
    /// When it is longer than it may be.
    pub fn check(&self) -> Result<(), TooMuch> {
        let within = |what, bytes: u64, bytes_max: u64| {
            let too_much = TooMuch {
                what,
                bytes,
                bytes_max,
            };
            (bytes <= bytes_max).then_some(()).ok_or(too_much)
        };
        within("manifest", self.manifest_bytes, MANIFEST_BYTES_MAX)?;
        within("ignore rules", self.rules_bytes, IGNORE_RULES_BYTES_MAX)
    }
}

/// Which of the announced files the source lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    /// Their places among the entries of the manifest, rising, over all of these messages.
    pub files: Vec<u32>,
    /// Whether another such message follows.
    pub more: bool,
}

impl Lacks {
    /// Returns the messages that say this.
    pub fn of(files: &[u32]) -> impl Iterator<Item = Self> {
        let mut left = files;
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let (some, rest) = left.split_at_checked(LACKS_MAX).unwrap_or((left, &[]));
            left = rest;
            is_over = rest.is_empty();
            Some(Self {
                files: some.to_vec(),
                more: !is_over,
            })
        })
    }
}

/// Returns how long the next chunk is of something of which so much is left: all but the last one are
/// full, so that whoever sends slowly is known by one.
#[must_use]
pub fn chunk_bytes(left: u64) -> usize {
    usize::try_from(left)
        .unwrap_or(CHUNK_BYTES)
        .min(CHUNK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacked_is_said_in_messages_of_which_the_last_says_so() {
        let said = |count: u32| {
            let files: Vec<u32> = (0..count).collect();
            let said: Vec<(usize, bool)> = Lacks::of(&files)
                .map(|lacks| (lacks.files.len(), lacks.more))
                .collect();
            said
        };
        assert_eq!(said(0), [(0, false)]);
        assert_eq!(said(3), [(3, false)]);
        let most = u32::try_from(LACKS_MAX).unwrap();
        assert_eq!(said(most), [(LACKS_MAX, false)]);
        assert_eq!(said(most + 1), [(LACKS_MAX, true), (1, false)]);
    }

    #[test]
    fn all_chunks_but_the_last_are_full() {
        let full = CHUNK_BYTES as u64;
        assert_eq!(chunk_bytes(full + 1), CHUNK_BYTES);
        assert_eq!(chunk_bytes(1), 1);
        assert_eq!(chunk_bytes(u64::MAX), CHUNK_BYTES);
    }
}
