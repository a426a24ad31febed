//! Reading: gives each file of a list the name of its bytes.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::thread;

use codevol_protocol::id::BlobId;
use codevol_protocol::limits::FILE_BYTES_MAX;
use codevol_protocol::path::RelPath;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::ScanError;
use super::dir::{self, Stat};
use super::tree::{Known, Node, SkipReason};

/// How often a file that changes while it is read is read again.
const TRIES_MAX: u32 = 3;
/// From how many files on a second thread pays.
const FILES_FOR_TWO: usize = 64;
/// Times this close to the moment of reading may stand for two states of a file: the coarsest
/// clock of a file system in use ticks every two seconds.
const RACY_NS: i64 = 2_000_000_000;

/// Reads the files of a list; nothing stands for one that is gone.
pub(super) fn read_all(
    root: BorrowedFd<'_>,
    paths: &[RelPath],
    now_ns: i64,
) -> Result<Vec<Option<Node>>, ScanError> {
    let read = |paths: &[RelPath]| -> Result<Vec<Option<Node>>, ScanError> {
        paths.iter().map(|path| read(root, path, now_ns)).collect()
    };
    if paths.len() < FILES_FOR_TWO {
        return read(paths);
    }
    let (one, two) = paths.split_at(paths.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| read(two));
        let mut nodes = read(one)?;
        match second.join() {
            Ok(rest) => nodes.extend(rest?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(nodes)
    })
}

fn read(root: BorrowedFd<'_>, path: &RelPath, now_ns: i64) -> Result<Option<Node>, ScanError> {
    let io = |error: Errno| ScanError::io("read", Some(path), error);
    for _ in 0..TRIES_MAX {
        let file = match dir::open_file(root, path.as_str().as_bytes()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Ok(Some(Node::Skipped(SkipReason::Unreadable)));
            }
            Err(Errno::XDEV) => return Ok(Some(Node::Skipped(SkipReason::OtherFileSystem))),
            // It was a file when the walk looked, and is a link or a socket now.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Some(Node::Unstable)),
            Err(error) => return Err(io(error)),
        };
        let before = dir::status(&file).map_err(io)?;
        if before.kind != FileType::RegularFile {
            return Ok(Some(Node::Unstable));
        }
        if before.stat.size > FILE_BYTES_MAX {
            return Ok(Some(Node::Skipped(SkipReason::TooLarge)));
        }
        let blob = hash(&file, before.stat).map_err(|error| ScanError::Io {
            action: "read",
            path: path.to_string(),
            source: error,
        })?;
        let after = dir::status(&file).map_err(io)?;
        if let Some(blob) = blob.filter(|_| before == after) {
            let stat = after.stat;
            let racy = stat.mtime_ns.max(stat.ctime_ns).saturating_add(RACY_NS) >= now_ns;
            return Ok(Some(Node::File(Known { stat, blob, racy })));
        }
    }
    Ok(Some(Node::Unstable))
}

/// Hashes a file; nothing where it is not as long as it was said to be.
fn hash(file: &File, stat: Stat) -> std::io::Result<Option<BlobId>> {
    let mut hasher = blake3::Hasher::new();
    // One byte more shows that it grew; a file that grows for ever is not followed.
    hasher.update_reader(file.take(stat.size.saturating_add(1)))?;
    Ok((hasher.count() == stat.size).then(|| BlobId::from(hasher.finalize())))
}
