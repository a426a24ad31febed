//! Keeping many blobs at the price of one: all are written under temporary names, made durable
//! together, then named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};

use codevol_protocol::id::BlobId;
use codevol_protocol::limits::FILE_BYTES_MAX;

use super::{BlobError, Blobs, FILE_MODE, path, place};
use crate::dir::{Dir, DirError};
use crate::persist;
use crate::together::{TOGETHER_MAX, Together};

/// How much is read at a time. A file that is shorter is hashed before anything is written.
const CHUNK_BYTES: u64 = 1 << 20;
/// What errors call a file that has no name of its own.
const TEMPORARY: &str = "temporary blob";

/// Blobs that are written, and have no name before [`Batch::commit`]. Dropped without it, they are
/// removed.
#[derive(Debug)]
#[must_use]
pub struct Batch<'b> {
    blobs: &'b Blobs,
    pending: BTreeMap<BlobId, Temporary<'b>>,
    chunk: Vec<u8>,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its hash.
    pub id: BlobId,
    /// How long it was, in bytes.
    pub size: u64,
}

/// A file that has no name of its own yet. Dropped, it is removed.
#[derive(Debug)]
struct Temporary<'b> {
    dir: &'b Dir,
    name: Option<String>,
    /// Open as long as it is to be made durable by itself.
    file: Option<File>,
}

impl<'b> Batch<'b> {
    pub(super) const fn new(blobs: &'b Blobs) -> Self {
        Self {
            blobs,
            pending: BTreeMap::new(),
            chunk: Vec::new(),
        }
    }

    /// Reads to the end, hashes and keeps what is not kept yet, in one pass.
    ///
    /// # Errors
    /// When it cannot be read or written, or is larger than a file may be. The batch goes on without
    /// it.
    pub fn put(&mut self, from: &mut dyn Read) -> Result<Stored, BlobError> {
        self.take(from, None)
    }

    /// As [`Self::put`], if the bytes are those that were announced.
    ///
    /// # Errors
    /// As [`Self::put`], and when the bytes are others.
    pub fn put_expected(
        &mut self,
        from: &mut dyn Read,
        expected: BlobId,
    ) -> Result<Stored, BlobError> {
        self.take(from, Some(expected))
    }

    /// Makes all of it durable under its names.
    ///
    /// # Errors
    /// When the system refuses; none of it is kept then.
    pub fn commit(self) -> Result<(), BlobError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let blobs = self.blobs;
        let ids: Vec<BlobId> = self.pending.keys().copied().collect();
        let committed = self.name_all();
        if committed.is_err() {
            // Found here by the next batch, one that may not be durable would not be kept again.
            for id in ids {
                persist::discard(&blobs.dir, &path(id));
            }
        }
        committed
    }

    fn name_all(mut self) -> Result<(), BlobError> {
        self.sync_files()?;
        let mut fans: BTreeMap<String, Vec<(String, Temporary<'b>)>> = BTreeMap::new();
        for (id, temporary) in self.pending {
            let (fan, name) = place(id);
            fans.entry(fan).or_default().push((name, temporary));
        }
        let root = &self.blobs.dir;
        let is_few = fans.len() <= TOGETHER_MAX;
        let mut together = Together::default();
        for (fan, files) in fans {
            let dir = root.open_dir(&fan)?;
            for (name, temporary) in files {
                temporary.rename(&dir, &name)?;
            }
            if is_few {
                together.add(&fan, dir);
            }
        }
        // That the temporary names are gone need not last: they are swept.
        if is_few {
            together.sync()?;
        } else {
            root.sync_filesystem()?;
        }
        Ok(())
    }

    fn sync_files(&mut self) -> Result<(), DirError> {
        if self.pending.len() > TOGETHER_MAX {
            return self.blobs.dir.sync_filesystem();
        }
        let mut together = Together::default();
        for file in self.pending.values_mut().filter_map(|one| one.file.take()) {
            together.add(TEMPORARY, file);
        }
        together.sync()
    }

    fn take(&mut self, from: &mut dyn Read, expected: Option<BlobId>) -> Result<Stored, BlobError> {
        let blobs = self.blobs;
        let mut hasher = blake3::Hasher::new();
        let mut size = self.fill(from, &mut hasher)?;
        let mut spilled = None;
        if size == CHUNK_BYTES {
            let mut temporary = Temporary::create(&blobs.dir)?;
            while !self.chunk.is_empty() {
                temporary.write(&self.chunk)?;
                size += self.fill(from, &mut hasher)?;
                if size > FILE_BYTES_MAX {
                    let bytes_max = FILE_BYTES_MAX;
                    return Err(BlobError::TooLong { bytes_max });
                }
            }
            spilled = Some(temporary);
        }
        let id = BlobId::from(hasher.finalize());
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            return Err(BlobError::Other {
                expected,
                found: id,
            });
        }
        // One of another length is damaged, and is replaced.
        if !self.pending.contains_key(&id) && blobs.size(id)? != Some(size) {
            let mut temporary = match spilled {
                Some(temporary) => temporary,
                None => {
                    let mut temporary = Temporary::create(&blobs.dir)?;
                    temporary.write(&self.chunk)?;
                    temporary
                }
            };
            if self.pending.len() >= TOGETHER_MAX {
                temporary.file = None;
            }
            self.pending.insert(id, temporary);
        }
        Ok(Stored { id, size })
    }

    /// Reads the next chunk; an empty one is the end.
    fn fill(&mut self, from: &mut dyn Read, hasher: &mut blake3::Hasher) -> Result<u64, BlobError> {
        self.chunk.clear();
        from.take(CHUNK_BYTES)
            .read_to_end(&mut self.chunk)
            .map_err(BlobError::Read)?;
        hasher.update(&self.chunk);
        Ok(self.chunk.len() as u64)
    }
}

impl<'b> Temporary<'b> {
    fn create(dir: &'b Dir) -> Result<Self, DirError> {
        let name = persist::temporary_name()?;
        let file = dir.create_file(&name, FILE_MODE)?;
        Ok(Self {
            dir,
            name: Some(name),
            file: Some(file),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DirError> {
        self.file.as_mut().map_or(Ok(()), |file| {
            file.write_all(bytes)
                .map_err(|error| DirError::io("write", TEMPORARY, error))
        })
    }

    fn rename(mut self, dir: &Dir, name: &str) -> Result<(), DirError> {
        if let Some(temporary) = &self.name {
            self.dir.rename(temporary, dir, name)?;
            self.name = None;
        }
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            persist::discard(self.dir, name);
        }
    }
}
