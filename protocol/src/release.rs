//! The release record: what was published, by whom and why; signed, canonical, content-addressed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{BlobId, FleetId, ManifestId, ReleaseId};
use crate::key::{Domain, PublicKey, SecretKey, Signature};
use crate::limits::{ENTRIES_MAX, FINGERPRINTS_MAX, MANIFEST_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::manifest::Manifest;
use crate::name::{Text, VolumeName};
use crate::path::RelPath;

const VERSION: u8 = 1;

/// A release's place in its volume's history: 1, 2, 3 ... Shown as `r42`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}", self.0))
    }
}

/// A moment, in milliseconds since 1970 UTC. Informational: nothing is ordered by it. In JSON it is
/// RFC 3339 text, on the wire a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{timestamp:.3}")
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        u64::try_from(timestamp.as_millisecond())
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// What made a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The watcher saw the tree change.
    Watch,
    /// A person pushed the whole tree.
    Push,
    /// A person pushed named paths.
    HotFix,
    /// A person went back to an older manifest.
    Rollback,
    /// What stood on one node before codevol did. Only that node has it; it is never published.
    Baseline,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Watch => "watch",
            Self::Push => "push",
            Self::HotFix => "hot-fix",
            Self::Rollback => "rollback",
            Self::Baseline => "baseline",
        })
    }
}

/// Where the tree stood in git when it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit's hash, in hex.
    pub commit: Text,
    /// The branch; nothing on a detached head.
    pub branch: Option<Text>,
    /// Whether the tree differed from the commit.
    pub dirty: bool,
}

/// One dependency file of the tree, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The file.
    pub path: RelPath,
    /// Its bytes.
    pub blob: BlobId,
}

/// One published state of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The fleet it is meant for.
    pub fleet: FleetId,
    /// The volume it is a state of.
    pub volume: VolumeName,
    /// The epoch of the trust record under which it was signed.
    pub epoch: u64,
    /// Its place in the history.
    pub seq: Seq,
    /// The release before it; nothing for the first.
    pub parent: Option<ReleaseId>,
    /// The tree.
    pub manifest: ManifestId,
    /// Length of the manifest's canonical bytes.
    pub manifest_bytes: u64,
    /// How many entries the manifest has.
    pub entries: u64,
    /// The sum of the file sizes.
    pub total_bytes: u64,
    /// The effective ignore rules, as a blob.
    pub ignore_rules: BlobId,
    /// When it was published. Informational.
    pub created_at: UnixMillis,
    /// What made it.
    pub origin: Origin,
    /// The enrolled name, or the local user, that asked for it.
    pub author: Text,
    /// The host it was published on.
    pub host: Text,
    /// Why.
    pub message: Text,
    /// Where the tree stood in git.
    pub git: Option<Git>,
    /// The dependency files of the tree.
    pub fingerprints: Vec<Fingerprint>,
}

