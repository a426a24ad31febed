//! The write-ahead log of a volume: what makes a small release durable with one write and one wait.
//!
//! The files of the release, its record too, are written into one file whose blocks are allocated
//! already, which costs one `fdatasync`. Then they are put in their places, and nobody waits for that:
//! where power is lost before those are durable, the next start puts them there again. When the file is
//! full, all places are made durable once and it begins anew.
//!
//! ```text
//!   | checksum round length | files, padded | checksum round length | files, padded | ... older round |
//! ```
//! Entries follow each other, aligned to the blocks of the disk, so that a write that is cut short spoils
//! only itself: it was never acknowledged. Each round has a number of its own, which tells its
//! entries from those of an older one. Whoever owns the log is the only writer.

use std::os::unix::fs::FileExt as _;

use rustix::fs;

use crate::blanks::Blanks;
use crate::dir::{Dir, DirError};
use crate::persist;

const NAME: &str = "wal";
const BLANKS: &str = "blanks";
const BLANKS_MODE: u32 = 0o700;
const MODE: u32 = 0o600;
/// How long the file is: hundreds of releases of a small tree.
const FILE_BYTES: usize = 8 << 20;
/// No entry is longer, so that a round has several. The manifest of 20,000 files takes 1.2 MB.
const ENTRY_BYTES_MAX: usize = 2 << 20;
/// Entries begin at multiples of it: no two share a block of the disk.
const BLOCK_BYTES: usize = 4096;
const CHECKSUM_BYTES: usize = 32;
/// Checksum, round, length.
const HEAD_BYTES: usize = CHECKSUM_BYTES + 8 + 8;

/// Where a file of a release belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To the blobs.
    Blobs,
    /// To the manifests.
    Manifests,
    /// To the release log, if nothing stands there.
    Log,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Where it belongs.
    pub place: Place,
    /// Its path there.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The files of one release, as they are written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

/// The write-ahead log of one volume.
#[derive(Debug)]
pub struct Wal {
    dir: Dir,
    file: std::fs::File,
    round: u64,
    /// Where the next entry begins.
    offset: usize,
    /// Where the last one does.
    last: usize,
    /// Of these the files are made that are put in place.
    blanks: Blanks,
}

impl Entry {
    /// Adds a file; says whether it fits.
    #[must_use]
    pub fn add(&mut self, place: Place, path: &str, bytes: &[u8]) -> bool {
        let (Ok(path_bytes), Ok(length)) = (u16::try_from(path.len()), u32::try_from(bytes.len()))
        else {
            return false;
        };
        self.0.push(place.code());
        self.0.extend(path_bytes.to_le_bytes());
        self.0.extend(length.to_le_bytes());
        self.0.extend_from_slice(path.as_bytes());
        self.0.extend_from_slice(bytes);
        HEAD_BYTES + self.0.len() <= ENTRY_BYTES_MAX
    }
}

impl Place {
    const fn code(self) -> u8 {
        match self {
            Self::Blobs => 0,
            Self::Manifests => 1,
            Self::Log => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Blobs),
            1 => Some(Self::Manifests),
            2 => Some(Self::Log),
            _ => None,
        }
    }
}

impl Wal {
    /// Opens the log of a volume, or begins one, and hands out what it holds, oldest first, to be put
    /// in place again. When this returns, what was put there is durable.
    ///
    /// # Errors
    /// When the log cannot be read or written, or `put` fails.
    pub fn open<E: From<DirError>>(
        dir: &Dir,
        mut put: impl FnMut(Put) -> Result<(), E>,
    ) -> Result<Self, E> {
        let bytes = match dir.read(NAME, FILE_BYTES as u64) {
            Ok(bytes) if bytes.len() == FILE_BYTES => bytes,
            Err(error) if !error.is_not_found() => return Err(error.into()),
            // Not sparse: a later write in place must find its blocks allocated.
            Ok(_) | Err(_) => {
                let bytes = vec![0; FILE_BYTES];
                persist::write(dir, NAME, MODE, &bytes)?;
                bytes
            }
        };
        for one in puts(&bytes) {
            put(one)?;
        }
        let mut wal = Self {
            dir: dir.try_clone()?,
            file: dir.open_writable(NAME)?,
            round: 0,
            offset: 0,
            last: 0,
            blanks: Blanks::open(dir.ensure_dir(BLANKS, BLANKS_MODE)?)?,
        };
        wal.begin_round()?;
        Ok(wal)
    }

