//! What an agent must believe: the trust record, signed by the operator key that it pinned.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::FleetId;
use crate::key::{BadSignature, Domain, PublicKey, SecretKey, Signature};
use crate::limits::TRUST_KEYS_MAX;
use crate::name::VolumeName;
use crate::release::{Release, ReleaseError, SignedRelease, VerifiedRelease};

const VERSION: u8 = 1;

/// A key that may publish, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// The key.
    pub key: PublicKey,
    /// The volumes it may publish; nothing means every one.
    pub volumes: Option<Vec<VolumeName>>,
}

/// Whom a fleet believes. A later epoch replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The fleet.
    pub fleet: FleetId,
    /// Grows with each change.
    pub epoch: u64,
    /// The keys of the source.
    pub sources: Vec<PublicKey>,
    /// The keys that may sign releases.
    pub publishers: Vec<Publisher>,
    /// The keys that are believed no more, whatever else says so.
    pub revoked: Vec<PublicKey>,
}

/// A trust record as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTrust {
    record: Vec<u8>,
    signature: Signature,
}

/// Why a trust record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The bytes are no encoding of a record.
    #[error("trust record does not decode")]
    Decode(#[from] DecodeError),
    /// The operator key did not sign it.
    #[error("trust record is not signed by the operator key")]
    Signature(#[from] BadSignature),
    /// It is about another fleet.
    #[error("trust record is of fleet {found}, not of {expected}")]
    OtherFleet {
        /// What it says.
        found: FleetId,
        /// What this node joined.
        expected: FleetId,
    },
    /// It is older than the one at hand.
    #[error("trust record's epoch {found} is older than {newest}")]
    Older {
        /// What it says.
        found: u64,
        /// What this node holds.
        newest: u64,
    },
    /// More keys than [`TRUST_KEYS_MAX`].
    #[error("trust record lists more than {TRUST_KEYS_MAX} keys")]
    TooMany,
}

/// Why a release record is refused. The order of the checks is the order here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefused {
    /// The key is on the list of revoked keys.
    #[error("release is signed by the revoked key {0}")]
    Revoked(PublicKey),
    /// The key is no publisher's.
    #[error("release is signed by {0}, which is no publisher key")]
    NotAPublisher(PublicKey),
    /// The signature does not hold.
    #[error("release's signature does not hold")]
    Signature(#[from] BadSignature),
    /// The record does not decode or breaks a limit.
    #[error("release record is invalid")]
    Record(#[from] ReleaseError),
    /// It is meant for another fleet.
    #[error("release is of another fleet ({0})")]
    OtherFleet(FleetId),
    /// It is meant for another volume.
    #[error("release is of volume `{found}`, not of `{expected}`")]
    OtherVolume {
        /// What it says.
        found: VolumeName,
        /// What is asked for.
        expected: VolumeName,
    },
    /// The publisher may not publish this volume.
    #[error("key {key} may not publish volume `{volume}`")]
    NotForVolume {
        /// The publisher.
        key: PublicKey,
        /// The volume.
        volume: VolumeName,
    },
}

impl Trust {
    /// Signs the record with the operator key.
    #[must_use]
    pub fn sign(&self, operator: &SecretKey) -> SignedTrust {
        let record = codec::encode_record(VERSION, self);
        let signature = operator.sign(Domain::Trust, &record);
        SignedTrust { record, signature }
    }

    /// Checks a release record: who signed it, that the signature holds, for which fleet and
    /// volume it is meant, that its numbers are within the limits.
    ///
    /// # Errors
    /// When any of that fails; the error says which.
    pub fn verify_release(
        &self,
        signed: &SignedRelease,
        volume: &VolumeName,
    ) -> Result<VerifiedRelease, ReleaseRefused> {
        if self.revoked.contains(&signed.key) {
            return Err(ReleaseRefused::Revoked(signed.key));
        }
        let publisher = self
            .publishers
            .iter()
            .find(|publisher| publisher.key == signed.key)
            .ok_or(ReleaseRefused::NotAPublisher(signed.key))?;
        signed
            .signature
            .verify(&signed.key, Domain::Release, &signed.record)?;
        let release = Release::decode(&signed.record)?;
        if release.fleet != self.fleet {
            return Err(ReleaseRefused::OtherFleet(release.fleet));
        }
        if release.volume != *volume {
            let (found, expected) = (release.volume, volume.clone());
            return Err(ReleaseRefused::OtherVolume { found, expected });
        }
        if publisher
            .volumes
            .as_ref()
            .is_some_and(|volumes| !volumes.contains(volume))
        {
            return Err(ReleaseRefused::NotForVolume {
                key: signed.key,
                volume: volume.clone(),
            });
        }
        Ok(VerifiedRelease {
            id: signed.id(),
            release,
            signed: signed.clone(),
        })
    }
}

impl SignedTrust {
    /// Checks a trust record against the pinned operator key, at join.
    ///
    /// # Errors
    /// When the key did not sign it or it breaks a limit.
    pub fn verify(&self, operator: &PublicKey) -> Result<Trust, TrustError> {
        self.signature
            .verify(operator, Domain::Trust, &self.record)?;
        let trust: Trust = codec::decode_record(VERSION, &self.record)?;
        let longest = trust
            .sources
            .len()
            .max(trust.publishers.len())
            .max(trust.revoked.len());
        if longest > TRUST_KEYS_MAX {
            Err(TrustError::TooMany)
        } else {
            Ok(trust)
        }
    }

    /// Checks a trust record that is to replace `held`.
    ///
    /// # Errors
    /// When the operator did not sign it, or it is of another fleet or an older epoch.
    pub fn verify_newer(&self, operator: &PublicKey, held: &Trust) -> Result<Trust, TrustError> {
        let trust = self.verify(operator)?;
        if trust.fleet != held.fleet {
            return Err(TrustError::OtherFleet {
                found: trust.fleet,
                expected: held.fleet,
            });
        }
        if trust.epoch < held.epoch {
            return Err(TrustError::Older {
                found: trust.epoch,
                newest: held.epoch,
            });
        }
        Ok(trust)
    }
}

#[cfg(test)]
pub(crate) mod tests;
