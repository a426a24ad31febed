//! Files that come to stand under their names together, durably, at the price of one; the last of them
//! perhaps only where nothing has its name.
//!
//! Few and small ones are durable once the write-ahead log has them, and are then put in place without a
//! wait. Others are all written under temporary names, made durable at the same time, named, and the
//! names made durable at the same time. Until then nobody who looks for a name finds half a file.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use crate::blanks::Blanks;
use crate::dir::{Dir, DirError};
use crate::persist::{self, Created};
use crate::together::{TOGETHER_MAX, Together};
use crate::wal::{Entry, Place, Wal};

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
    files: Vec<Arrival>,
    /// The one that is named last, where nothing has its name.
    last: Option<Arrival>,
}

/// A file and where it is to stand, whatever stands there.
#[derive(Debug)]
pub struct Arrival {
    /// Which directory that is.
    pub place: Place,
    /// The directory.
    pub dir: Arc<Dir>,
    /// Its path in there.
    pub path: String,
    /// With which mode.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// What a file holds, and where that is until it lands.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// On the disk.
    Written(Temporary),
}

impl Landing {
    /// Adds a file.
    pub fn add(&mut self, mut arrival: Arrival) {
        if self.files.len() >= TOGETHER_MAX
            && let Content::Written(file) = &mut arrival.content
        {
            // Of so many the file system is made durable: descriptors are few.
            file.close();
        }
        self.files.push(arrival);
    }

    /// Sets the file that is named last, and only where nothing has its name.
    pub fn set_last(&mut self, arrival: Arrival) {
        self.last = Some(arrival);
    }

    /// Makes all of it durable under its names, by the write-ahead log where that takes it. Says
    /// whether the last one has its name by this call.
    ///
    /// # Errors
    /// When the system refuses; then none of it is there: a name that may not be durable would pass
    /// for one that is.
    pub fn commit(mut self, wal: Option<&mut Wal>) -> Result<Created, DirError> {
        let Some((wal, entry)) = wal.zip(self.entry()) else {
            let landed = self.land(None);
            if landed.is_err() {
                self.discard_named();
            }
            return landed;
        };
        wal.append(&entry)?;
        let landed = self.land(Some(wal.blanks()));
        if !matches!(landed, Ok(Created::New)) {
            wal.take_back();
            self.discard_named();
        }
        landed
    }

    fn discard_named(&self) {
        for arrival in self.files.iter().filter(|arrival| arrival.is_named()) {
            persist::discard(&arrival.dir, &arrival.path);
        }
    }

    /// Returns what is written ahead; nothing where that would be too much.
    fn entry(&self) -> Option<Entry> {
        let mut entry = Entry::default();
        let fits = self.files.iter().chain(&self.last).all(|arrival| {
            let Content::Bytes(bytes) = &arrival.content else {
                return false;
            };
            entry.add(arrival.place, &arrival.path, bytes)
        });
        fits.then_some(entry)
    }

    /// Puts all of it in place: what is durable already with the files that were made for that, else it
    /// waits until it is.
    fn land(&mut self, ahead: Option<&Blanks>) -> Result<Created, DirError> {
        let waits = ahead.is_none();
        for (n, arrival) in self.files.iter_mut().chain(&mut self.last).enumerate() {
            arrival.write(n < TOGETHER_MAX, ahead)?;
        }
        if waits {
            self.sync_files()?;
        }
        for arrival in &mut self.files {
            arrival.rename()?;
        }
        if waits {
            self.sync_names()?;
        }
        let Some(last) = &self.last else {
            return Ok(Created::New);
        };
        let created = persist::created(last.link())?;
        if waits {
            persist::sync_created(&last.dir, &last.path, created)?;
        }
        Ok(created)
    }

