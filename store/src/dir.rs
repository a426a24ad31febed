//! A directory held by its descriptor, and calls relative to it that can neither follow a link, nor
//! leave it, nor cross a mount. It knows nothing of releases. Nothing here is durable until `sync`
//! or `sync_filesystem` has returned.

mod beneath;
mod error;
mod remove;
mod stat;
#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use self::beneath::{Resolve, refused, split};
pub use self::error::DirError;
pub use self::stat::{Kind, Stat};

/// A directory pinned by its descriptor.
///
/// A `path` is relative, of plain components only (`..`, `.`, empty ones and a leading `/` are
/// refused). All of it but the last component is opened without passing a link or a mount; the last
/// one is never followed.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    resolve: Resolve,
}

impl Dir {
    /// Opens a directory at a path of the operator's own: links in it are followed.
    ///
    /// # Errors
    /// When it cannot be opened or is no directory.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let shown = path.to_string_lossy();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty())
            .map_err(|errno| refused("open", &shown, "directory", errno))?;
        let resolve = Resolve::probe(fd.as_fd()).map_err(|e| DirError::io("open", &shown, e))?;
        Ok(Self { fd, resolve })
    }

    /// Returns a second handle on the same directory.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn try_clone(&self) -> Result<Self, DirError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|error| DirError::io("open", ".", error))?;
        Ok(self.child(fd))
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// When it is not there, is something else, or lies behind a link or a mount.
    pub fn open_dir(&self, path: &str) -> Result<Self, DirError> {
        split(path)?;
        let fd = self.resolve.open_dir(self.fd.as_fd(), path)?;
        Ok(self.child(fd))
    }

    /// Opens a directory below this one; each missing component is made, with exactly this mode.
    ///
    /// # Errors
    /// As [`Self::open_dir`], and when a directory cannot be made.
    pub fn ensure_dir(&self, path: &str, mode: u32) -> Result<Self, DirError> {
        split(path)?;
        let mode = Mode::from_raw_mode(mode);
        let mut at = self.try_clone()?;
        for name in path.split('/') {
            let made = match fs::mkdirat(&at.fd, name, mode) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(DirError::io("make directory", path, errno)),
            };
            at = at.open_dir(name)?;
            if made {
                // The umask took bits away.
                fs::fchmod(&at.fd, mode).map_err(|e| DirError::io("set the mode of", path, e))?;
            }
        }
        Ok(at)
    }

    /// Opens a regular file to read; anything else is refused, and nothing blocks.
    ///
    /// # Errors
    /// When it is not there, is no regular file, or lies behind a link or a mount.
    pub fn open_file(&self, path: &str) -> Result<File, DirError> {
        self.open_regular(path, OFlags::RDONLY)
    }

    /// Opens a regular file to write in place.
    ///
    /// # Errors
    /// As [`Self::open_file`].
    pub fn open_writable(&self, path: &str) -> Result<File, DirError> {
        self.open_regular(path, OFlags::RDWR)
    }

    /// Makes a new file with exactly this mode, open to read and write.
    ///
    /// # Errors
    /// When something stands there already, or it cannot be made.
    pub fn create_file(&self, path: &str, mode: u32) -> Result<File, DirError> {
        self.at("create", path, |fd, name| {
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = fs::openat(fd, name, flags, Mode::RUSR | Mode::WUSR)?;
            fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            Ok(File::from(file))
        })
    }

    /// Opens a regular file to read and to append to, and makes it where nothing stands.
    ///
    /// # Errors
    /// When something else stands there, or it cannot be made.
    pub fn append_file(&self, path: &str, mode: u32) -> Result<File, DirError> {
        match self.create_file(path, mode) {
            Err(error) if !error.is_already_exists() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        self.open_regular(path, OFlags::RDWR | OFlags::APPEND)
    }

    /// Reads a whole regular file of at most so many bytes.
    ///
    /// # Errors
    /// As [`Self::open_file`], and when it is longer or cannot be read.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, DirError> {
        let mut file = self.open_file(path)?.take(bytes_max.saturating_add(1));
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| DirError::io("read", path, error))?;
        if bytes.len() as u64 > bytes_max {
            return Err(DirError::TooLong {
                path: path.to_owned(),
                bytes_max,
            });
        }
        Ok(bytes)
    }

    /// Returns what stands at a path, and nothing where nothing does.
    ///
    /// # Errors
    /// When the way there is no plain way down, or the system refuses.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>, DirError> {
        let stat = self.at("stat", path, |fd, name| {
            fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
        });
        match stat {
            Ok(stat) => Ok(Some(Stat::from(stat))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what this directory itself is.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stat_self(&self) -> Result<Stat, DirError> {
        let stat = fs::fstat(&self.fd).map_err(|e| DirError::io("stat", ".", e))?;
        Ok(Stat::from(stat))
    }

    /// Gives this directory itself exactly this mode.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_mode_self(&self, mode: u32) -> Result<(), DirError> {
        fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
            .map_err(|e| DirError::io("set the mode of", ".", e))
    }

    /// Returns where a link points.
    ///
    /// # Errors
    /// When there is no link, or its target is no UTF-8.
    pub fn read_link(&self, path: &str) -> Result<String, DirError> {
        let target = self.at("read link", path, |fd, name| {
            fs::readlinkat(fd, name, Vec::new())
        })?;
        target.into_string().map_err(|error| {
            DirError::io(
                "read link",
                path,
                io::Error::new(io::ErrorKind::InvalidData, error),
            )
        })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// When something stands there already, or it cannot be made.
    pub fn symlink(&self, target: &str, path: &str) -> Result<(), DirError> {
        self.at("make link", path, |fd, name| {
            fs::symlinkat(target, fd, name)
        })
    }

    /// Gives something another name; what stood at that name is replaced in one step.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn rename(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), DirError> {
        self.move_to(from, to_dir, to, RenameFlags::empty())
    }

    /// Gives something another name, at which nothing may stand.
    ///
    /// # Errors
    /// When something stands there, or the system refuses.
    pub fn rename_noreplace(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), DirError> {
        self.move_to(from, to_dir, to, RenameFlags::NOREPLACE)
    }

    /// Gives a file a second name. Where it cannot, [`DirError::is_link_refused`] says so.
    ///
    /// # Errors
    /// When something stands there already, or the system refuses.
    pub fn link(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), DirError> {
        let (from_fd, from_name) = self.parent(from)?;
        to_dir.at("make hard link", to, |fd, name| {
            fs::linkat(from_fd.as_fd(), from_name, fd, name, AtFlags::empty())
        })
    }

    /// Returns the names in this directory, sorted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entries(&self) -> Result<Vec<(OsString, Kind)>, DirError> {
        let mut entries = self
            .read_entries()
            .map_err(|errno| DirError::io("list", ".", errno))?;
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(entries)
    }

    /// Removes what is no directory. Where nothing stands, that is fine.
    ///
    /// # Errors
    /// When it is a directory, or the system refuses.
    pub fn remove_file(&self, path: &str) -> Result<(), DirError> {
        let removed = self.at("remove", path, |fd, name| {
            fs::unlinkat(fd, name, AtFlags::empty())
        });
        absent_is_fine(removed)
    }

    /// Removes whatever stands there and all below it. Where nothing stands, that is fine.
    ///
    /// # Errors
    /// When something is mounted in it, or the system refuses; part of it may be gone then.
    pub fn remove_tree(&self, path: &str) -> Result<(), DirError> {
        let removed = self.at("remove", path, |fd, name| {
            let name = CString::new(name).or(Err(Errno::INVAL))?;
            remove::tree(fd, &name, self.resolve)
        });
        absent_is_fine(removed)
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// [`DirError::Sync`], to be treated as a crash.
    pub fn sync(&self) -> Result<(), DirError> {
        fs::fsync(&self.fd).map_err(|errno| DirError::sync(".", errno))
    }

    /// Makes all that was written to this directory's file system durable.
    ///
    /// # Errors
    /// [`DirError::Sync`], to be treated as a crash.
    pub fn sync_filesystem(&self) -> Result<(), DirError> {
        fs::syncfs(&self.fd).map_err(|errno| DirError::sync(".", errno))
    }

    /// Returns how much this user may still write here, in bytes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn free_bytes(&self) -> Result<u64, DirError> {
        let stat = fs::fstatvfs(&self.fd).map_err(|e| DirError::io("stat", ".", e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.fd
    }
}

impl Dir {
    const fn child(&self, fd: OwnedFd) -> Self {
        Self {
            fd,
            resolve: self.resolve,
        }
    }

    fn open_regular(&self, path: &str, access: OFlags) -> Result<File, DirError> {
        split(path)?;
        // O_NONBLOCK: a FIFO put there a moment ago must not hold us.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self
            .resolve
            .open(self.fd.as_fd(), path, flags)
            .map_err(|errno| refused("open", path, "regular file", errno))?;
        let stat = fs::fstat(&fd).map_err(|e| DirError::io("stat", path, e))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            Ok(File::from(fd))
        } else {
            Err(DirError::WrongKind {
                path: path.to_owned(),
                wanted: "regular file",
            })
        }
    }

    /// Opens what a path's last component stands in.
    fn parent<'p>(&self, path: &'p str) -> Result<(Parent<'_>, &'p str), DirError> {
        let (parent, name) = split(path)?;
        let fd = match parent {
            Some(parent) => Parent::Below(self.resolve.open_dir(self.fd.as_fd(), parent)?),
            None => Parent::This(self.fd.as_fd()),
        };
        Ok((fd, name))
    }

    /// Makes a call on a path's last component, relative to what it stands in.
    fn at<T>(
        &self,
        action: &'static str,
        path: &str,
        call: impl FnOnce(BorrowedFd<'_>, &str) -> rustix::io::Result<T>,
    ) -> Result<T, DirError> {
        let (parent, name) = self.parent(path)?;
        call(parent.as_fd(), name).map_err(|errno| DirError::io(action, path, errno))
    }

    fn move_to(
        &self,
        from: &str,
        to_dir: &Self,
        to: &str,
        flags: RenameFlags,
    ) -> Result<(), DirError> {
        let (to_fd, to_name) = to_dir.parent(to)?;
        self.at("rename", from, |fd, name| {
            fs::renameat_with(fd, name, to_fd.as_fd(), to_name, flags)
        })
    }

    fn read_entries(&self) -> rustix::io::Result<Vec<(OsString, Kind)>> {
        let mut entries = Vec::new();
        for entry in fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Gone between the listing and now.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                };
            }
            entries.push((
                OsStr::from_bytes(name.to_bytes()).to_owned(),
                Kind::from(kind),
            ));
        }
        Ok(entries)
    }
}

enum Parent<'d> {
    This(BorrowedFd<'d>),
    Below(OwnedFd),
}

impl Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::This(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

fn absent_is_fine(removed: Result<(), DirError>) -> Result<(), DirError> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    }
}
