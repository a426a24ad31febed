//! Files that come to stand under their names together, durably, at the price of one: all are written
//! under temporary names, made durable at the same time, named, and the names made durable at the same
//! time. Until then nobody who looks for a name finds half a file.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use crate::dir::{Dir, DirError};
use crate::persist;
use crate::together::{TOGETHER_MAX, Together};

/// A file that has no name of its own yet. Dropped, it is removed.
#[derive(Debug)]
#[must_use]
pub struct Temporary {
    dir: Arc<Dir>,
    /// Nothing once it has its own name.
    name: Option<String>,
    /// Open as long as it is to be made durable by itself.
    file: Option<File>,
}

/// Files on their way to their names. Dropped before [`Self::commit`], they are removed.
#[derive(Debug, Default)]
#[must_use]
pub struct Landing {
    files: Vec<(Temporary, String)>,
    others: Vec<(String, File)>,
}

/// Proof that all of a landing is durable.
#[derive(Debug)]
#[must_use]
pub struct Landed(());

impl Landing {
    /// Adds a file that is to stand at this path of its directory, whatever stands there.
    pub fn add(&mut self, mut file: Temporary, path: String) {
        if self.files.len() >= TOGETHER_MAX {
            // Of so many the file system is made durable: descriptors are few.
            file.close();
        }
        self.files.push((file, path));
    }

    /// Has a file made durable that is named by other means later.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn add_unnamed(&mut self, file: &Temporary) -> Result<(), DirError> {
        if let (Some(open), Some(name)) = (&file.file, &file.name) {
            let clone = open.try_clone();
            let clone = clone.map_err(|error| DirError::io("open", name, error))?;
            self.others.push((name.clone(), clone));
        }
        Ok(())
    }

    /// Makes all of it durable under its names.
    ///
    /// # Errors
    /// When the system refuses; then none of it is there: a name that may not be durable would pass
    /// for one that is.
    pub fn commit(mut self) -> Result<Landed, DirError> {
        let landed = self.land();
        if landed.is_err() {
            for (file, path) in &self.files {
                if file.name.is_none() {
                    persist::discard(&file.dir, path);
                }
            }
        }
        landed
    }

    fn land(&mut self) -> Result<Landed, DirError> {
        let mut bytes = Together::default();
        for (name, file) in self.others.drain(..) {
            bytes.add(&name, file);
        }
        if self.files.len() > TOGETHER_MAX {
            self.sync_file_systems()?;
        } else {
            for (file, path) in &mut self.files {
                if let Some(file) = file.file.take() {
                    bytes.add(path, file);
                }
            }
        }
        bytes.sync()?;
        for (file, path) in &mut self.files {
            file.rename(path)?;
        }
        let mut parents: Vec<(&Arc<Dir>, &str)> = Vec::new();
        for (file, path) in &self.files {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            let is_known =
                |known: &&(&Arc<Dir>, &str)| Arc::ptr_eq(known.0, &file.dir) && known.1 == parent;
            if parents.len() <= TOGETHER_MAX && parents.iter().find(is_known).is_none() {
                parents.push((&file.dir, parent));
            }
        }
        // That the temporary names are gone need not last: they are swept.
        if parents.len() > TOGETHER_MAX {
            self.sync_file_systems()?;
            return Ok(Landed(()));
        }
        let mut names = Together::default();
        for (dir, parent) in parents {
            if parent.is_empty() {
                names.add_dir(".", dir)?;
            } else {
                names.add(parent, dir.open_dir(parent)?);
            }
        }
        names.sync()?;
        Ok(Landed(()))
    }

    /// Makes durable what was written to the file systems that the files lie on.
    fn sync_file_systems(&self) -> Result<(), DirError> {
        let mut dirs: Vec<&Arc<Dir>> = Vec::new();
        for (file, _) in &self.files {
            if !dirs.iter().any(|dir| Arc::ptr_eq(dir, &file.dir)) {
                file.dir.sync_filesystem()?;
                dirs.push(&file.dir);
            }
        }
        Ok(())
    }
}

impl Temporary {
    /// Makes an empty file in a directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Arc<Dir>, mode: u32) -> Result<Self, DirError> {
        let name = persist::temporary_name()?;
        let file = dir.create_file(&name, mode)?;
        Ok(Self {
            dir: dir.clone(),
            name: Some(name),
            file: Some(file),
        })
    }

    /// Appends to the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DirError> {
        let Self { name, file, .. } = self;
        let (Some(name), Some(file)) = (name, file) else {
            return Ok(());
        };
        file.write_all(bytes)
            .map_err(|error| DirError::io("write", name, error))
    }

    /// Closes a file that is not to be made durable by itself.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Gives the file a name in its directory where nothing has it; it keeps the temporary one until
    /// it is dropped.
    ///
    /// # Errors
    /// When something stands there, or the system refuses.
    pub fn link(&self, path: &str) -> Result<(), DirError> {
        match &self.name {
            Some(name) => self.dir.link(name, &self.dir, path),
            None => Ok(()),
        }
    }

    fn rename(&mut self, path: &str) -> Result<(), DirError> {
        if let Some(name) = &self.name {
            self.dir.rename(name, &self.dir, path)?;
            self.name = None;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            persist::discard(&self.dir, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Arc<Dir>) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(temp.path()).unwrap());
        (temp, dir)
    }

    fn temporary(dir: &Arc<Dir>, text: &str) -> Temporary {
        let mut file = Temporary::create(dir, 0o600).unwrap();
        file.write(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn few_and_many_files_land_under_their_names() {
        for count in [0, 1, TOGETHER_MAX, TOGETHER_MAX + 1, 3 * TOGETHER_MAX] {
            let (_temp, dir) = opened();
            let mut landing = Landing::default();
            for n in 0..count {
                dir.ensure_dir(&format!("{n}"), 0o700).unwrap();
                landing.add(temporary(&dir, &n.to_string()), format!("{n}/file"));
            }
            let _landed = landing.commit().unwrap();
            for n in 0..count {
                let bytes = dir.read(&format!("{n}/file"), 9).unwrap();
                assert_eq!(bytes, n.to_string().as_bytes());
            }
            assert_eq!(persist::sweep(&dir).unwrap(), 0);
        }
    }

    #[test]
    fn of_a_landing_that_fails_nothing_stays() {
        for count in [3, TOGETHER_MAX + 3] {
            let (_temp, dir) = opened();
            let mut landing = Landing::default();
            for n in 0..count {
                // One of them has no directory to land in.
                let path = if n == 2 {
                    "gone/file".to_owned()
                } else {
                    n.to_string()
                };
                landing.add(temporary(&dir, "x"), path);
            }
            landing.commit().unwrap_err();
            assert!(dir.entries().unwrap().is_empty());
        }
    }
}
