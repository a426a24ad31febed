//! What an agent is made of: its node key, and what it learnt when it joined.

use std::path::{Path, PathBuf};

use codevol_protocol::id::FleetId;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::trust::{SignedTrust, Trust, TrustError};
use codevol_store::dir::{Dir, DirError};
use codevol_store::state::{Document, StateError};
use codevol_transport::keyfile::{self, KeyFileError};
use serde::{Deserialize, Serialize};

const ENROLMENT: &str = "enrolment.json";
const ENROLMENT_SCHEMA: &str = "codevol.enrolment/1";
const NODE_KEY: &str = "node.key";
/// The key that this node is to have, from before it is announced until the source has seen it.
const NEXT_KEY: &str = "node.key.next";

/// What a node learnt when it joined, and pins from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The fleet.
    pub fleet: FleetId,
    /// What this node is called.
    pub node: NodeName,
    /// The volume that it was enrolled for.
    pub volume: VolumeName,
    /// The source's node key: nobody else is spoken to.
    pub source_key: PublicKey,
    /// The key that signs trust records.
    pub operator: PublicKey,
    /// The newest trust record.
    pub trust: SignedTrust,
}

/// An agent's identity cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of STATE cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The enrolment cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// This node did not join.
    #[error("state directory holds no enrolment: this node did not join")]
    NotJoined,
    /// The trust record does not hold.
    #[error("trust record does not hold")]
    Trust(#[from] TrustError),
}

/// An agent's key and enrolment.
#[derive(Debug)]
pub struct Identity {
    /// Speaks for this host on the network.
    pub node: SecretKey,
    /// Is to do so next, where one was made.
    pub next: Option<SecretKey>,
    /// What it learnt when it joined.
    pub enrolment: Document<Enrolment>,
    /// Whom it believes.
    pub trust: Trust,
    state: PathBuf,
}

impl Identity {
    /// Returns whether a node has joined with this state directory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn exists(state: &Path) -> Result<bool, IdentityError> {
        Ok(Dir::open(state)?.stat(ENROLMENT)?.is_some())
    }

    /// Returns the node key of a state directory, made now where there is none: a join that was
    /// interrupted is repeated with the same key.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn node_key(state: &Path) -> Result<SecretKey, IdentityError> {
        let path = state.join(NODE_KEY);
        if Dir::open(state)?.stat(NODE_KEY)?.is_some() {
            Ok(keyfile::load(&path)?)
        } else {
            Ok(keyfile::create(&path)?)
        }
    }

    /// Keeps what was learnt by joining.
    ///
    /// # Errors
    /// When something is there already or cannot be written.
    pub fn enrol(state: &Path, enrolment: Enrolment) -> Result<(), IdentityError> {
        Document::create(&Dir::open(state)?, ENROLMENT, ENROLMENT_SCHEMA, enrolment)?;
        Ok(())
    }

    /// Opens the identity of a node that has joined.
    ///
    /// # Errors
    /// When it did not join, or a file is damaged or readable by others.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        let enrolment: Document<Enrolment> =
            Document::open(&Dir::open(state)?, ENROLMENT, ENROLMENT_SCHEMA)?
                .ok_or(IdentityError::NotJoined)?;
        let trust = enrolment.get().trust.verify(&enrolment.get().operator)?;
        let is_next = Dir::open(state)?.stat(NEXT_KEY)?.is_some();
        let next = is_next.then(|| keyfile::load(&state.join(NEXT_KEY)));
        Ok(Self {
            state: state.to_owned(),
            next: next.transpose()?,
            node: keyfile::load(&state.join(NODE_KEY))?,
            enrolment,
            trust,
        })
    }

    /// Returns the key that this node is to have, made now where there is none; it is durable before
    /// anybody hears of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn next_key(&mut self) -> Result<PublicKey, IdentityError> {
        let next = match self.next.take() {
            Some(next) => next,
            None => keyfile::create(&self.state.join(NEXT_KEY))?,
        };
        Ok(self.next.insert(next).public())
    }

    /// Makes the next key the node's own, durably: the source has revoked the other one.
    ///
    /// # Errors
    /// When it cannot be renamed; it is tried again at the next connection.
    pub fn rotate(&mut self) -> Result<(), IdentityError> {
        let dir = Dir::open(&self.state)?;
        if self.next.is_some() {
            dir.rename(NEXT_KEY, &dir, NODE_KEY)?;
            dir.sync()?;
        }
        if let Some(next) = self.next.take() {
            self.node = next;
        }
        Ok(())
    }

    /// Forgets the next key: the source does not take it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn keep_key(&mut self) -> Result<(), IdentityError> {
        let dir = Dir::open(&self.state)?;
        dir.remove_file(NEXT_KEY)?;
        dir.sync()?;
        self.next = None;
        Ok(())
    }

    /// Takes in a newer trust record, durably.
    ///
    /// # Errors
    /// When the operator did not sign it, it is older, or it cannot be written.
    pub fn believe(&mut self, signed: SignedTrust) -> Result<(), IdentityError> {
        let trust = signed.verify_newer(&self.enrolment.get().operator, &self.trust)?;
        if trust == self.trust {
            return Ok(());
        }
        self.enrolment
            .update(|enrolment| enrolment.trust = signed)?;
        self.trust = trust;
        Ok(())
    }
}