    /// Returns the files that were made in advance, to be filled when nobody waits.
    #[must_use]
    pub const fn blanks(&self) -> &Blanks {
        &self.blanks
    }

    /// Appends an entry; it is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written. After [`DirError::Sync`] it may be there, or not.
    pub fn append(&mut self, Entry(body): &Entry) -> Result<(), DirError> {
        let bytes = (HEAD_BYTES + body.len()).next_multiple_of(BLOCK_BYTES);
        if self.offset + bytes > FILE_BYTES {
            self.begin_round()?;
        }
        let mut entry = Vec::with_capacity(bytes);
        entry.extend(checksum(self.round, self.offset, body));
        entry.extend(self.round.to_le_bytes());
        entry.extend((body.len() as u64).to_le_bytes());
        entry.extend_from_slice(body);
        entry.resize(bytes, 0);
        let written = self.write(&entry, self.offset);
        if written.is_err() {
            self.spoil(self.offset);
        }
        written?;
        self.last = self.offset;
        self.offset += bytes;
        Ok(())
    }

    /// Takes the last entry back: it could not be put in place.
    pub fn take_back(&mut self) {
        self.offset = self.last;
        self.spoil(self.last);
    }

    /// Makes durable what was put in place, and begins anew.
    fn begin_round(&mut self) -> Result<(), DirError> {
        self.dir.sync_filesystem()?;
        self.round = getrandom::u64().map_err(|error| {
            DirError::io("begin", NAME, std::io::Error::other(error.to_string()))
        })?;
        self.offset = 0;
        Ok(())
    }

    /// Has an entry not count. Where that fails, the next start may put it in place: a release that
    /// nobody was told of.
    fn spoil(&self, offset: usize) {
        if let Err(error) = self.write(&[0; HEAD_BYTES], offset) {
            tracing::warn!(%error, "a release that failed may appear at the next start");
        }
    }

    fn write(&self, bytes: &[u8], offset: usize) -> Result<(), DirError> {
        self.file
            .write_all_at(bytes, offset as u64)
            .map_err(|error| DirError::io("write", NAME, error))?;
        fs::fdatasync(&self.file).map_err(|errno| DirError::sync(NAME, errno))
    }
}

/// Returns what the entries of the newest round say.
fn puts(mut bytes: &[u8]) -> Vec<Put> {
    let (mut puts, mut round, mut offset) = (Vec::new(), None, 0);
    while let Some((found, body)) = entry(bytes, offset) {
        if *round.get_or_insert(found) != found {
            break;
        }
        puts.extend(files(body));
        let taken = (HEAD_BYTES + body.len()).next_multiple_of(BLOCK_BYTES);
        bytes = bytes.get(taken..).unwrap_or_default();
        offset += taken;
    }
    puts
}

