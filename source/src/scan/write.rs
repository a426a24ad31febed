//! Writing a file of the tree: the one thing in here that changes it. Each file is written beside the
//! tree's own, made durable, and takes its place in one step.
//!
//! Everything is relative to the root that the scanner holds open: no link is followed, and no other file
//! system entered.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use codevol_protocol::path::{RESERVED_PREFIX, RelPath};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{ScanError, Scanner, dir};

/// What files that are not in their place yet are called, at the root: no part of any tree.
const UNPLACED: &str = "-incoming-";
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_BITS: u32 = 0o111;
const PERMISSIONS: u32 = 0o777;

/// A file that is written and durable, and not in its place yet. Dropped, it is removed.
#[derive(Debug)]
#[must_use]
pub struct Unplaced<'s> {
    scanner: &'s Scanner,
    path: RelPath,
    parent: OwnedFd,
    /// Its name at the root; nothing once it is in its place.
    name: Option<String>,
    /// What stood at its place.
    before: Option<dir::Status>,
}

impl Scanner {
    /// Writes a file that is to stand at a path. It takes over owner, group and mode of what stands
    /// there, as far as this process may give them; a new one is its directory's owner's.
    ///
    /// # Errors
    /// When something else than a file stands there, or on the way to it; or it cannot be written.
    pub fn write(
        &self,
        path: &RelPath,
        executable: bool,
        from: &mut dyn Read,
    ) -> Result<Unplaced<'_>, ScanError> {
        let io = |action| move |error: Errno| ScanError::io(action, Some(path), error);
        let parent = self.ensure_parent(path)?;
        let before = match stat(&parent, path) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(io("stat")(error)),
        };
        let standing = before.map(dir::Status::from);
        if standing.is_some_and(|status| status.kind != FileType::RegularFile) {
            return Err(ScanError::NotAFile(path.clone()));
        }
        let of = before.map_or_else(|| rustix::fs::fstat(&parent), Ok);
        let of = of.map_err(io("stat"))?;
        let (mut file, unplaced) = self.unplaced((path, parent), standing)?;
        let failed = |action: &'static str, source: io::Error| ScanError::Io {
            action,
            path: path.to_string(),
            source,
        };
        io::copy(from, &mut file).map_err(|error| failed("write", error))?;
        file.flush().map_err(|error| failed("write", error))?;
        give(&file, (of.st_uid, of.st_gid)).map_err(io("change the owner of"))?;
        let mode = before.map_or(FILE_MODE, |stat| stat.st_mode & PERMISSIONS);
        let mode = Mode::from_raw_mode(with_execution(mode, executable));
        rustix::fs::fchmod(&file, mode).map_err(io("change the mode of"))?;
        file.sync_all().map_err(|error| failed("sync", error))?;
        Ok(unplaced)
    }

    /// Whether nothing stands at a path, as far as that can be seen.
    #[must_use]
    pub fn is_free(&self, path: &RelPath) -> bool {
        let parent = match path.parent() {
            Some(parent) => dir::open_dir(&self.root, parent.as_str().as_bytes()),
            None => dir::open_dir(&self.root, b"."),
        };
        match parent {
            Ok(parent) => matches!(stat(&parent, path), Err(Errno::NOENT)),
            Err(error) => error == Errno::NOENT,
        }
    }

    /// Removes what an earlier process left unplaced.
    ///
    /// # Errors
    /// When the root cannot be read, or a file not removed.
    pub fn remove_unplaced(&self) -> Result<(), ScanError> {
        let io = |action| move |error: Errno| ScanError::io(action, None, error);
        let prefix = format!("{RESERVED_PREFIX}{UNPLACED}");
        let root = dir::open_dir(&self.root, b".").map_err(io("open directory"))?;
        for (name, _) in dir::list(&root).map_err(io("read directory"))? {
            if name.starts_with(prefix.as_bytes()) {
                let removed = rustix::fs::unlinkat(&root, name.as_slice(), AtFlags::empty());
                removed.map_err(io("remove an unplaced file in"))?;
            }
        }
        Ok(())
    }

    fn unplaced(
        &self,
        (path, parent): (&RelPath, OwnedFd),
        before: Option<dir::Status>,
    ) -> Result<(File, Unplaced<'_>), ScanError> {
        let mut random = [0; 8];
        let drawn = getrandom::fill(&mut random).or(Err(Errno::IO));
        drawn.map_err(|error| ScanError::io("draw a name for", Some(path), error))?;
        let random = u64::from_le_bytes(random);
        let name = format!("{RESERVED_PREFIX}{UNPLACED}{random:016x}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&self.root, &*name, flags | OFlags::CLOEXEC, mode);
        let file = file.map_err(|error| ScanError::io("write beside", Some(path), error))?;
        let unplaced = Unplaced {
            scanner: self,
            path: path.clone(),
            parent,
            name: Some(name),
            before,
        };
        Ok((File::from(file), unplaced))
    }

    /// Opens the directory of a path, and makes those on the way that are not there.
    fn ensure_parent(&self, path: &RelPath) -> Result<OwnedFd, ScanError> {
        let io = |error: Errno| ScanError::io("open the directory of", Some(path), error);
        let mut at = dir::open_dir(&self.root, b".").map_err(io)?;
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            if components.peek().is_none() {
                break;
            }
            at = match dir::open_dir(&at, component.as_bytes()) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&at, component, DIR_MODE).map_err(io)?;
                    let made = dir::open_dir(&at, component.as_bytes()).map_err(io)?;
                    // As whoever edits the tree would have made it, whatever our umask.
                    let above = rustix::fs::fstat(&at).map_err(io)?;
                    give(&made, (above.st_uid, above.st_gid)).map_err(io)?;
                    rustix::fs::fchmod(&made, DIR_MODE).map_err(io)?;
                    rustix::fs::fsync(&at).map_err(io)?;
                    made
                }
                opened => opened.map_err(io)?,
            };
        }
        Ok(at)
    }
}

