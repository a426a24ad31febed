//! Empty files, made in advance. A new file costs some file systems more than all that is then done with
//! it: ext4 without a journal looks for an inode that was not freed a short while ago, for 0.2 to 1 ms.
//! Where a fleet waits for a file, one that is there already is given its name.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, fchmod};

use crate::dir::{Dir, DirError};
use crate::persist;

/// How many are kept: a save touches few files.
const COUNT: usize = 8;
const MODE: u32 = 0o600;

/// Empty files in a directory of their own.
#[derive(Debug)]
pub struct Blanks {
    dir: Dir,
    ready: Mutex<Vec<Blank>>,
}

/// An empty file, open, and its name among the others.
#[derive(Debug)]
struct Blank {
    name: String,
    file: File,
}

impl Blanks {
    /// Takes over a directory; what lies there is removed. [`Self::fill`] makes the files.
    ///
    /// # Errors
    /// When it cannot be read, or something not removed.
    pub fn open(dir: Dir) -> Result<Self, DirError> {
        persist::sweep(&dir)?;
        Ok(Self {
            dir,
            ready: Mutex::default(),
        })
    }

    /// Makes what was taken.
    ///
    /// # Errors
    /// When no file can be made. Nothing depends on it: [`Self::create_file`] then makes its own.
    pub fn fill(&self) -> Result<(), DirError> {
        while self.ready().len() < COUNT {
            let name = persist::temporary_name()?;
            let file = self.dir.create_file(&name, MODE)?;
            self.ready().push(Blank { name, file });
        }
        Ok(())
    }

    /// Makes an empty file where nothing has its name, as [`Dir::create_file`] does, of one that is
    /// there already if there is one.
    ///
    /// # Errors
    /// When the name is taken, or the file cannot be made.
    pub fn create_file(&self, dir: &Dir, path: &str, mode: u32) -> Result<File, DirError> {
        let Some(Blank { name, file }) = self.take() else {
            return dir.create_file(path, mode);
        };
        if self.dir.rename_noreplace(&name, dir, path).is_err() {
            // A taken name, another file system: to make one says which, or does.
            persist::discard(&self.dir, &name);
            return dir.create_file(path, mode);
        }
        if mode != MODE {
            let changed = fchmod(&file, Mode::from_raw_mode(mode));
            changed.map_err(|errno| DirError::io("chmod", path, errno))?;
        }
        Ok(file)
    }

    fn take(&self) -> Option<Blank> {
        self.ready().pop()
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<Blank>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn a_file_is_one_that_was_there_and_as_new_as_one_that_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let blanks = Blanks::open(dir.ensure_dir("blanks", 0o700).unwrap()).unwrap();
        blanks.fill().unwrap();
        let made: Vec<u64> = std::fs::read_dir(temp.path().join("blanks"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().ino())
            .collect();
        assert_eq!(made.len(), COUNT);
        // More than there are.
        for n in 0..=COUNT {
            let (name, mode) = (format!("{n}"), if n % 2 == 0 { 0o600 } else { 0o644 });
            let mut file = blanks.create_file(&dir, &name, mode).unwrap();
            file.write_all(name.as_bytes()).unwrap();
            let stat = std::fs::metadata(temp.path().join(&name)).unwrap();
            assert_eq!(made.contains(&stat.ino()), n < COUNT);
            assert_eq!(stat.permissions().mode() & 0o7777, mode);
            assert_eq!(dir.read(&name, 9).unwrap(), name.as_bytes());
        }
        assert_eq!(
            std::fs::read_dir(temp.path().join("blanks"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn a_name_that_is_taken_stays_what_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let blanks = Blanks::open(dir.ensure_dir("blanks", 0o700).unwrap()).unwrap();
        blanks.fill().unwrap();
        persist::write(&dir, "taken", 0o600, b"first").unwrap();
        let error = blanks.create_file(&dir, "taken", 0o600).unwrap_err();
        assert!(error.is_already_exists());
        assert_eq!(dir.read("taken", 9).unwrap(), b"first");
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let open = || Blanks::open(Dir::open(temp.path()).unwrap()).unwrap();
        open().fill().unwrap();
        let _blanks = open();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
