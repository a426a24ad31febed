//! Making several files and directories durable at the price of one. All are told to be written before
//! the first is waited for, so that their blocks are allocated in one transaction of the file system's
//! journal; and all are waited for at the same time, since each wait also has the disk empty its cache,
//! which it does once for all that ask meanwhile.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::resume_unwind;

use rustix::fs::{self, Advice};

use crate::dir::{Dir, DirError};

/// More files and directories than this are better made durable with their whole file system.
pub const TOGETHER_MAX: usize = 16;

/// What is to be made durable, with no order in it.
#[derive(Debug, Default)]
#[must_use]
pub struct Together {
    /// With what errors call each.
    pending: Vec<(String, OwnedFd)>,
}

impl Together {
    /// Adds a file or a directory that is open. Of a directory its names become durable.
    pub fn add(&mut self, path: &str, fd: impl Into<OwnedFd>) {
        self.pending.push((path.to_owned(), fd.into()));
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn add_file(&mut self, dir: &Dir, path: &str) -> Result<(), DirError> {
        self.add(path, dir.open_file(path)?);
        Ok(())
    }

    /// Adds the names in a directory.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn add_dir(&mut self, path: &str, dir: &Dir) -> Result<(), DirError> {
        self.add(path, dir.try_clone()?);
        Ok(())
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    /// [`DirError::Sync`], to be treated as a crash.
    pub fn sync(mut self) -> Result<(), DirError> {
        let Some(last) = self.pending.pop() else {
            return Ok(());
        };
        for (_, fd) in self.pending.iter().chain([&last]) {
            // Linux begins to write what is asked to leave memory. Where it does not, each file only
            // waits for itself; of a directory there is nothing to write.
            fs::fadvise(fd, 0, None, Advice::DontNeed).unwrap_or_default();
        }
        std::thread::scope(|scope| {
            let others = self.pending.iter();
            let others: Vec<_> = others.map(|one| scope.spawn(|| sync(one))).collect();
            let mut synced = sync(&last);
            for other in others {
                let joined = || other.join().unwrap_or_else(|panic| resume_unwind(panic));
                synced = synced.and_then(|()| joined());
            }
            synced
        })
    }
}

fn sync((path, fd): &(String, OwnedFd)) -> Result<(), DirError> {
    // Not only the bytes: a mode that was set is part of what must last.
    fs::fsync(fd.as_fd()).map_err(|errno| DirError::sync(path, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_durable_is_named_whichever_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        drop(dir.create_file("file", 0o600).unwrap());
        for bad in 0..4 {
            let mut together = Together::default();
            for at in 0..4 {
                if at == bad {
                    // A pipe has nothing to make durable, and says so.
                    together.add("pipe", std::io::pipe().unwrap().0);
                } else {
                    together.add_file(&dir, "file").unwrap();
                }
            }
            together.add_dir(".", &dir).unwrap();
            let error = together.sync().unwrap_err();
            assert!(matches!(error, DirError::Sync { path, .. } if path == "pipe"));
        }
        Together::default().sync().unwrap();
    }
}
