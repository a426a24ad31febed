//! One line of the journal: its text, its hash, and how it hangs on the line before.

use std::borrow::Cow;

use codevol_protocol::evidence::Evidence;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const HASH_KEY: &str = ",\"hash\":\"";
const HASH_END: &str = "\"}";
const HASH_DIGITS: usize = 64;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who asked for it: an enrolled name, a local user, or codevol itself.
    pub actor: Text,
    /// What was done, as a verb.
    pub action: Cow<'static, str>,
    /// To which volume.
    pub volume: Option<VolumeName>,
    /// Which release.
    #[serde(with = "id")]
    pub release: Option<ReleaseId>,
    /// On which node.
    pub node: Option<NodeName>,
    /// On what evidence.
    pub evidence: Option<Evidence>,
    /// How it ended.
    pub outcome: Cow<'static, str>,
    /// Why, in words.
    pub detail: Option<Text>,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// Its number, from 1 on, over all files.
    pub seq: u64,
    /// The hash of the line before, in hex; zeros before the first.
    pub prev: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The BLAKE3 of the line's text without this field, in hex.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// The end of the chain so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Chain {
    /// Returns the chain before its first line.
    pub(super) fn start() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(HASH_DIGITS),
        }
    }

    /// Returns the chain that ends with a line.
    pub(super) fn after(line: &Line) -> Self {
        Self {
            seq: line.seq,
            hash: line.hash.clone(),
        }
    }

    /// Returns the text of the next line, with its newline, and the chain that ends with it.
    pub(super) fn seal(&self, at: Timestamp, event: Event) -> serde_json::Result<(String, Self)> {
        let line = Line {
            at,
            seq: self.seq + 1,
            prev: self.hash.clone(),
            event,
            hash: String::new(),
        };
        let mut text = serde_json::to_string(&line)?;
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        text.pop();
        for part in [HASH_KEY, &hash, HASH_END, "\n"] {
            text.push_str(part);
        }
        let seq = line.seq;
        Ok((text, Self { seq, hash }))
    }

    /// Checks that a line is the next one.
    pub(super) fn check(&self, line: &Line) -> Result<(), &'static str> {
        if line.seq != self.seq + 1 {
            Err("its number is not the next one")
        } else if line.prev != self.hash {
            Err("it names another line before it")
        } else {
            Ok(())
        }
    }
}

impl Line {
    /// Reads a line out of its text, without its newline, and checks its hash.
    pub(super) fn read(text: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(text).or(Err("it is not UTF-8"))?;
        let (body, hash) = text
            .strip_suffix(HASH_END)
            .and_then(|text| text.split_at_checked(text.len().checked_sub(HASH_DIGITS)?))
            .ok_or("it does not end with a hash")?;
        let body = body
            .strip_suffix(HASH_KEY)
            .ok_or("it does not end with a hash")?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(body.as_bytes()).update(b"}");
        if *hasher.finalize().to_hex() != *hash {
            return Err("its hash is that of another text");
        }
        serde_json::from_str(text).or(Err("it is no journal line"))
    }
}

/// A release's id as text.
mod id {
    use codevol_protocol::id::ReleaseId;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        id: &Option<ReleaseId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ReleaseId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