    fn sync_files(&mut self) -> Result<(), DirError> {
        let mut bytes = Together::default();
        if self.files.len() > TOGETHER_MAX {
            self.sync_file_systems()?;
        }
        for arrival in self.files.iter_mut().chain(&mut self.last) {
            if let Content::Written(file) = &mut arrival.content
                && let Some(file) = file.file.take()
            {
                bytes.add(&arrival.path, file);
            }
        }
        bytes.sync()
    }

    fn sync_names(&self) -> Result<(), DirError> {
        let mut parents: Vec<(&Arc<Dir>, &str)> = Vec::new();
        for arrival in &self.files {
            let parent = arrival
                .path
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent);
            let is_known = |known: &&(&Arc<Dir>, &str)| {
                Arc::ptr_eq(known.0, &arrival.dir) && known.1 == parent
            };
            if parents.len() <= TOGETHER_MAX && parents.iter().find(is_known).is_none() {
                parents.push((&arrival.dir, parent));
            }
        }
        // That the temporary names are gone need not last: they are swept.
        if parents.len() > TOGETHER_MAX {
            return self.sync_file_systems();
        }
        let mut names = Together::default();
        for (dir, parent) in parents {
            if parent.is_empty() {
                names.add_dir(".", dir)?;
            } else {
                names.add(parent, dir.open_dir(parent)?);
            }
        }
        names.sync()
    }

    /// Makes durable what was written to the file systems that the files lie on.
    fn sync_file_systems(&self) -> Result<(), DirError> {
        let mut dirs: Vec<&Arc<Dir>> = Vec::new();
        for arrival in &self.files {
            if !dirs.iter().any(|dir| Arc::ptr_eq(dir, &arrival.dir)) {
                arrival.dir.sync_filesystem()?;
                dirs.push(&arrival.dir);
            }
        }
        Ok(())
    }
}

impl Arrival {
    /// Gives what is in memory a temporary name.
    fn write(&mut self, stays_open: bool, blanks: Option<&Blanks>) -> Result<(), DirError> {
        if let Content::Bytes(bytes) = &self.content {
            let mut file = match blanks {
                Some(blanks) => Temporary::of_blank(&self.dir, self.mode, blanks)?,
                None => Temporary::create(&self.dir, self.mode)?,
            };
            file.write(bytes)?;
            if !stays_open {
                file.close();
            }
            self.content = Content::Written(file);
        }
        Ok(())
    }

    fn rename(&mut self) -> Result<(), DirError> {
        match &mut self.content {
            Content::Written(file) => file.rename(&self.path),
            Content::Bytes(_) => Ok(()),
        }
    }

    /// Gives the file its name where nothing has it; it keeps the temporary one until it is dropped.
    fn link(&self) -> Result<(), DirError> {
        match &self.content {
            Content::Written(Temporary {
                name: Some(name), ..
            }) => self.dir.link(name, &self.dir, &self.path),
            Content::Written(_) | Content::Bytes(_) => Ok(()),
        }
    }

    const fn is_named(&self) -> bool {
        matches!(&self.content, Content::Written(file) if file.name.is_none())
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
        Ok(Self::named(dir, name, file))
    }

    fn of_blank(dir: &Arc<Dir>, mode: u32, blanks: &Blanks) -> Result<Self, DirError> {
        let name = persist::temporary_name()?;
        let file = blanks.create_file(dir, &name, mode)?;
        Ok(Self::named(dir, name, file))
    }