impl Unplaced<'_> {
    /// Puts the file in its place, durably.
    ///
    /// # Errors
    /// When what stands there is not what stood there when this was written.
    pub fn place(mut self) -> Result<(), ScanError> {
        let now = stat(&self.parent, &self.path).map(dir::Status::from);
        let is_same = match (&self.before, now) {
            (Some(before), Ok(now)) => *before == now,
            (None, Err(Errno::NOENT)) => true,
            (Some(_) | None, Ok(_) | Err(_)) => false,
        };
        if !is_same {
            return Err(ScanError::Changed(self.path.clone()));
        }
        let io = |action| {
            let path = &self.path;
            move |error: Errno| ScanError::io(action, Some(path), error)
        };
        if let Some(name) = &self.name {
            let root = self.scanner.root.as_fd();
            let renamed = rustix::fs::renameat(root, &**name, &self.parent, self.path.file_name());
            renamed.map_err(io("put in its place"))?;
        }
        let synced = rustix::fs::fsync(&self.parent);
        synced.map_err(io("sync the directory of"))?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Unplaced<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays is removed at the next start.
            rustix::fs::unlinkat(&self.scanner.root, &**name, AtFlags::empty()).unwrap_or_default();
        }
    }
}

fn stat(parent: &OwnedFd, path: &RelPath) -> Result<rustix::fs::Stat, Errno> {
    let name = CString::new(path.file_name()).or(Err(Errno::INVAL))?;
    rustix::fs::statat(parent, &*name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives a file to an owner and a group, as far as this process may: both, or the group alone.
fn give(file: impl AsFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    match rustix::fs::fchown(&file, Some(uid), Some(gid)) {
        Err(Errno::PERM) => {}
        given => return given,
    }
    match rustix::fs::fchown(file, None, Some(gid)) {
        Err(Errno::PERM) => Ok(()),
        given => given,
    }
}

/// Returns a mode by which whoever may read may execute, or nobody.
const fn with_execution(mode: u32, executable: bool) -> u32 {
    if !executable {
        mode & !EXECUTABLE_BITS
    } else if mode & EXECUTABLE_BITS != 0 {
        mode
    } else {
        mode | ((mode >> 2) & EXECUTABLE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Scanner) {
        let temp = tempfile::tempdir().unwrap();
        codevol_tests::save(&temp.path().join("a/old.py"), b"old");
        let scanner = Scanner::open(temp.path(), &[], None).unwrap();
        (temp, scanner)
    }

    fn put(scanner: &Scanner, path: &str, executable: bool) -> Result<(), ScanError> {
        let path = path.parse().unwrap();
        scanner.write(&path, executable, &mut &b"new"[..])?.place()
    }

    #[test]
    fn a_file_keeps_owner_group_and_mode_of_what_it_replaces() {
        let (temp, scanner) = tree();
        let old = temp.path().join("a/old.py");
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&old).unwrap();
        put(&scanner, "a/old.py", false).unwrap();
        let after = fs::metadata(&old).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"new");
        assert_ne!(before.ino(), after.ino());
        assert_eq!(
            (before.uid(), before.gid(), before.mode()),
            (after.uid(), after.gid(), after.mode())
        );
        put(&scanner, "a/old.py", true).unwrap();
        assert_eq!(fs::metadata(&old).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn a_new_file_and_its_directories_are_made_and_nothing_is_left_over() {
        let (temp, scanner) = tree();
        put(&scanner, "b/c/new.py", false).unwrap();
        let new = temp.path().join("b/c/new.py");
        let dir = fs::metadata(temp.path().join("b")).unwrap();
        assert_eq!(dir.mode() & 0o777, 0o755);
        assert_eq!(fs::read(&new).unwrap(), b"new");
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o644);
        let unplaced = scanner.write(&"d.py".parse().unwrap(), false, &mut &b"x"[..]);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
        drop(unplaced.unwrap());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
        codevol_tests::save(&temp.path().join(".codevol-incoming-00112233"), b"x");
        scanner.remove_unplaced().unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_a_file_replaced() {
        let (temp, scanner) = tree();
        let outside = tempfile::tempdir().unwrap();
        codevol_tests::save(&outside.path().join("x.py"), b"outside");
        symlink(outside.path(), temp.path().join("link")).unwrap();
        symlink(outside.path().join("x.py"), temp.path().join("x.py")).unwrap();
        for path in ["link/x.py", "link/new.py", "x.py", "a", "a/old.py/x.py"] {
            assert!(put(&scanner, path, false).is_err(), "{path}");
        }
        assert_eq!(fs::read(outside.path().join("x.py")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_saved_meanwhile_is_not_replaced() {
        let (temp, scanner) = tree();
        let path = "a/old.py".parse().unwrap();
        let unplaced = scanner.write(&path, false, &mut &b"new"[..]).unwrap();
        codevol_tests::save(&temp.path().join("a/old.py"), b"saved meanwhile");
        let placed = unplaced.place();
        assert!(matches!(placed, Err(ScanError::Changed(_))), "{placed:?}");
        let kept = fs::read(temp.path().join("a/old.py")).unwrap();
        assert_eq!(kept, b"saved meanwhile");
    }
}
