//! A daemon's STATE: held by one daemon at a time, with the journal of what it does, and a folder
//! for each of its volumes.

use std::io;
use std::path::{Path, PathBuf};

use codevol_protocol::name::VolumeName;

use crate::dir::{Dir, DirError};
use crate::journal::{Journal, JournalError, Reader};
use crate::lock::{Lock, LockError};
use crate::recorder::Recorder;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const VOLUMES: &str = "volumes";
const DIR_MODE: u32 = 0o700;

/// STATE cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be opened, or a folder of it cannot be made.
    #[error("cannot use the state directory")]
    Dir(#[from] DirError),
    /// Another daemon uses it.
    #[error("state directory is in use")]
    Locked(#[from] LockError),
    /// The journal is damaged.
    #[error("cannot open the journal")]
    Journal(#[from] JournalError),
    /// The system gives no thread to write the journal.
    #[error("cannot write the journal")]
    Thread(#[source] io::Error),
}

impl StateDirError {
    /// Whether another daemon uses the directory.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Locked(LockError::Held { .. }))
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Thread(_))
    }
}

/// An open STATE. Dropped, it lets the next daemon in, once the journal is written.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: Dir,
    journal: Recorder,
    // The last field, so that it is dropped last.
    _lock: Lock,
}

impl StateDir {
    /// Opens it for this process alone.
    ///
    /// # Errors
    /// When it is no directory of this user, another daemon holds it, or its journal is damaged.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let dir = Dir::open(path)?;
        let lock = Lock::acquire(&dir, LOCK)?;
        let journal = Journal::open(&dir.ensure_dir(JOURNAL, DIR_MODE)?)?;
        let journal = Recorder::start(journal).map_err(StateDirError::Thread)?;
        Ok(Self {
            path: path.to_owned(),
            dir,
            journal,
            _lock: lock,
        })
    }

    /// Returns what writes the journal.
    #[must_use]
    pub const fn journal(&self) -> &Recorder {
        &self.journal
    }

    /// Returns where its journal lies.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        journal_path(&self.path)
    }

    /// Returns the journal to read; what was recorded a moment ago may not be there yet.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn journal_reader(&self) -> Result<Reader, DirError> {
        Ok(Reader::new(self.dir.open_dir(JOURNAL)?))
    }

    /// Returns where the folder of a volume is, for what cannot go by its descriptor.
    #[must_use]
    pub fn volume_path(&self, name: &VolumeName) -> PathBuf {
        self.path.join(VOLUMES).join(name.as_str())
    }

    /// Returns the folder of a volume, which is made where there is none.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn volume(&self, name: &VolumeName) -> Result<Dir, StateDirError> {
        Ok(self
            .dir
            .ensure_dir(&format!("{VOLUMES}/{name}"), DIR_MODE)?)
    }
}

/// Returns where the journal of a STATE lies.
#[must_use]
pub fn journal_path(state: &Path) -> PathBuf {
    state.join(JOURNAL)
}

/// Opens the journal of a STATE to read it, whether or not a daemon uses that; nothing where none
/// was begun.
///
/// # Errors
/// When a directory cannot be opened.
pub fn open_journal(state: &Path) -> Result<Option<Reader>, DirError> {
    match Dir::open(state)?.open_dir(JOURNAL) {
        Err(error) if error.is_not_found() => Ok(None),
        opened => Ok(Some(Reader::new(opened?))),
    }
}
