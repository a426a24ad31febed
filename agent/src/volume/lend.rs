//! A held release lent to a reader: it is in use as long as that lasts.

use std::fs::File;
use std::sync::Arc;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::release::Seq;
use codevol_store::dir::{Dir, DirError};

use super::{Held, Root, lease};

/// A held release that stays where it is.
#[derive(Debug)]
pub struct Lent {
    /// Its record and its manifest.
    pub held: Arc<Held>,
    /// Its directory.
    pub dir: Dir,
    /// Says that it is in use.
    _lease: Option<File>,
}

impl Root {
    /// Lends the newest release that is meant; nothing where none is held.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn lend(
        &self,
        is_meant: impl Fn(Seq, &ReleaseId) -> bool,
    ) -> Result<Option<Lent>, DirError> {
        let held = self.held.values();
        let meant = held.filter(|held| is_meant(held.release().seq, &held.id()));
        let Some(held) = meant.max_by_key(|held| held.release().seq) else {
            return Ok(None);
        };
        let dir = self.places.releases.open_dir(&held.dir_name())?;
        Ok(Some(Lent {
            held: held.clone(),
            _lease: lease::use_release(&dir)?,
            dir,
        }))
    }
}
