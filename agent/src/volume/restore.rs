//! Putting back what drifted: wrong files from a held good copy, foreign ones into the trash,
//! `current` by rename. Bytes that no held release has any more are asked for, and come as a staging
//! that builds nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::manifest::Entry;
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Kind};

use super::drift::{DIR_MODE, Drift, DriftKind, Found, Look, Seen, holds};
use super::held::Held;
use super::land::{Landed, Spot};
use super::mend::{Good, Mender, relink};
use super::pace::Pace;
use super::places::{CURRENT, Places, RELEASES};
use super::stage::{StageError, Staging};
use super::{Root, marker::MARKER};

/// The work of putting back. It needs no [`Root`]: all that it touches are names in releases.
#[derive(Debug)]
pub struct Restore {
    places: Arc<Places>,
    held: Vec<Arc<Held>>,
    landed: Landed,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Restored {
    /// What is as released again.
    pub done: Vec<Drift>,
    /// Blobs of which no held release has a good copy.
    pub lacking: BTreeSet<BlobId>,
    /// What could not be put back, and why, where that was said.
    pub failed: Vec<(Drift, Option<DirError>)>,
}

impl Root {
    /// Returns the work of putting back what drifted.
    ///
    /// # Errors
    /// When a held release cannot be opened.
    pub fn restoring(&self) -> Result<Restore, DirError> {
        Ok(Restore {
            places: Arc::clone(&self.places),
            // The newest first: it has most in common with the one that runs.
            held: {
                let mut held: Vec<Arc<Held>> = self.held.values().cloned().collect();
                held.sort_by_key(|held| std::cmp::Reverse(held.release().seq));
                held
            },
            landed: self.landed()?,
        })
    }

    /// Whether `current` names something else than the release that was activated.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn is_flipped(&self) -> Result<bool, DirError> {
        let Some(active) = self.active.and_then(|id| self.held.get(&id)) else {
            return Ok(false);
        };
        let expected = format!("{RELEASES}/{}", active.dir_name());
        let stat = self.places.root.stat(CURRENT)?;
        if stat.is_none_or(|stat| stat.kind != Kind::Symlink) {
            return Ok(true);
        }
        match self.places.root.read_link(CURRENT) {
            Ok(target) => Ok(target != expected),
            // That is none of ours.
            Err(error) if error.is_no_text() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes `current` name the active release again. Returns whether it did not.
    ///
    /// # Errors
    /// When the disk fails, or something that is no link stands there.
    pub fn restore_current(&mut self) -> Result<bool, DirError> {
        let active = self.active.and_then(|id| self.held.get(&id));
        let Some((id, name)) = active.map(|held| (held.id(), held.dir_name())) else {
            return Ok(false);
        };
        // A link that leads nowhere is no better than one that leads elsewhere.
        let there = self.places.releases.stat(&name)?;
        if !self.is_flipped()? || there.is_none_or(|stat| stat.kind != Kind::Dir) {
            return Ok(false);
        }
        self.flip(id, &name)?;
        Ok(true)
    }

    /// Forgets what the file system said of files that were found wrong, and of those that share their
    /// bytes: the next that would use one reads it.
    pub fn distrust(&mut self, id: ReleaseId, found: &Found) {
        let Some(held) = self.held.get(&id).cloned() else {
            return;
        };
        let wrong: BTreeSet<BlobId> = found
            .drift
            .iter()
            .filter_map(|drift| blob_at(&held, &drift.path))
            .collect();
        let all = found.more > 0;
        if wrong.is_empty() && !all {
            return;
        }
        // It is made of the same files.
        self.spare = None;
        for (id, stamps) in &mut self.stamps {
            let Some(held) = self.held.get(id) else {
                continue;
            };
            let entries = held.manifest().entries().iter();
            let kept = entries.zip(stamps.iter()).map(|((_, entry), stamp)| {
                stamp.filter(|_| !all && entry.blob().is_none_or(|blob| !wrong.contains(&blob)))
            });
            *stamps = Arc::new(kept.collect());
        }
    }

    /// Begins to take bytes of a held release that were lost and asked for, as the sender plans it.
    ///
    /// # Errors
    /// When it is not held, or there is no room.
    pub fn begin_mending(
        &mut self,
        id: ReleaseId,
        base: Option<ReleaseId>,
    ) -> Result<Staging, StageError> {
        let held = self.held.get(&id).cloned();
        let held = held.ok_or(StageError::UnknownBase(id))?;
        self.discard_unfinished(Some(id))?;
        let mut staging = self.open_staging(held, base)?;
        staging.mends = true;
        match staging.check_space() {
            Ok(()) => Ok(staging),
            Err(error) => {
                staging.abandon();
                Err(error)
            }
        }
    }
}

impl Staging {
    /// Puts what was received wherever a held release has something else in its place.
    pub(super) fn finish_mending(&mut self, root: &Root) -> Result<ReleaseId, StageError> {
        let blobs = self.resent().clone();
        let missing: Vec<BlobId> = blobs.iter().filter(|b| !self.has(**b)).copied().collect();
        if !missing.is_empty() {
            self.ask_for(&missing);
            return Err(StageError::Missing(missing));
        }
        let received = self.received()?;
        let good: Good<'_> = blobs
            .iter()
            .map(|blob| (*blob, (&received, blob.to_string())))
            .collect();
        let landed = root.landed()?;
        Mender::new(&self.places, &landed, &good).all(root.held.values());
        self.abandon();
        Ok(self.release().id())
    }
}

impl Restore {
    /// Puts back what was found in a release; nothing where it was stopped.
    ///
    /// # Errors
    /// When the disk fails; what was put back by then is.
    pub fn run(
        &self,
        look: &Look,
        found: &Found,
        pace: &mut Pace,
    ) -> Result<Option<Restored>, DirError> {
        let mut restored = Restored::default();
        let Some(held) = self.held.iter().find(|held| held.id() == look.release()) else {
            return Ok(Some(restored));
        };
        let dir = match self.places.releases.open_dir(&held.dir_name()) {
            Ok(dir) => dir,
            Err(error) => {
                super::check::no_file::<()>(error)?;
                restored.failed = found.drift.iter().map(|d| (d.clone(), None)).collect();
                return Ok(Some(restored));
            }
        };
        // What stands in the way goes first.
        let (foreign, known): (Vec<&Drift>, Vec<&Drift>) = found
            .drift
            .iter()
            .partition(|d| d.kind == DriftKind::Foreign);
        let mut errors: Vec<(&Drift, DirError)> = Vec::new();
        for drift in foreign {
            if let Err(error) = self.discard(&dir, &drift.path) {
                errors.push((drift, error));
            }
        }
        let mut blobs = BTreeSet::new();
        for drift in known {
            match blob_at(held, &drift.path) {
                Some(blob) => {
                    blobs.insert(blob);
                }
                None => {
                    if let Err(error) = self.remake(&dir, held, &drift.path) {
                        errors.push((drift, error));
                    }
                }
            }
        }
        let Some(lacking) = self.files(blobs, pace)? else {
            return Ok(None);
        };
        restored.lacking = lacking;
        for drift in &found.drift {
            let Some((_, left)) = look.at(at(&drift.path), pace)? else {
                return Ok(None);
            };
            if !left.drift.iter().any(|left| left.path == drift.path) {
                restored.done.push(drift.clone());
                continue;
            }
            let said = errors.iter().position(|(of, _)| *of == drift);
            let error = said.map(|index| errors.swap_remove(index).1);
            let asked = blob_at(held, &drift.path).is_some_and(|b| restored.lacking.contains(&b));
            if !asked || error.is_some() {
                restored.failed.push((drift.clone(), error));
            }
        }
        Ok(Some(restored))
    }

