//! Opening a path below a descriptor, so that neither a link nor a mount on the way is passed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};
use rustix::path::Arg;

use super::error::DirError;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// How a path is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolve {
    /// By the kernel, in one call.
    Kernel,
    /// Component by component, where the kernel is too old or a sandbox forbids `openat2`. Against
    /// mounts it compares devices: a bind mount of the same file system is not seen.
    Walk,
}

impl Resolve {
    /// Finds out what this kernel and this sandbox allow.
    pub(super) fn probe(fd: BorrowedFd<'_>) -> io::Result<Self> {
        match kernel(fd, ".", DIRECTORY) {
            Ok(_) => Ok(Self::Kernel),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(Self::Walk),
            Err(errno) => Err(errno),
        }
    }

    /// Opens what stands at a checked path.
    pub(super) fn open(self, fd: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        match self {
            Self::Kernel => kernel(fd, path, flags),
            Self::Walk => walk(fd, path, flags),
        }
    }

    /// Opens a directory by a name as it was read from its parent.
    pub(super) fn open_child_dir(self, fd: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
        match self {
            Self::Kernel => kernel(fd, name, DIRECTORY),
            Self::Walk => step(fd, name, DIRECTORY, fs::fstat(fd)?.st_dev),
        }
    }

    /// Opens a directory.
    pub(super) fn open_dir(self, fd: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, DirError> {
        self.open(fd, path, DIRECTORY)
            .map_err(|errno| refused("open", path, "directory", errno))
    }
}

/// Sorts what the system says about a path that it does not open.
pub(super) fn refused(
    action: &'static str,
    path: &str,
    wanted: &'static str,
    errno: Errno,
) -> DirError {
    let path = path.to_owned();
    match errno {
        Errno::LOOP | Errno::XDEV => DirError::NotBeneath { path },
        // A socket cannot be opened at all.
        Errno::NOTDIR | Errno::NXIO => DirError::WrongKind { path, wanted },
        errno => DirError::io(action, &path, errno),
    }
}

/// Checks that a path goes down only, and splits off its last component.
pub(super) fn split(path: &str) -> Result<(Option<&str>, &str), DirError> {
    let plain = |component: &str| !matches!(component, "" | "." | "..");
    if !path.split('/').all(plain) || path.contains('\0') {
        return Err(DirError::NotBeneath {
            path: path.to_owned(),
        });
    }
    Ok(match path.rsplit_once('/') {
        Some((parent, name)) => (Some(parent), name),
        None => (None, path),
    })
}

fn kernel(fd: BorrowedFd<'_>, path: impl Arg, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(fd, path, flags, Mode::empty(), resolve)
}

fn walk(fd: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let dev = fs::fstat(fd)?.st_dev;
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut at: Option<OwnedFd> = None;
    for component in parent.split('/').filter(|component| !component.is_empty()) {
        at = Some(step(
            at.as_ref().map_or(fd, AsFd::as_fd),
            component,
            DIRECTORY,
            dev,
        )?);
    }
    step(at.as_ref().map_or(fd, AsFd::as_fd), name, flags, dev)
}

fn step(fd: BorrowedFd<'_>, name: impl Arg + Copy, flags: OFlags, dev: u64) -> io::Result<OwnedFd> {
    let opened = match fs::openat(fd, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
        // With O_DIRECTORY a link is said to be no directory; the kernel's own resolver says ELOOP.
        Err(Errno::NOTDIR) if is_link(fd, name) => return Err(Errno::LOOP),
        opened => opened?,
    };
    // Only directories: on an overlay a file's device may be that of a lower layer.
    let stat = fs::fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_dev != dev {
        return Err(Errno::XDEV);
    }
    Ok(opened)
}

fn is_link(fd: BorrowedFd<'_>, name: impl Arg) -> bool {
    fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
