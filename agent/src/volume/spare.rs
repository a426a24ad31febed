//! The spare: the live release's tree once more, prepared in the background, so that staging the
//! next release touches only what changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::delta::{Plan, Step, plan};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Stat};

use super::Root;
use super::check::{Stamp, Stamps, file_stat};
use super::cursor::Cursor;
use super::fill::Fill;
use super::held::Held;
use super::incoming::Incoming;
use super::land::Landed;
use super::places::{Places, SPARE};
use super::stage::{Base, Staging};

/// How long a look at the spare counts: while a tree settles and its release comes. It is no guard
/// against somebody who writes to a release's files at any moment: nothing but another uid is.
const LOOK_LASTS: Duration = Duration::from_millis(200);

/// A spare that is to be built. It needs no [`Root`]: build it in the background, one at a time.
#[derive(Debug)]
pub struct SpareJob {
    pub(super) places: Arc<Places>,
    pub(super) base: Base,
}

/// A tree that equals the release's, and what the file system said about it.
#[derive(Debug)]
pub struct Spare {
    of: Arc<Held>,
    files: Stamps,
    /// Each directory as it was left: a name that comes or goes shows in its times.
    dirs: Vec<(Option<RelPath>, Stamp)>,
    /// When it was last found untouched.
    looked: Option<Instant>,
}

impl Root {
    /// Returns the work of preparing a spare for the active release; nothing where there is one.
    ///
    /// # Errors
    /// When the release cannot be opened.
    pub fn prepare_spare(&mut self) -> Result<Option<SpareJob>, DirError> {
        let Some(active) = self.active() else {
            return Ok(None);
        };
        if self.spare.as_ref().is_some_and(|s| s.of.id() == active) {
            return Ok(None);
        }
        // The job builds where the old one stands.
        self.spare = None;
        Ok(self.open_base(active)?.map(|base| SpareJob {
            places: Arc::clone(&self.places),
            base,
        }))
    }

    /// Takes a spare that was built.
    pub fn keep_spare(&mut self, spare: Spare) {
        self.stamps
            .insert(spare.of.id(), Arc::new(spare.files.clone()));
        self.spare = Some(spare);
    }

    /// Hands out the spare where it is the base's tree and untouched.
    pub(super) fn take_spare(&mut self, staging: &Staging) -> Option<Spare> {
        let base = staging.base.as_ref().map(|base| base.held.id());
        if !staging.resent().is_empty() || self.spare.as_ref().map(|spare| spare.of.id()) != base {
            return None;
        }
        let is_fresh = |looked: Instant| looked.elapsed() <= LOOK_LASTS;
        if !self.spare.as_ref()?.looked.is_some_and(is_fresh) {
            self.look_at_spare();
        }
        self.spare.take()
    }

    /// Finds out whether the spare was touched. One that was, or that cannot even be read, is dropped.
    pub fn look_at_spare(&mut self) {
        let spare = self.spare.take();
        let intact = spare.filter(|spare| matches!(spare.is_intact(&self.places), Ok(true)));
        self.spare = intact.map(|spare| Spare {
            looked: Some(Instant::now()),
            ..spare
        });
    }
}

