//! The temporary folder of one test.

#![expect(
    clippy::disallowed_methods,
    reason = "what a test writes needs no durability, and saves are to be as editors make them"
)]

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::user;

/// A file system in memory, where there is one.
const MEMORY: &str = "/dev/shm";

/// A folder that is gone when the test is. The daemons' user owns it.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&env::temp_dir())
    }

    /// Makes one that lies in memory where the system has room for that: for many releases, which would
    /// spend their time waiting for the disk.
    #[must_use]
    pub fn in_memory() -> Self {
        let memory = Path::new(MEMORY);
        if memory.is_dir() {
            Self::below(memory)
        } else {
            Self::new()
        }
    }

    fn below(folder: &Path) -> Self {
        // A short name: a control socket's path has little room.
        let dir = tempfile::Builder::new().prefix("cv-").tempdir_in(folder);
        let dir = dir.expect("a temporary folder is made");
        let place = Self { dir };
        open(place.path());
        place.folder("logs");
        place
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a folder in it, for the daemons' user.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        make(&path);
        path
    }

    /// Returns where the logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Saves a file as an editor does that writes in place; makes its folders.
///
/// # Panics
/// When it cannot be saved.
pub fn save(path: &Path, text: &[u8]) {
    let folder = path.parent().expect("a file lies in a folder");
    make(folder);
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot save {}: {error}", path.display()));
    user::give(path);
}

/// Makes a folder, and those it lies in.
fn make(folder: &Path) {
    if folder.exists() {
        return;
    }
    make(folder.parent().expect("the root of all exists"));
    fs::create_dir(folder).expect("a folder is made");
    open(folder);
}

fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder is opened");
    user::give(folder);
}