    /// Moves what is foreign into the trash.
    fn discard(&self, dir: &Dir, path: &str) -> Result<(), DirError> {
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (dir.open_dir(parent)?, name),
            None => (dir.try_clone()?, path),
        };
        if path == MARKER {
            return Ok(());
        }
        self.places.discard(&parent, name)
    }

    /// Makes a link or a directory what it was.
    fn remake(&self, dir: &Dir, held: &Held, path: &str) -> Result<(), DirError> {
        let path = at(path);
        let entry = path.parse::<RelPath>().ok();
        match entry.and_then(|path| held.manifest().entry(&path).cloned()) {
            Some(Entry::Symlink { target }) => {
                let (parent, name) = match path.rsplit_once('/') {
                    Some((parent, name)) => (dir.ensure_dir(parent, DIR_MODE)?, name),
                    None => (dir.try_clone()?, path),
                };
                let to = Spot { dir: &parent, name };
                relink(&self.places, to, target.as_str())
            }
            Some(Entry::Dir) => {
                let there = dir.stat(path)?;
                if there.is_some_and(|stat| stat.kind != Kind::Dir) {
                    self.discard(dir, path)?;
                }
                dir.ensure_dir(path, DIR_MODE)?.set_mode_self(DIR_MODE)
            }
            Some(Entry::File { .. }) => Ok(()),
            None if path.is_empty() => dir.set_mode_self(DIR_MODE),
            None => dir.open_dir(path)?.set_mode_self(DIR_MODE),
        }
    }

    /// Replaces wrong files in every held release. Returns the blobs that none has any more; nothing
    /// where it was stopped.
    fn files(
        &self,
        blobs: BTreeSet<BlobId>,
        pace: &mut Pace,
    ) -> Result<Option<BTreeSet<BlobId>>, DirError> {
        let mut lacking = blobs;
        if lacking.is_empty() {
            return Ok(Some(lacking));
        }
        let mut dirs = Vec::new();
        for held in &self.held {
            match self.places.releases.open_dir(&held.dir_name()) {
                Ok(dir) => dirs.push((held, dir)),
                Err(error) => {
                    super::check::no_file::<()>(error)?;
                }
            }
        }
        let mut good = Good::new();
        let mut seen = Seen::default();
        for (held, dir) in &dirs {
            for (path, entry) in held.manifest().entries() {
                let Some(blob) = entry.blob().filter(|blob| lacking.contains(blob)) else {
                    continue;
                };
                let stat = match dir.stat(path.as_str()) {
                    Ok(stat) => stat.filter(|stat| stat.kind == Kind::File),
                    Err(error) => super::check::no_file(error)?,
                };
                let Some(stat) = stat.filter(|stat| stat.size == entry.size()) else {
                    continue;
                };
                match holds(dir, path.as_str(), (blob, &stat), (&mut *pace, &mut seen))? {
                    Some(true) => {
                        good.insert(blob, (dir, path.as_str().to_owned()));
                        lacking.remove(&blob);
                    }
                    Some(false) => {}
                    None => return Ok(None),
                }
            }
        }
        if !good.is_empty() {
            Mender::new(&self.places, &self.landed, &good).all(self.held.iter());
        }
        Ok(Some(lacking))
    }
}

/// Returns the bytes that are to stand at a path, where those of a file are.
fn blob_at(held: &Held, path: &str) -> Option<BlobId> {
    held.manifest().entry(&path.parse().ok()?)?.blob()
}

/// Returns the path that a look takes: none for the release's own directory.
fn at(path: &str) -> &str {
    if path == super::drift::TOP { "" } else { path }
}
