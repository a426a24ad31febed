//! Keeping many blobs at the price of one: all are read, then made durable and named together. Few and
//! small ones stay in memory until then, the others under temporary names.

use std::collections::BTreeMap;
use std::io::Read;

use codevol_protocol::id::BlobId;
use codevol_protocol::limits::FILE_BYTES_MAX;

use super::{BlobError, Blobs, FILE_MODE, path};
use crate::landing::{Arrival, Content, Landing, Temporary};
use crate::together::TOGETHER_MAX;
use crate::wal::Place;

/// How much is read at a time. A file that is shorter is hashed before anything is written.
const CHUNK_BYTES: u64 = 1 << 20;
/// How much of a batch stays in memory.
const MEMORY_BYTES_MAX: u64 = 1 << 20;

/// Blobs that are written, and have no name before [`Batch::commit`]. Dropped without it, they are
/// removed.
#[derive(Debug)]
#[must_use]
pub struct Batch<'b> {
    blobs: &'b Blobs,
    pending: BTreeMap<BlobId, Content>,
    memory_bytes: u64,
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

impl<'b> Batch<'b> {
    pub(super) const fn new(blobs: &'b Blobs) -> Self {
        Self {
            blobs,
            pending: BTreeMap::new(),
            memory_bytes: 0,
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
        let mut landing = Landing::default();
        self.land(&mut landing);
        // Nothing in it is named only where nothing has the name.
        let _created = landing.commit(None)?;
        Ok(())
    }

    /// Has all of it land together with other files.
    pub fn land(self, landing: &mut Landing) {
        for (id, content) in self.pending {
            landing.add(Arrival {
                place: Place::Blobs,
                dir: self.blobs.dir.clone(),
                path: path(id),
                mode: FILE_MODE,
                content,
            });
        }
    }

    fn take(&mut self, from: &mut dyn Read, expected: Option<BlobId>) -> Result<Stored, BlobError> {
        let blobs = self.blobs;
        let mut hasher = blake3::Hasher::new();
        let mut size = self.fill(from, &mut hasher)?;
        let mut spilled = None;
        if size == CHUNK_BYTES {
            let mut temporary = Temporary::create(&blobs.dir, FILE_MODE)?;
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
            let content = match spilled {
                None if self.memory_bytes + size <= MEMORY_BYTES_MAX => {
                    self.memory_bytes += size;
                    Content::Bytes(std::mem::take(&mut self.chunk))
                }
                None => {
                    let mut temporary = Temporary::create(&blobs.dir, FILE_MODE)?;
                    temporary.write(&self.chunk)?;
                    self.written(temporary)
                }
                Some(temporary) => self.written(temporary),
            };
            self.pending.insert(id, content);
        }
        Ok(Stored { id, size })
    }

    fn written(&self, mut temporary: Temporary) -> Content {
        if self.pending.len() >= TOGETHER_MAX {
            temporary.close();
        }
        Content::Written(temporary)
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
