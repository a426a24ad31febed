//! What a source is made of before it has any volume: its keys, its trust record, its roster.
//! `init` makes them once; the daemon opens them.
//!
//! With the defaults all keys lie here, on the source host: signatures then protect against the
//! wire, the store, other nodes and mistakes, not against whoever owns this host. The operator key may
//! be kept elsewhere: it signs the trust record, and nothing that a running source does.

use std::path::Path;

use codevol_protocol::id::FleetId;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::trust::{Publisher, SignedTrust, Trust, TrustError};
use codevol_store::dir::{Dir, DirError};
use codevol_store::persist;
use codevol_store::state::{Document, StateError};
use codevol_transport::keyfile::{self, KeyFileError};

use crate::roster::Roster;

const ROSTER: &str = "roster.json";
const ROSTER_SCHEMA: &str = "codevol.roster/1";
const TRUST: &str = "trust.json";
const TRUST_SCHEMA: &str = "codevol.trust/1";
const RESET_KEY: &str = "reset.key";
const NODE_KEY: &str = "node.key";
const OPERATOR_KEY: &str = "operator.key";
/// The public half of an operator key that is kept elsewhere.
const OPERATOR: &str = "operator.json";
const OPERATOR_SCHEMA: &str = "codevol.operator/1";
const PUBLISHER_KEY: &str = "publisher.key";
const FILE_MODE: u32 = 0o600;
const RESET_KEY_BYTES: usize = 32;

/// A source's identity cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of STATE cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A document of STATE cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is no identity here: `init` was not run.
    #[error("state directory holds no `{0}`: it is not a source's")]
    Absent(&'static str),
    /// The stored trust record does not fit to the operator key.
    #[error("stored trust record does not hold")]
    Trust(#[from] TrustError),
    /// The stateless-reset key is not 32 bytes.
    #[error("`{RESET_KEY}` is not {RESET_KEY_BYTES} bytes long")]
    ResetKey,
    /// The system gives no random bytes.
    #[error("system gives no random bytes")]
    Random,
}

/// A source's keys and tables.
#[derive(Debug)]
pub struct Identity {
    /// Speaks for this host on the network.
    pub node: SecretKey,
    /// Signs releases.
    pub publisher: SecretKey,
    /// Lets agents' old connections end at once when this process is a new one.
    pub reset_key: [u8; RESET_KEY_BYTES],
    /// The operator's public key: agents pin it.
    pub operator: PublicKey,
    /// What agents believe.
    pub trust: Trust,
    /// The same, signed.
    pub signed_trust: SignedTrust,
    /// Members and invitations.
    pub roster: Document<Roster>,
}

impl Identity {
    /// Returns whether a source's keys lie in this directory, or were begun to be made there; not where
    /// there is no such directory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn exists(state: &Path) -> Result<bool, IdentityError> {
        let dir = match Dir::open(state) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        for own in [PUBLISHER_KEY, TRUST, ROSTER] {
            if dir.stat(own)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes keys, trust record and an empty roster in a new state directory.
    ///
    /// # Errors
    /// When something is there already or cannot be written.
    pub fn create(state: &Path) -> Result<(), IdentityError> {
        let operator = || keyfile::create(&state.join(OPERATOR_KEY));
        Self::create_by(state, operator)
    }

    /// Makes the same, with an operator key in a file that is elsewhere. A key that is there already is not
    /// taken: it is a fleet's, and its hash is that fleet's name.
    ///
    /// # Errors
    /// When something is there already or cannot be written.
    pub fn create_with(state: &Path, operator: &Path) -> Result<(), IdentityError> {
        Self::create_by(state, || {
            let key = keyfile::create(operator)?;
            let dir = Dir::open(state)?;
            Document::create(&dir, OPERATOR, OPERATOR_SCHEMA, key.public())?;
            Ok::<_, IdentityError>(key)
        })
    }

    fn create_by<E>(
        state: &Path,
        operator: impl FnOnce() -> Result<SecretKey, E>,
    ) -> Result<(), IdentityError>
    where
        IdentityError: From<E>,
    {
        let dir = Dir::open(state)?;
        let node = keyfile::create(&state.join(NODE_KEY))?;
        let operator = operator()?;
        let publisher = keyfile::create(&state.join(PUBLISHER_KEY))?;
        persist::write(&dir, RESET_KEY, FILE_MODE, &random::<RESET_KEY_BYTES>()?)?;
        let trust = Trust {
            fleet: FleetId::of(operator.public().as_bytes()),
            epoch: 1,
            sources: vec![node.public()],
            publishers: vec![Publisher {
                key: publisher.public(),
                volumes: None,
            }],
            revoked: Vec::new(),
        };
        Document::create(&dir, TRUST, TRUST_SCHEMA, trust.sign(&operator))?;
        // The roster comes last: a directory that has it is complete.
        Document::create(&dir, ROSTER, ROSTER_SCHEMA, Roster::default())?;
        Ok(())
    }

    /// Opens what [`Self::create`] made.
    ///
    /// # Errors
    /// When something is missing, damaged, or readable by others.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        let dir = Dir::open(state)?;
        let roster =
            Document::open(&dir, ROSTER, ROSTER_SCHEMA)?.ok_or(IdentityError::Absent(ROSTER))?;
        let trust: Document<SignedTrust> =
            Document::open(&dir, TRUST, TRUST_SCHEMA)?.ok_or(IdentityError::Absent(TRUST))?;
        let kept_elsewhere: Option<Document<PublicKey>> =
            Document::open(&dir, OPERATOR, OPERATOR_SCHEMA)?;
        let operator = match kept_elsewhere {
            Some(operator) => *operator.get(),
            None => keyfile::load(&state.join(OPERATOR_KEY))?.public(),
        };
        let signed_trust = trust.get().clone();
        let reset_key = dir.read(RESET_KEY, RESET_KEY_BYTES as u64)?;
        Ok(Self {
            node: keyfile::load(&state.join(NODE_KEY))?,
            publisher: keyfile::load(&state.join(PUBLISHER_KEY))?,
            reset_key: reset_key.try_into().or(Err(IdentityError::ResetKey))?,
            operator,
            trust: signed_trust.verify(&operator)?,
            signed_trust,
            roster,
        })
    }
}

/// Returns random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).or(Err(IdentityError::Random))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_operator_key_that_is_kept_elsewhere_is_not_needed_to_run() {
        let temp = tempfile::tempdir().unwrap();
        let [state, other] = ["state", "other"].map(|name| {
            let state = temp.path().join(name);
            fs::create_dir(&state).unwrap();
            state
        });
        let key = temp.path().join("operator.key");
        Identity::create_with(&state, &key).unwrap();
        let operator = keyfile::load(&key).unwrap().public();
        assert!(!state.join(OPERATOR_KEY).exists());
        fs::rename(&key, temp.path().join("away")).unwrap();
        let identity = Identity::open(&state).unwrap();
        assert_eq!(identity.operator, operator);
        // One that is there already is another fleet's.
        let away = temp.path().join("away");
        assert!(matches!(
            Identity::create_with(&other, &away),
            Err(IdentityError::Key(_))
        ));
        // The trust record of somebody else's key does not hold.
        fs::remove_file(other.join(NODE_KEY)).unwrap();
        Identity::create(&other).unwrap();
        fs::copy(other.join(TRUST), state.join(TRUST)).unwrap();
        assert!(matches!(
            Identity::open(&state),
            Err(IdentityError::Trust(_))
        ));
    }
}
