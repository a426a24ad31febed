//! Directories by descriptor: no call here follows a link, crosses into another mount or blocks.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use codevol_protocol::path::RelPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) executable: bool,
}

/// What stands at a name, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) kind: FileType,
    pub(super) stat: Stat,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
const NANOS: i64 = 1_000_000_000;

impl From<rustix::fs::Stat> for Status {
    #[expect(
        clippy::useless_conversion,
        clippy::cast_sign_loss,
        reason = "the fields' types differ between machines; a size is not negative"
    )]
    fn from(stat: rustix::fs::Stat) -> Self {
        let nanos = |seconds, rest: u64| {
            let rest = i64::try_from(rest).unwrap_or(0);
            i64::from(seconds)
                .saturating_mul(NANOS)
                .saturating_add(rest)
        };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            stat: Stat {
                dev: stat.st_dev,
                ino: stat.st_ino,
                size: stat.st_size as u64,
                mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
                ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
                executable: stat.st_mode & 0o111 != 0,
            },
        }
    }
}

/// Opens the root, wherever its path leads.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory below another.
pub(super) fn open_dir(root: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    open_beneath(root.as_fd(), path, DIRECTORY)
}

/// Opens a file below a directory, without waiting for a writer where it is a FIFO.
pub(super) fn open_file(root: impl AsFd, path: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_beneath(root.as_fd(), path, flags).map(File::from)
}

/// Returns what stands at a name; of a link, the link itself.
pub(super) fn status_at(dir: impl AsFd, name: &[u8]) -> Result<Status> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(Status::from)
}

/// Returns what an open file is.
pub(super) fn status(file: impl AsFd) -> Result<Status> {
    rustix::fs::fstat(file).map(Status::from)
}

/// Returns where a link points.
pub(super) fn target(dir: impl AsFd, name: &[u8]) -> Result<CString> {
    rustix::fs::readlinkat(dir, name, Vec::new())
}

/// Returns the names in a directory with their types, in no order; a type may be unknown, and a name
/// anything, since a hostile server may have given it.
pub(super) fn list(dir: impl AsFd) -> Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let root = root.as_fd();
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // No such call in this kernel, or forbidden by a container's filter.
        Err(Errno::NOSYS | Errno::PERM) => open_by_components(root, path, flags),
        // A rename or mount somewhere disturbed the look-up; it says nothing of this path.
        Err(Errno::AGAIN) => open_by_components(root, path, flags),
        result => result,
    }
}

/// Does what `openat2` would; another file system is told by its device only.
fn open_by_components(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let device = status(&root)?.stat.dev;
    let mut at: Option<OwnedFd> = None;
    let mut components = path.split(|byte| *byte == b'/').peekable();
    while let Some(component) = components.next() {
        let flags = match components.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            None => flags,
        };
        let from = at.as_ref().map_or_else(|| root.as_fd(), AsFd::as_fd);
        let next = rustix::fs::openat(from, component, flags, Mode::empty())?;
        let Status { kind, stat } = status(&next)?;
        if kind == FileType::Directory && stat.dev != device {
            return Err(Errno::XDEV);
        }
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

/// Returns the path of a name in a directory, as bytes below the root.
pub(super) fn below(dir: Option<&RelPath>, name: &[u8]) -> Vec<u8> {
    let mut path = dir.map_or_else(Vec::new, |dir| format!("{dir}/").into_bytes());
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_walk_opens_what_openat2_opens() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        File::create(root.path().join("a/b/c")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("c", root.path().join("a/b/link")).unwrap();
        let fd = open_root(root.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for path in ["a", "a/b/c", "link/b/c", "a/b/link", "a/none", "a/b/c/d"] {
            let walked = open_by_components(&fd, path.as_bytes(), flags);
            let opened = open_file(&fd, path.as_bytes());
            assert_eq!(walked.is_ok(), opened.is_ok(), "{path}");
            assert_eq!(opened.is_ok(), ["a", "a/b/c"].contains(&path), "{path}");
        }
    }
}