/// Why bytes are no release record, or a manifest is not a release's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The bytes are no encoding of a record.
    #[error("release record does not decode")]
    Decode(#[from] DecodeError),
    /// A number of the record is over its limit.
    #[error("release record says {what} = {value}, more than {value_max}")]
    OverLimit {
        /// Which number.
        what: &'static str,
        /// What the record says.
        value: u64,
        /// What it may say.
        value_max: u64,
    },
    /// Seq 0, or a parent where there can be none, or none where there must be one.
    #[error("release record's seq and parent do not fit together")]
    Lineage,
    /// The manifest is another, or its totals are not what the record says.
    #[error("manifest does not add up to what the release record says ({0})")]
    Totals(&'static str),
}

impl Release {
    /// Returns the canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_record(VERSION, self)
    }

    /// Reads a record out of its canonical bytes and checks its numbers against the limits.
    ///
    /// # Errors
    /// When the bytes are not canonical or a number is over its limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let release = Self::decode_any(bytes)?;
        let is_first = release.seq.0 == 1;
        if release.is_baseline() || release.seq.0 == 0 || release.parent.is_none() != is_first {
            return Err(ReleaseError::Lineage);
        }
        Ok(release)
    }

    /// Whether it is what stood on a node before the first release.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        self.origin == Origin::Baseline
    }

    fn decode_any(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let release: Self = codec::decode_record(VERSION, bytes)?;
        for (what, value, value_max) in [
            ("entries", release.entries, ENTRIES_MAX as u64),
            ("manifest bytes", release.manifest_bytes, MANIFEST_BYTES_MAX),
            ("total bytes", release.total_bytes, RELEASE_BYTES_MAX),
            (
                "fingerprints",
                release.fingerprints.len() as u64,
                FINGERPRINTS_MAX as u64,
            ),
        ] {
            if value > value_max {
                return Err(ReleaseError::OverLimit {
                    what,
                    value,
                    value_max,
                });
            }
        }
        Ok(release)
    }

    /// Signs the record.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> SignedRelease {
        let record = self.encode();
        let signature = key.sign(Domain::Release, &record);
        SignedRelease {
            record,
            key: key.public(),
            signature,
        }
    }

    /// Checks that a manifest is this release's: its hash, its length and its totals.
    ///
    /// # Errors
    /// When something does not add up; the error says what.
    pub fn admits(&self, manifest: &Manifest) -> Result<(), ReleaseError> {
        let bytes = manifest.encode();
        for (holds, what) in [
            (ManifestId::of(&bytes) == self.manifest, "id"),
            (bytes.len() as u64 == self.manifest_bytes, "length"),
            (manifest.entries().len() as u64 == self.entries, "entries"),
            (manifest.total_bytes() == self.total_bytes, "total bytes"),
        ] {
            if !holds {
                return Err(ReleaseError::Totals(what));
            }
        }
        Ok(())
    }
}

/// A release record as it travels: canonical bytes and a signature that nobody has checked yet.
/// [`crate::trust::Trust::verify_release`] turns it into a [`VerifiedRelease`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRelease {
    pub(crate) record: Vec<u8>,
    pub(crate) key: PublicKey,
    pub(crate) signature: Signature,
}

impl SignedRelease {
    /// Returns the id of the record, signed well or not.
    #[must_use]
    pub fn id(&self) -> ReleaseId {
        ReleaseId::of(&self.record)
    }

    /// Reads the record without checking who signed it: for what this host itself keeps.
    ///
    /// # Errors
    /// When the bytes are no release record.
    pub fn read(&self) -> Result<Release, ReleaseError> {
        Release::decode(&self.record)
    }

    /// Reads the record of this node's own baseline: seq 0, with nothing before it. Nothing that comes
    /// from elsewhere is read as one.
    ///
    /// # Errors
    /// When the bytes are no such record.
    pub fn read_baseline(&self) -> Result<Release, ReleaseError> {
        let release = Release::decode_any(&self.record)?;
        let is_one = release.is_baseline() && release.seq.0 == 0 && release.parent.is_none();
        is_one.then_some(release).ok_or(ReleaseError::Lineage)
    }
}

/// A release whose signature a trusted publisher made for this fleet and volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRelease {
    pub(crate) id: ReleaseId,
    pub(crate) release: Release,
    pub(crate) signed: SignedRelease,
}

impl VerifiedRelease {
    /// Returns the release's id.
    #[must_use]
    pub const fn id(&self) -> ReleaseId {
        self.id
    }

    /// Returns the record.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// Returns the record as it travels.
    #[must_use]
    pub const fn signed(&self) -> &SignedRelease {
        &self.signed
    }

    /// Returns the name of the release's directory: `000042-3f9ac1d2`.
    #[must_use]
    pub fn dir_name(&self) -> String {
        dir_name(self.release.seq, &self.id)
    }
}

/// Returns the name of a release's directory: seq in six digits, first eight hex digits of the id.
#[must_use]
pub fn dir_name(seq: Seq, id: &ReleaseId) -> String {
    format!("{:06}-{}", seq.0, id.short())
}
