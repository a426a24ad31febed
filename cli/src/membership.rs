//! What the machine of an operator or a publisher keeps in STATE: its node key, and what it learnt when
//! it joined.

use std::path::{Path, PathBuf};

use codevol_protocol::id::FleetId;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::name::NodeName;
use codevol_protocol::role::Role;
use codevol_store::dir::{Dir, DirError};
use codevol_store::state::{Document, StateError};
use codevol_transport::keyfile::{self, KeyFileError};
use serde::{Deserialize, Serialize};

const MEMBERSHIP: &str = "membership.json";
const SCHEMA: &str = "codevol.membership/1";
const NODE_KEY: &str = "node.key";

/// What a member learnt when it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The fleet.
    pub fleet: FleetId,
    /// What this machine is called.
    pub node: NodeName,
    /// What it may do.
    pub role: Role,
    /// The source's node key: nobody else is spoken to.
    pub source_key: PublicKey,
}

/// The membership cannot be opened or kept.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// STATE cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The document cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// This machine did not join.
    #[error("state directory holds no membership: this machine did not join")]
    NotJoined,
}

/// Returns where the node key of a state directory lies.
#[must_use]
pub fn key_file(state: &Path) -> PathBuf {
    state.join(NODE_KEY)
}

/// Whether a machine has joined with this state directory.
///
/// # Errors
/// When it cannot be read.
pub fn exists(state: &Path) -> Result<bool, MembershipError> {
    Ok(Dir::open(state)?.stat(MEMBERSHIP)?.is_some())
}

/// Keeps what was learnt by joining.
///
/// # Errors
/// When something is there already, or it cannot be written.
pub fn keep(state: &Path, membership: Membership) -> Result<(), MembershipError> {
    Document::create(&Dir::open(state)?, MEMBERSHIP, SCHEMA, membership)?;
    Ok(())
}

/// Opens what [`keep`] kept, and the key.
///
/// # Errors
/// When this machine did not join, or a file is damaged or readable by others.
pub fn open(state: &Path) -> Result<(SecretKey, Membership), MembershipError> {
    let document: Option<Document<Membership>> =
        Document::open(&Dir::open(state)?, MEMBERSHIP, SCHEMA)?;
    let membership = document.ok_or(MembershipError::NotJoined)?.get().clone();
    Ok((keyfile::load(&key_file(state))?, membership))
}
