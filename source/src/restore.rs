//! A state folder that was put back from a backup. Nothing may be published by what it knows before the
//! servers were heard, since they may know more: its volumes are frozen, and the daemon, once it runs,
//! takes in what they know.

use std::path::Path;

use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::rollout::Frozen;
use codevol_store::register::Register;
use codevol_store::state::StateError;
use codevol_store::state_dir::{StateDir, StateDirError};

use crate::bus::now;
use crate::fleet::{Kept, ROLLOUT, ROLLOUT_SCHEMA};
use crate::history::{History, HistoryError};
use crate::identity::{Identity, IdentityError};

/// Why the volumes are frozen.
const WHY: &str = "restored from a backup: the servers are heard first";

/// It cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The folder, or a daemon that runs in it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Its keys and tables.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The releases of a volume.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What a volume's fleet was doing.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many members the fleet has.
    pub members: usize,
    /// The newest release of each volume, by the backup; nothing where it had none.
    pub volumes: Vec<(VolumeName, Option<Seq>)>,
}

/// Freezes the volumes of a restored state folder, durably; one that is frozen stays so. Safe to do
/// again.
///
/// # Errors
/// When the folder is no source's, a daemon runs in it, or it is damaged.
pub fn freeze<'a>(
    state_dir: &Path,
    volumes: impl IntoIterator<Item = &'a VolumeName>,
) -> Result<Restored, RestoreError> {
    let identity = Identity::open(state_dir)?;
    let state = StateDir::open(state_dir)?;
    let mut heads = Vec::new();
    for name in volumes {
        let dir = state.volume(name)?;
        let head = History::open(&dir)?.head().map(|head| head.seq());
        let mut kept = Register::<Kept>::open_or_create(&dir, ROLLOUT, ROLLOUT_SCHEMA)?;
        let mut next = kept.get().clone();
        next.saved.put_back(Frozen {
            why: Text::cut(WHY),
            by: Text::cut("codevol"),
            at: now(),
            by_rollback: false,
        });
        kept.replace(next)?;
        heads.push((name.clone(), head));
    }
    Ok(Restored {
        members: identity.roster.get().members().len(),
        volumes: heads,
    })
}
