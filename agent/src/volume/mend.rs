//! Replacing wrong files: good bytes go to every held release that has other ones in their place. A
//! file is never written to where it stands: a new one takes its name.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Entry;
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Kind, Stat};

use super::Root;
use super::cursor::Cursor;
use super::drift::{Seen, holds};
use super::held::Held;
use super::land::{Landed, Spot, mode};
use super::pace::Pace;
use super::places::Places;
use super::stage::Staging;

const MENDED: &str = "mended";

/// Where bytes stand that were found to be a blob's.
pub(super) type Good<'a> = BTreeMap<BlobId, (&'a Dir, String)>;

/// Replaces wrong files.
#[derive(Debug)]
pub(super) struct Mender<'a> {
    places: &'a Places,
    landed: &'a Landed,
    good: &'a Good<'a>,
    /// Releases share inodes: each is read once.
    seen: Seen,
    wrong: HashSet<(u64, u64, BlobId)>,
}

/// After a release was built: goes through every held one but it, whose files are the good ones.
/// What cannot be mended stays damaged, and is found again by the next that looks.
pub(super) fn mend(root: &Root, staging: &Staging, landed: &Landed) {
    let next = &staging.next;
    let built = match staging.places.releases.open_dir(&next.dir_name()) {
        Ok(built) => built,
        Err(error) => {
            tracing::warn!(release = %next.id(), error = %error, "damaged files stay");
            return;
        }
    };
    let entries = next.manifest().entries().iter();
    let good: Good<'_> = entries
        .filter_map(|(path, entry)| Some((entry.blob()?, path)))
        .filter(|(blob, _)| staging.resent().contains(blob))
        .map(|(blob, path)| (blob, (&built, path.as_str().to_owned())))
        .collect();
    let others = root.held.values().filter(|held| held.id() != next.id());
    Mender::new(&staging.places, landed, &good).all(others);
}

impl<'a> Mender<'a> {
    pub(super) fn new(places: &'a Places, landed: &'a Landed, good: &'a Good<'a>) -> Self {
        Self {
            places,
            landed,
            good,
            seen: Seen::default(),
            wrong: HashSet::new(),
        }
    }

    /// Replaces what is wrong in these releases.
    pub(super) fn all<'h>(&mut self, releases: impl Iterator<Item = &'h Arc<Held>>) {
        for held in releases {
            let dir = self.places.releases.open_dir(&held.dir_name());
            if let Err(error) = dir.and_then(|dir| self.release(held, &dir)) {
                tracing::warn!(release = %held.id(), error = %error, "damaged files stay");
            }
        }
    }

    fn release(&mut self, held: &Held, dir: &Dir) -> Result<(), DirError> {
        let mut cursor = Cursor::new(dir);
        for (path, entry) in held.manifest().entries() {
            let Some(blob) = entry.blob() else { continue };
            let Some((from, name)) = self.good.get(&blob) else {
                continue;
            };
            let from = Spot { dir: from, name };
            let (parent, name) = cursor.make(path)?;
            let to = Spot { dir: parent, name };
            if !self.is_right(to, entry)? {
                self.replace(from, to, (path, entry))?;
                tracing::warn!(release = %held.id(), %path, "damaged file replaced");
            }
        }
        Ok(())
    }

    fn is_right(&mut self, at: Spot<'_>, entry: &Entry) -> Result<bool, DirError> {
        let Some(stat) = at.dir.stat(at.name)? else {
            return Ok(false);
        };
        let plain = |stat: &Stat| {
            stat.kind == Kind::File && stat.size == entry.size() && stat.mode == mode(entry)
        };
        let Some(blob) = entry.blob().filter(|_| plain(&stat)) else {
            return Ok(false);
        };
        let inode = (stat.dev, stat.ino, blob);
        if self.wrong.contains(&inode) {
            return Ok(false);
        }
        let read = (&mut Pace::free(), &mut self.seen);
        let is_right = holds(at.dir, at.name, (blob, &stat), read)? == Some(true);
        if !is_right {
            self.wrong.insert(inode);
        }
        Ok(is_right)
    }

    fn replace(
        &self,
        from: Spot<'_>,
        to: Spot<'_>,
        (path, entry): (&RelPath, &Entry),
    ) -> Result<(), DirError> {
        let mending = &self.places.mending;
        mending.remove_tree(MENDED)?;
        let made = Spot {
            dir: mending,
            name: MENDED,
        };
        self.landed.bring(from, made, path, (mode(entry), true))?;
        let file = mending.open_file(MENDED)?;
        file.sync_all().map_err(|source| DirError::Sync {
            path: path.to_string(),
            source,
        })?;
        put(self.places, to)
    }
}

/// Makes a link anew, and gives it its name.
pub(super) fn relink(places: &Places, to: Spot<'_>, target: &str) -> Result<(), DirError> {
    places.mending.remove_tree(MENDED)?;
    places.mending.symlink(target, MENDED)?;
    put(places, to)
}

/// Gives what was made its name. A file or link that has it is replaced in one step; a directory goes
/// to the trash first.
fn put(places: &Places, to: Spot<'_>) -> Result<(), DirError> {
    places.step()?;
    let there = to.dir.stat(to.name)?;
    if there.is_some_and(|stat| stat.kind == Kind::Dir) {
        places.discard(to.dir, to.name)?;
    }
    places.mending.rename(MENDED, to.dir, to.name)?;
    to.dir.sync()
}