impl SpareJob {
    /// Builds the spare; nothing where the release is damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn build(mut self) -> Result<Option<Spare>, DirError> {
        self.places.discard(&self.places.incoming, SPARE)?;
        let tree = self.places.incoming.ensure_dir(SPARE, 0o755)?;
        let held = Arc::clone(&self.base.held);
        let fill = Fill {
            places: &self.places,
            plan: &plan(Some(held.manifest()), held.manifest()),
            next: held.manifest(),
            base: Some((&held, &self.base.dir)),
            landed: &Landed::new(Vec::new()),
            tree: &tree,
            is_spare: false,
        };
        fill.run(&mut Incoming::none(tree.try_clone()?))?;
        self.places.step()?;
        self.places.prepare()?;
        self.places.step()?;
        tree.sync_filesystem()?;
        self.take_stock(held, &tree)
    }

    /// Re-hashes every file and records what the file system says about it. Only now, since our own
    /// links change that: from here on whatever touches a file is seen. Nothing where one is damaged,
    /// or is touched meanwhile.
    fn take_stock(&mut self, of: Arc<Held>, tree: &Dir) -> Result<Option<Spare>, DirError> {
        let mut files = Stamps::new();
        let mut cursor = Cursor::new(tree);
        let held_dir = self.base.dir.try_clone()?;
        let mut held = Cursor::new(&held_dir);
        for (path, entry) in of.manifest().entries() {
            let (dir, name) = cursor.seek(path)?;
            let before = file_stat(dir, name)?.as_ref().map(Stamp::of);
            if entry.blob().is_some() && !self.base.is_good(&mut held, path)? {
                return Ok(None);
            }
            let after = file_stat(dir, name)?.as_ref().map(Stamp::of);
            if before != after {
                return Ok(None);
            }
            files.push(after);
        }
        let mut dirs = vec![(None, Stamp::of(&tree.stat_self()?))];
        for path in directories(of.manifest()) {
            if let Some(stat) = tree.stat(path.as_str())? {
                dirs.push((Some(path), Stamp::of(&stat)));
            }
        }
        let looked = None;
        Ok(Some(Spare {
            of,
            files,
            dirs,
            looked,
        }))
    }
}

impl Spare {
    /// Whether nothing says that the spare was touched since.
    fn is_intact(&self, places: &Places) -> Result<bool, DirError> {
        let tree = places.incoming.open_dir(SPARE)?;
        for (path, stamp) in &self.dirs {
            let stat = match path {
                Some(path) => tree.stat(path.as_str())?,
                None => Some(tree.stat_self()?),
            };
            if stat.as_ref().map(Stamp::of) != Some(*stamp) {
                return Ok(false);
            }
        }
        let mut cursor = Cursor::new(&tree);
        let entries = self.of.manifest().entries().iter();
        for ((path, _), stamp) in entries.zip(&self.files) {
            let Some(stamp) = stamp else { continue };
            let (dir, name) = cursor.seek(path)?;
            let stat: Option<Stat> = file_stat(dir, name)?;
            if !stat.is_some_and(|stat| stamp.is_of(&stat)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves the spare's tree to where a release is built.
    pub(super) fn rename(places: &Places, to: &Dir, name: &str) -> Result<(), DirError> {
        places.step()?;
        places.incoming.rename(SPARE, to, name)
    }

    /// Returns the stamps of those files that a new release has from this spare.
    pub(super) fn carried(&self, plan: &Plan, next: &Manifest) -> Arc<Stamps> {
        let old = self.of.manifest().entries().iter().zip(&self.files);
        let mut old = old.peekable();
        let steps = plan.steps().iter().zip(next.entries());
        let carried = steps.map(|(step, (path, _))| {
            while old.next_if(|((before, _), _)| before < path).is_some() {}
            let (_, stamp) = old.next_if(|((same, _), _)| same == path)?;
            stamp.filter(|_| *step == Step::Keep)
        });
        Arc::new(carried.collect())
    }
}

/// Returns every directory of a tree but its root.
pub(super) fn directories(manifest: &Manifest) -> Vec<RelPath> {
    let mut dirs: Vec<RelPath> = Vec::new();
    let mut last: Option<RelPath> = None;
    for (path, entry) in manifest.entries() {
        if *entry == codevol_protocol::manifest::Entry::Dir {
            dirs.push(path.clone());
        }
        let parent = path.parent();
        if parent == last {
            continue;
        }
        dirs.extend(std::iter::successors(parent.clone(), RelPath::parent));
        last = parent;
    }
    dirs.sort();
    dirs.dedup();
    dirs
}
