//! A folder beside X in which X is made, so that X is there whole or not at all. Whoever works in it
//! holds a lock on it: what a killed process left there is nobody's, and goes with the next one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use codevol_store::dir::Dir;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::SealError;

/// The folder in which X is made. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Workshop {
    target: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Workshop {
    /// Makes the folder.
    pub(crate) fn open(target: &Path) -> Result<Self, SealError> {
        let target = std::path::absolute(target).map_err(failed("use", target))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let folder = target.with_file_name(format!(".{name}.sealing"));
        if target.symlink_metadata().is_ok() {
            return Err(SealError::Exists(target));
        }
        loop {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let Some(_lock) = lock(&folder)? else {
                        return Err(SealError::Busy(target));
                    };
                    fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
                    continue;
                }
                made => made.map_err(failed("make", &folder))?,
            }
            // Another one may have taken it for a leftover before it was locked.
            if let Some(lock) = lock(&folder)? {
                return Ok(Self {
                    target,
                    folder,
                    _lock: lock,
                });
            }
        }
    }

    /// Returns where something in the folder is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives what was made its name, at which nothing may stand; durable when this returns.
    pub(crate) fn finish(self, made: &str) -> Result<(), SealError> {
        let parent = self.target.parent().unwrap_or_else(|| Path::new("/"));
        let made = self.path(made);
        let write = |error: codevol_store::dir::DirError| SealError::Write {
            action: "name",
            path: self.target.clone(),
            source: io::Error::other(error),
        };
        let named = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &made,
            rustix::fs::CWD,
            &self.target,
            rustix::fs::RenameFlags::NOREPLACE,
        );
        match named {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                return Err(SealError::Exists(self.target.clone()));
            }
            // Not every file system knows how.
            Err(Errno::INVAL) if self.target.symlink_metadata().is_err() => {
                fs::rename(&made, &self.target).map_err(failed("name", &self.target))?;
            }
            Err(errno) => return Err(failed("name", &self.target)(errno.into())),
        }
        let parent = Dir::open(parent).map_err(write)?;
        parent.sync().map_err(write)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays is taken for a leftover by the next one.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Locks a folder; nothing where another holds it, or another one stands there by now.
fn lock(folder: &Path) -> Result<Option<File>, SealError> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", folder)(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(failed("lock", folder)(errno.into())),
    }
    Ok(is_there(&file, folder).then_some(file))
}

fn is_there(file: &File, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |stat: fs::Metadata| (stat.dev(), stat.ino());
    let there = folder.symlink_metadata().map(id);
    file.metadata().map(id).ok() == there.ok()
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Write {
        action,
        path,
        source,
    }
}
