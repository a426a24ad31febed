//! Making several files and directories durable at the price of one.
//!
//! Where little waits to be written in the whole system, the file system is asked to write all of it:
//! one call, which costs about as much as one file does. Else that would be to wait for what others
//! wrote. Then all are told to be written before the first is waited for, so that their blocks are
//! allocated in one transaction of the file system's journal; and all are waited for at the same time,
//! since each wait also has the disk empty its cache, which it does once for all that ask meanwhile.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::resume_unwind;

use rustix::fs::{self, Advice};

use crate::dir::{Dir, DirError};

/// More files and directories than this are better made durable with their whole file system.
pub const TOGETHER_MAX: usize = 16;

/// What others may have waiting to be written, in bytes, for us to wait for it too: a disk that
/// writes a hundred times as much a second.
const DIRTY_BYTES_MAX: u64 = 1 << 20;
const MEMINFO: &str = "/proc/meminfo";

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

    /// Whether there are several, all of them on the file system of this one.
    fn shares_file_system(&self, (_, last): &(String, OwnedFd)) -> bool {
        let device = |fd: &OwnedFd| fs::fstat(fd).map(|stat| stat.st_dev).ok();
        let device_of_last = device(last);
        !self.pending.is_empty()
            && device_of_last.is_some()
            && self
                .pending
                .iter()
                .all(|(_, fd)| device(fd) == device_of_last)
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    /// [`DirError::Sync`], to be treated as a crash.
    pub fn sync(mut self) -> Result<(), DirError> {
        let Some(last) = self.pending.pop() else {
            return Ok(());
        };
        // Where that fails, each path says whether it is one of ours.
        if self.shares_file_system(&last) && is_quiet() && fs::syncfs(&last.1).is_ok() {
            return Ok(());
        }
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

/// Whether little waits to be written in the whole system; where it does not say so, it may be much.
fn is_quiet() -> bool {
    let waiting = std::fs::read_to_string(MEMINFO)
        .ok()
        .and_then(|text| waiting_bytes(&text));
    waiting.is_some_and(|bytes| bytes <= DIRTY_BYTES_MAX)
}

/// Returns how many bytes wait to be written or are being written, as `/proc/meminfo` says it.
fn waiting_bytes(meminfo: &str) -> Option<u64> {
    let kibibytes = |key: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((kibibytes("Dirty:")? + kibibytes("Writeback:")?) * 1024)
}

fn sync((path, fd): &(String, OwnedFd)) -> Result<(), DirError> {
    // Not only the bytes: a mode that was set is part of what must last.
    fs::fsync(fd.as_fd()).map_err(|errno| DirError::sync(path, errno))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_waits_to_be_written_is_read_from_meminfo() {
        let text = "MemTotal:  100 kB\nDirty:      12 kB\nWriteback:   3 kB\nWritebackTmp: 9 kB\n";
        assert_eq!(waiting_bytes(text), Some(15 * 1024));
        for unclear in ["", "Dirty: 1 kB\n", "Dirty: 1 MB\nWriteback: 0 kB\n"] {
            assert_eq!(waiting_bytes(unclear), None);
        }
        let real = std::fs::read_to_string(MEMINFO).unwrap();
        assert!(waiting_bytes(&real).is_some());
    }

    #[test]
    fn what_lies_on_two_file_systems_is_not_left_to_one_of_them() {
        let temp = tempfile::tempdir().unwrap();
        let [here, too, elsewhere] = [temp.path(), temp.path(), Path::new("/proc")]
            .map(|path| (String::new(), OwnedFd::from(Dir::open(path).unwrap())));
        let mut together = Together::default();
        assert!(!together.shares_file_system(&here), "one file alone");
        together.pending.push(too);
        assert!(together.shares_file_system(&here));
        together.pending.push(elsewhere);
        assert!(!together.shares_file_system(&here));
    }

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
