//! Removing a tree by descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::{self, Errno};

use super::beneath::Resolve;

/// Removes a name and all that is below it. A subdirectory is first moved up to the top, then
/// emptied there: however deep the tree is, few descriptors are open and nothing recurses.
pub(super) fn tree(fd: BorrowedFd<'_>, name: &CStr, resolve: Resolve) -> io::Result<()> {
    match unlink(fd, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done,
    }
    let top = open(fd, name, resolve)?;
    let mut moved = 0_u64;
    loop {
        let subdirectories = unlink_files(&top)?;
        if subdirectories.is_empty() {
            return unlink(fd, name, AtFlags::REMOVEDIR);
        }
        for sub in subdirectories {
            let opened = open(top.as_fd(), &sub, resolve)?;
            for below in unlink_files(&opened)? {
                move_up(&opened, &below, &top, &mut moved, resolve)?;
            }
            unlink(top.as_fd(), &sub, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Opens a directory that is to be emptied, and lets its owner do so.
fn open(fd: BorrowedFd<'_>, name: &CStr, resolve: Resolve) -> io::Result<OwnedFd> {
    let dir = resolve.open_child_dir(fd, name)?;
    if !Mode::from_raw_mode(fs::fstat(&dir)?.st_mode).contains(Mode::RWXU) {
        fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

/// Removes what is no directory, and returns the names of what is.
fn unlink_files(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut subdirectories = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let unlinked = if entry.file_type() == FileType::Directory {
            Err(Errno::ISDIR)
        } else {
            unlink(dir.as_fd(), name, AtFlags::empty())
        };
        match unlinked {
            Err(Errno::ISDIR) => subdirectories.push(name.to_owned()),
            done => done?,
        }
    }
    Ok(subdirectories)
}

fn move_up(
    from: &OwnedFd,
    name: &CStr,
    top: &OwnedFd,
    moved: &mut u64,
    resolve: Resolve,
) -> io::Result<()> {
    loop {
        *moved += 1;
        match fs::renameat(from, name, top, format!(".removed-{moved}")) {
            // A directory of that name was there before us.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            // To move a directory its own `..` is rewritten, which its mode may forbid.
            Err(Errno::ACCESS) => {
                open(from.as_fd(), name, resolve)?;
                return fs::renameat(from, name, top, format!(".removed-{moved}"));
            }
            done => return done,
        }
    }
}

fn unlink(fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<()> {
    match fs::unlinkat(fd, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}
