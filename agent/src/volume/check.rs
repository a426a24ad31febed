//! Whether a file of a held release still is what it was: by its hash as far as the bound goes, and
//! beyond it by what the file system said about it after our own last link.

use std::collections::BTreeSet;
use std::io::Read as _;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Entry;
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Kind, Stat};

use super::cursor::Cursor;

/// How many held files are re-hashed for one release, whatever their stat says.
const CHECKED_FILES: usize = 2_000;
/// How many held bytes are re-hashed for one release, whatever their stat says.
const CHECKED_BYTES: u64 = 64 << 20;

/// What the file system said about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    ino: u64,
    nlink: u64,
}

/// One stamp for each entry of a manifest; none for what is not known.
pub(super) type Stamps = Vec<Option<Stamp>>;

impl Stamp {
    pub(super) const fn of(stat: &Stat) -> Self {
        Self {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            ino: stat.ino,
            nlink: stat.nlink,
        }
    }

    /// Whether nothing says that the bytes changed since. A link that we made or removed moves
    /// ctime too, but shows in the number of names.
    pub(super) fn is_of(self, stat: &Stat) -> bool {
        let now = Self::of(stat);
        let relinked = Self {
            ctime_ns: self.ctime_ns,
            nlink: self.nlink,
            ..now
        };
        now == self || (now.nlink != self.nlink && relinked == self)
    }
}

/// The bound on re-hashing for one release, and what has been found good within it.
#[derive(Debug)]
pub(super) struct Checks {
    files_left: usize,
    bytes_left: u64,
    good: BTreeSet<RelPath>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            files_left: CHECKED_FILES,
            bytes_left: CHECKED_BYTES,
            good: BTreeSet::new(),
        }
    }
}

impl Checks {
    /// Returns what the file is where it holds what its entry says, and nothing where it is damaged
    /// or gone.
    pub(super) fn check(
        &mut self,
        tree: &mut Cursor<'_>,
        (path, entry): (&RelPath, &Entry),
        stamp: Option<Stamp>,
    ) -> Result<Option<Stat>, DirError> {
        let &Entry::File { blob, size, .. } = entry else {
            return Ok(None);
        };
        let (dir, name) = match tree.seek(path) {
            Ok(found) => found,
            Err(error) => return no_file(error),
        };
        let Some(stat) = file_stat(dir, name)?.filter(|stat| stat.size == size) else {
            return Ok(None);
        };
        if self.good.contains(path) {
            return Ok(Some(stat));
        }
        let within = self.files_left > 0 && self.bytes_left >= size;
        if within {
            self.files_left -= 1;
            self.bytes_left -= size;
        }
        let known = !within && stamp.is_some_and(|stamp| stamp.is_of(&stat));
        if !known && hash(dir, name, size)? != Some(blob) {
            return Ok(None);
        }
        self.good.insert(path.clone());
        Ok(Some(stat))
    }
}

/// Returns what a regular file is; nothing where there is none, or no plain way to it.
pub(super) fn file_stat(dir: &Dir, path: &str) -> Result<Option<Stat>, DirError> {
    match dir.stat(path) {
        Ok(stat) => Ok(stat.filter(|stat| stat.kind == Kind::File)),
        Err(error) => no_file(error),
    }
}

/// Returns the hash of a file of at most this size; nothing where there is no such file.
pub(super) fn hash(dir: &Dir, path: &str, size: u64) -> Result<Option<BlobId>, DirError> {
    let file = match dir.open_file(path) {
        Ok(file) => file,
        Err(error) => return no_file(error),
    };
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(file.take(size.saturating_add(1)))
        .map_err(|source| DirError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
    Ok(Some(BlobId::from(hasher.finalize())))
}

/// Something else standing in the way is damage, not a failure of ours.
pub(super) fn no_file<T>(error: DirError) -> Result<Option<T>, DirError> {
    let in_the_way = matches!(
        error,
        DirError::NotBeneath { .. } | DirError::WrongKind { .. }
    );
    if in_the_way || error.is_not_found() {
        Ok(None)
    } else {
        Err(error)
    }
}