    fn named(dir: &Arc<Dir>, name: String, file: File) -> Self {
        Self {
            dir: dir.clone(),
            name: Some(name),
            file: Some(file),
        }
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

    fn arrival(dir: &Arc<Dir>, path: &str, text: &str, in_memory: bool) -> Arrival {
        let content = if in_memory {
            Content::Bytes(text.as_bytes().to_vec())
        } else {
            let mut file = Temporary::create(dir, 0o600).unwrap();
            file.write(text.as_bytes()).unwrap();
            Content::Written(file)
        };
        Arrival {
            place: Place::Blobs,
            dir: dir.clone(),
            path: path.to_owned(),
            mode: 0o600,
            content,
        }
    }

    fn wal(temp: &tempfile::TempDir) -> (Wal, Vec<String>) {
        let home = temp.path().with_extension("wal");
        std::fs::create_dir_all(&home).unwrap();
        let mut found = Vec::new();
        let wal = Wal::open(&Dir::open(&home).unwrap(), |put| {
            found.push(put.path);
            Ok::<(), DirError>(())
        });
        (wal.unwrap(), found)
    }

    #[test]
    fn few_and_many_files_land_under_their_names_the_last_one_too() {
        for in_memory in [false, true] {
            for ahead in [false, true] {
                for count in [0, 1, TOGETHER_MAX, TOGETHER_MAX + 1, 3 * TOGETHER_MAX] {
                    let (temp, dir) = opened();
                    let mut wal = wal(&temp).0;
                    let mut landing = Landing::default();
                    for n in 0..count {
                        dir.ensure_dir(&format!("{n}"), 0o700).unwrap();
                        let path = format!("{n}/file");
                        landing.add(arrival(&dir, &path, &n.to_string(), in_memory));
                    }
                    landing.set_last(arrival(&dir, "last", "last", in_memory));
                    let created = landing.commit(ahead.then_some(&mut wal)).unwrap();
                    assert_eq!(created, Created::New);
                    for n in 0..count {
                        let bytes = dir.read(&format!("{n}/file"), 9).unwrap();
                        assert_eq!(bytes, n.to_string().as_bytes());
                    }
                    assert_eq!(dir.read("last", 9).unwrap(), b"last");
                    assert_eq!(persist::sweep(&dir).unwrap(), 0);
                }
            }
        }
    }

    #[test]
    fn what_is_small_and_in_memory_is_written_ahead_and_nothing_else() {
        for (in_memory, length, is_ahead) in
            [(true, 9, true), (false, 9, false), (true, 3_000_000, false)]
        {
            let (temp, dir) = opened();
            let mut landing = Landing::default();
            landing.add(arrival(&dir, "a", &"x".repeat(length), in_memory));
            let _created = landing.commit(Some(&mut wal(&temp).0)).unwrap();
            assert_eq!(dir.read("a", 4 << 20).unwrap().len(), length);
            assert_eq!(!wal(&temp).1.is_empty(), is_ahead, "{in_memory} {length}");
        }
    }

    #[test]
    fn where_the_last_name_is_taken_it_stays_what_it_was_and_nothing_is_left_ahead() {
        for ahead in [false, true] {
            let (temp, dir) = opened();
            let mut wal_now = wal(&temp).0;
            persist::write(&dir, "last", 0o600, b"first").unwrap();
            let mut landing = Landing::default();
            landing.add(arrival(&dir, "a", "a", true));
            landing.set_last(arrival(&dir, "last", "second", true));
            let created = landing.commit(ahead.then_some(&mut wal_now)).unwrap();
            assert_eq!(created, Created::Exists);
            assert_eq!(dir.read("last", 9).unwrap(), b"first");
            assert!(wal(&temp).1.is_empty());
            assert_eq!(persist::sweep(&dir).unwrap(), 0);
        }
    }

    #[test]
    fn of_a_landing_that_fails_nothing_stays() {
        for ahead in [false, true] {
            for count in [3, TOGETHER_MAX + 3] {
                let (temp, dir) = opened();
                let mut wal_now = wal(&temp).0;
                let mut landing = Landing::default();
                for n in 0..count {
                    // One of them has no directory to land in.
                    let path = if n == 2 {
                        "gone/file".to_owned()
                    } else {
                        n.to_string()
                    };
                    landing.add(arrival(&dir, &path, "x", ahead));
                }
                landing.commit(ahead.then_some(&mut wal_now)).unwrap_err();
                assert!(dir.entries().unwrap().is_empty());
                assert!(wal(&temp).1.is_empty());
            }
        }
    }
}