/// Returns the round and the body of an entry that is whole.
fn entry(bytes: &[u8], offset: usize) -> Option<(u64, &[u8])> {
    let (found, rest) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    let (round, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let round = u64::from_le_bytes(*round);
    let body = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (checksum(round, offset, body).as_slice() == found).then_some((round, body))
}

/// Takes a body apart. Its checksum said that it is what was written.
fn files(mut body: &[u8]) -> impl Iterator<Item = Put> {
    std::iter::from_fn(move || {
        let (code, rest) = body.split_first()?;
        let (path_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (path, rest) = rest.split_at_checked(u16::from_le_bytes(*path_bytes).into())?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        body = rest;
        Some(Put {
            place: Place::of(*code)?,
            path: String::from_utf8(path.to_vec()).ok()?,
            bytes: bytes.to_vec(),
        })
    })
}

fn checksum(round: u64, offset: usize, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&round.to_le_bytes());
    hasher.update(&(offset as u64).to_le_bytes());
    *hasher.update(body).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    fn open(dir: &Dir) -> (Wal, Vec<String>) {
        let mut found = Vec::new();
        let wal = Wal::open(dir, |put| {
            assert_eq!(put.place, Place::Blobs);
            assert_eq!(put.bytes, put.path.repeat(100).as_bytes());
            found.push(put.path);
            Ok::<(), DirError>(())
        });
        (wal.unwrap(), found)
    }

    fn append(wal: &mut Wal, paths: &[&str]) {
        let mut entry = Entry::default();
        for path in paths {
            assert!(entry.add(Place::Blobs, path, path.repeat(100).as_bytes()));
        }
        wal.append(&entry).unwrap();
    }

    #[test]
    fn what_was_appended_is_put_in_place_at_the_next_start_in_its_order_and_only_then() {
        let (_temp, dir) = opened();
        let (mut wal, found) = open(&dir);
        assert!(found.is_empty());
        append(&mut wal, &["a", "b"]);
        append(&mut wal, &["c"]);
        let (mut wal, found) = open(&dir);
        assert_eq!(found, ["a", "b", "c"]);
        append(&mut wal, &["d"]);
        assert_eq!(open(&dir).1, ["d"]);
    }

    #[test]
    fn what_was_taken_back_is_not_there_and_the_next_one_stands_in_its_place() {
        let (_temp, dir) = opened();
        let (mut wal, _) = open(&dir);
        append(&mut wal, &["a"]);
        append(&mut wal, &["b"]);
        wal.take_back();
        append(&mut wal, &["c"]);
        append(&mut wal, &["d"]);
        wal.take_back();
        assert_eq!(open(&dir).1, ["a", "c"]);
    }

    #[test]
    fn a_full_log_begins_anew_and_forgets_what_is_durable() {
        let (_temp, dir) = opened();
        let (mut wal, _) = open(&dir);
        // Long, so that it is soon full.
        let name = |n: usize| format!("{n:0>10000}");
        let bytes = HEAD_BYTES + 1 + 2 + 4 + 101 * name(0).len();
        let count = FILE_BYTES / bytes.next_multiple_of(BLOCK_BYTES) + 3;
        for n in 0..count {
            append(&mut wal, &[&name(n)]);
        }
        let left: Vec<String> = (count - 3..count).map(name).collect();
        assert_eq!(open(&dir).1, left);
    }

    #[test]
    fn an_entry_that_was_cut_short_at_any_byte_spoils_no_other() {
        let (temp, dir) = opened();
        let (mut wal, _) = open(&dir);
        append(&mut wal, &["older", "entry"]);
        append(&mut wal, &["a"]);
        let before = std::fs::read(temp.path().join(NAME)).unwrap();
        append(&mut wal, &["b"]);
        let after = std::fs::read(temp.path().join(NAME)).unwrap();
        let length = 2 * BLOCK_BYTES + HEAD_BYTES + 1 + 2 + 4 + 1 + 100;
        for cut in 2 * BLOCK_BYTES..length {
            let torn = [&after[..cut], &before[cut..]].concat();
            persist::write(&dir, NAME, MODE, &torn).unwrap();
            let found = puts(&torn).into_iter().map(|put| put.path);
            assert_eq!(
                found.collect::<Vec<_>>(),
                ["older", "entry", "a"],
                "cut at {cut}"
            );
        }
        assert_eq!(puts(&after).len(), 4);
    }

    #[test]
    fn what_is_too_long_does_not_fit() {
        let mut entry = Entry::default();
        assert!(entry.add(Place::Log, "a", &vec![0; ENTRY_BYTES_MAX / 2]));
        assert!(!entry.add(Place::Log, "b", &vec![0; ENTRY_BYTES_MAX / 2]));
    }

    #[test]
    fn a_file_that_is_no_log_is_replaced_by_an_empty_one() {
        let (_temp, dir) = opened();
        for bytes in [vec![], vec![7; 100], vec![7; FILE_BYTES]] {
            persist::write(&dir, NAME, MODE, &bytes).unwrap();
            let (mut wal, found) = open(&dir);
            assert!(found.is_empty());
            append(&mut wal, &["a"]);
            assert_eq!(open(&dir).1, ["a"]);
        }
    }
}
