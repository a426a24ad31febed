//! What is handed out of what is held: a release lent to a reader, in use as long as that lasts; and
//! records, for a source that lost its own.

use std::cmp::Reverse;
use std::fs::File;
use std::sync::Arc;

use codevol_protocol::codec;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::{HELD_MAX, RECORDS_BYTES_MAX};
use codevol_protocol::release::{Seq, SignedRelease};
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
    /// Returns the records of the held releases after a seq, oldest first; where that would be too much,
    /// of the newest.
    #[must_use]
    pub fn records_above(&self, above: Seq) -> Vec<SignedRelease> {
        let mut held: Vec<_> = self.held.values().collect();
        held.retain(|held| held.release().seq > above);
        held.sort_by_key(|held| Reverse(held.release().seq));
        let mut room = RECORDS_BYTES_MAX;
        let fits = |held: &&Arc<Held>| {
            let left = room.checked_sub(codec::encode(held.signed()).len());
            room = left.unwrap_or_default();
            left.is_some()
        };
        let held = held.into_iter().take_while(fits).take(HELD_MAX);
        let mut records: Vec<_> = held.map(|held| held.signed().clone()).collect();
        records.reverse();
        records
    }

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
