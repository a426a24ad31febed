//! A release as a reader holds it that resolves `current` once: by a directory descriptor.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// An open directory.
#[derive(Debug)]
pub struct HeldTree {
    dir: OwnedFd,
}

impl HeldTree {
    /// Opens what `current` of this root names now.
    ///
    /// # Errors
    /// It names nothing.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, root.join("current"), flags, Mode::empty())?;
        Ok(Self { dir })
    }

    /// Reads a file of it.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read(&self, path: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.dir, path, flags, Mode::empty())?;
        io::read_to_string(File::from(file))
    }
}
