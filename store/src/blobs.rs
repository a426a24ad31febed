//! The bytes of files by their hash: `ab/cdef...`. A blob stands under its name only once its bytes
//! are durable, and is never written again.

mod batch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use codevol_protocol::id::BlobId;

pub use self::batch::{Batch, Stored};
use crate::dir::{Dir, DirError, Kind};
use crate::persist;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// How many hex digits of an id name the directory of a blob.
const FAN_DIGITS: usize = 2;

/// The blobs that are kept in one directory.
#[derive(Debug)]
pub struct Blobs {
    dir: Arc<Dir>,
}

/// What [`Blobs::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How many blobs were read.
    pub blobs: u64,
    /// Those whose bytes are not what their name says.
    pub damaged: Vec<BlobId>,
}

/// A blob cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A file of ours cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// What is to be kept cannot be read.
    #[error("cannot read the file that is to be kept")]
    Read(#[source] io::Error),
    /// What is to be kept is larger than a file of a release may be.
    #[error("file is larger than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: u64,
    },
    /// What is to be kept is not what was announced.
    #[error("bytes are those of blob `{found}`, not of `{expected}`")]
    Other {
        /// What was announced.
        expected: BlobId,
        /// What came.
        found: BlobId,
    },
    /// The file holds other bytes than its name says.
    #[error("blob `{0}` is damaged on disk")]
    Damaged(BlobId),
}

impl BlobError {
    /// Whether there is no such blob here.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Dir(error) => error.is_not_found(),
            Self::Read(_) | Self::TooLong { .. } | Self::Other { .. } | Self::Damaged(_) => false,
        }
    }
}

impl Blobs {
    /// Takes a directory that holds nothing else, and removes what was never finished. One process
    /// at a time does so: whoever holds the directory's lock. Every directory that a blob may lie in
    /// is made and durable from here on, so that no blob has to wait for its own; and so is each blob
    /// that stands under its name: the process before this one may have been killed before it was.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(dir: &Dir) -> Result<Self, BlobError> {
        persist::sweep(dir)?;
        for fan in 0..=u8::MAX {
            dir.ensure_dir(&format!("{fan:02x}"), DIR_MODE)?;
        }
        // Once for all of them, where there may have been a batch of many in each.
        dir.sync_filesystem()?;
        let dir = Arc::new(dir.try_clone()?);
        Ok(Self { dir })
    }

    /// Puts a blob that was written ahead in its place. Before the blobs are opened.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(dir: &Dir, path: &str, bytes: &[u8]) -> Result<(), DirError> {
        if let Some((fan, _)) = path.split_once('/') {
            dir.ensure_dir(fan, DIR_MODE)?;
        }
        persist::restore(dir, path, FILE_MODE, bytes)
    }

    /// Returns how many bytes are free where the blobs lie.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        Ok(self.dir.free_bytes()?)
    }

    /// Begins to keep many blobs, which become durable together.
    pub const fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Keeps these bytes, durably.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, mut bytes: &[u8]) -> Result<BlobId, BlobError> {
        let mut batch = self.batch();
        let stored = batch.put(&mut bytes)?;
        batch.commit()?;
        Ok(stored.id)
    }

    /// Whether a blob is kept; its bytes are not looked at.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn has(&self, id: BlobId) -> Result<bool, BlobError> {
        Ok(self.size(id)?.is_some())
    }

    /// Opens a blob. Its bytes are not checked: whoever reads them hashes them.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open_file(&self, id: BlobId) -> Result<File, BlobError> {
        Ok(self.dir.open_file(&path(id))?)
    }

    /// Reads a blob of at most so many bytes and checks it.
    ///
    /// # Errors
    /// When it is not there, longer, or damaged.
    pub fn read(&self, id: BlobId, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let bytes = self.dir.read(&path(id), bytes_max)?;
        if BlobId::of(&bytes) == id {
            Ok(bytes)
        } else {
            Err(BlobError::Damaged(id))
        }
    }

    /// Reads a blob through and checks it.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn check(&self, id: BlobId) -> Result<(), BlobError> {
        let path = path(id);
        let file = self.dir.open_file(&path)?;
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(file)
            .map_err(|error| DirError::io("read", &path, error))?;
        if BlobId::from(hasher.finalize()) == id {
            Ok(())
        } else {
            Err(BlobError::Damaged(id))
        }
    }

    /// Reads every blob through and checks it.
    ///
    /// # Errors
    /// When the directory or a blob cannot be read; damage is no error.
    pub fn verify(&self) -> Result<Verified, BlobError> {
        let mut verified = Verified::default();
        for id in self.ids()? {
            match self.check(id) {
                Ok(()) => {}
                Err(BlobError::Damaged(id)) => verified.damaged.push(id),
                // Swept meanwhile.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            }
            verified.blobs += 1;
        }
        Ok(verified)
    }

    /// Removes a blob, so that a damaged one can be put anew. Where it is not there, that is fine.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, id: BlobId) -> Result<(), BlobError> {
        match self.dir.remove_file(&path(id)) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns every blob but these, and its length. They may be removed only as long as no batch is
    /// open: what a batch found here already, it does not keep again.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn surplus(&self, keep: &BTreeSet<BlobId>) -> Result<Vec<(BlobId, u64)>, BlobError> {
        let mut surplus = Vec::new();
        for id in self.ids()? {
            if !keep.contains(&id)
                && let Some(bytes) = self.size(id)?
            {
                surplus.push((id, bytes));
            }
        }
        Ok(surplus)
    }

    /// Returns the ids of all blobs, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn ids(&self) -> Result<Vec<BlobId>, BlobError> {
        let mut ids = Vec::new();
        for (fan, kind) in self.dir.entries()? {
            let Some(fan) = fan.to_str().filter(|fan| fan.len() == FAN_DIGITS) else {
                continue;
            };
            if kind != Kind::Dir {
                continue;
            }
            for (name, _) in self.dir.open_dir(fan)?.entries()? {
                ids.extend(
                    name.to_str()
                        .and_then(|name| format!("{fan}{name}").parse::<BlobId>().ok()),
                );
            }
        }
        Ok(ids)
    }

    /// Returns how long a blob is that is kept; its bytes are not looked at.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn size(&self, id: BlobId) -> Result<Option<u64>, BlobError> {
        let stat = self.dir.stat(&path(id))?;
        let file = stat.filter(|stat| stat.kind == Kind::File);
        Ok(file.map(|stat| stat.size))
    }
}

/// Returns the directory of a blob, and its name in there.
fn place(id: BlobId) -> (String, String) {
    let mut fan = id.to_string();
    let name = fan.split_off(FAN_DIGITS);
    (fan, name)
}

fn path(id: BlobId) -> String {
    let (fan, name) = place(id);
    format!("{fan}/{name}")
}
