//! Drift: what on the disk is not what the release says. A look needs no [`Root`]: it goes on in the
//! background while releases come and go, and reads every byte, whatever the file system says of it.

mod compare;

use std::collections::HashMap;
use std::sync::Arc;

use codevol_protocol::diff::Shape;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Seq;
pub use codevol_protocol::status::DriftKind;
use codevol_store::dir::{Dir, DirError, Kind};

use self::compare::Looking;
pub(super) use self::compare::{holds, holds_all, matches};
use super::Root;
use super::check::no_file;
use super::held::Held;
use super::pace::Pace;
use super::places::Places;
use super::rules::Rules;
use super::spare::directories;

/// How much drift is kept of one release; more than that is counted.
const DRIFT_MAX: usize = 1_000;
/// How many inodes are remembered as good.
const SEEN_MAX: usize = 200_000;
/// What a release's own directory is called in what is said of it.
pub(super) const TOP: &str = ".";
pub(super) const DIR_MODE: u32 = 0o755;

/// One path that is not as the release says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The path, as text: a foreign name need not be a path of a tree. `.` is the release itself.
    pub path: String,
    /// How it differs.
    pub kind: DriftKind,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The paths, sorted.
    pub drift: Vec<Drift>,
    /// How many more there are.
    pub more: u64,
}

impl Found {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.drift.is_empty() && self.more == 0
    }

    fn push(&mut self, path: impl Into<String>, kind: DriftKind) {
        if self.drift.len() < DRIFT_MAX {
            let path = path.into();
            self.drift.push(Drift { path, kind });
        } else {
            self.more += 1;
        }
    }

    fn sorted(mut self) -> Self {
        self.drift.sort();
        self
    }
}

/// What stands at a path: nothing where nothing does, or nothing that a tree can have; and a file's
/// bytes, where they are few enough.
pub type Stands = (Option<Shape>, Option<Vec<u8>>);

/// Inodes whose bytes were found good in this round: releases share them.
#[derive(Debug, Default)]
pub struct Seen(HashMap<(u64, u64), BlobId>);

/// A release that is to be looked at.
#[derive(Debug, Clone)]
pub struct Look {
    places: Arc<Places>,
    held: Arc<Held>,
    rules: Option<Arc<Rules>>,
}

impl Root {
    /// Returns the work of comparing a held release with what stands on the disk; nothing where it is
    /// not held.
    #[must_use]
    pub fn look(&mut self, id: ReleaseId) -> Option<Look> {
        let held = Arc::clone(self.held.get(&id)?);
        Some(Look {
            places: Arc::clone(&self.places),
            rules: self.rules_of(&held),
            held,
        })
    }
}

impl Look {
    /// Returns the release.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.held.id()
    }

    /// Returns its place in the history.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.held.release().seq
    }

    /// Returns the name of its directory.
    #[must_use]
    pub fn dir_name(&self) -> String {
        self.held.dir_name()
    }

    /// Returns how many files it has.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.held.manifest().files() as u64
    }

    /// Returns every directory of its tree but the root.
    #[must_use]
    pub fn directories(&self) -> Vec<RelPath> {
        directories(self.held.manifest())
    }

    /// Compares all of it, re-hashing every file but those whose inode was seen to be good; nothing
    /// where it was stopped.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn whole(&self, pace: &mut Pace, seen: &mut Seen) -> Result<Option<Found>, DirError> {
        let Some(dir) = self.open()? else {
            return Ok(Some(gone()));
        };
        let looking = Looking::new(&dir, self.held.manifest(), self.rules.as_deref());
        looking.below("", pace, seen)
    }

    /// Compares one path and what is below it. Returns which path could be judged: it, or one that it
    /// lies in; and what was found there. Nothing where it was stopped.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn at(&self, path: &str, pace: &mut Pace) -> Result<Option<(String, Found)>, DirError> {
        let Some(dir) = self.open()? else {
            return Ok(Some((String::new(), gone())));
        };
        let looking = Looking::new(&dir, self.held.manifest(), self.rules.as_deref());
        let top = looking.judged(path)?;
        let found = looking.below(top, pace, &mut Seen::default())?;
        Ok(found.map(|found| (top.to_owned(), found)))
    }

    /// Returns what stands at a path: what it is, and a file's bytes where they are at most so many.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn content(&self, path: &str, bytes_max: u64) -> Result<Stands, DirError> {
        let Some(dir) = self.open()? else {
            return Ok((None, None));
        };
        let stat = match dir.stat(path) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok((None, None)),
            Err(error) => return Ok((no_file(error)?, None)),
        };
        let (kind, target) = match stat.kind {
            Kind::File => ("file", None),
            Kind::Dir => ("dir", None),
            Kind::Symlink => ("symlink", Some(Text::cut(dir.read_link(path)?))),
            Kind::Other => return Ok((None, None)),
        };
        let is_file = stat.kind == Kind::File;
        let shape = Shape {
            kind: Text::cut(kind),
            bytes: is_file.then_some(stat.size),
            executable: is_file.then_some(stat.mode & 0o111 != 0),
            target,
        };
        let short = is_file && stat.size <= bytes_max;
        let bytes = short.then(|| dir.read(path, bytes_max)).transpose();
        // Grown, gone or closed meanwhile: its shape says enough.
        Ok((Some(shape), bytes.unwrap_or_default()))
    }

    fn open(&self) -> Result<Option<Dir>, DirError> {
        match self.places.releases.open_dir(&self.held.dir_name()) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) => no_file(error),
        }
    }
}

/// The release's directory is not there, or something else is.
fn gone() -> Found {
    let mut found = Found::default();
    found.push(TOP, DriftKind::Missing);
    found
}
