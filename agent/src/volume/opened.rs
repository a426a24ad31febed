//! A held release that is open: its directory and what stood before it, for those who read its files.

use std::sync::Arc;

use codevol_protocol::id::ReleaseId;
use codevol_store::dir::{Dir, DirError};

use super::{Held, Root};

/// A held release, open.
#[derive(Debug)]
pub struct Opened {
    /// The release.
    pub held: Arc<Held>,
    /// Its directory. It may be collected while it is read.
    pub dir: Dir,
    /// The release that it follows here: what is active, or was before it.
    pub before: Option<Arc<Held>>,
}

impl Root {
    /// Opens a release; nothing where it is not held.
    ///
    /// # Errors
    /// When its directory is gone or cannot be opened.
    pub fn open_held(&self, id: ReleaseId) -> Result<Option<Opened>, DirError> {
        let Some(held) = self.held.get(&id) else {
            return Ok(None);
        };
        let before = self.active.filter(|active| *active != id);
        let before = before.or_else(|| self.previous().filter(|before| *before != id));
        Ok(Some(Opened {
            held: held.clone(),
            dir: self.places.releases.open_dir(&held.dir_name())?,
            before: before.and_then(|before| self.held.get(&before)).cloned(),
        }))
    }
}
