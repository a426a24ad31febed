//! Building a release's tree: into an empty directory, or into a spare that holds the base's tree
//! already, of which then only the differences are touched.

use std::collections::BTreeSet;

use codevol_protocol::delta::{Plan, Step};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError};
use codevol_store::together::{TOGETHER_MAX, Together};

use super::check::no_file;
use super::cursor::Cursor;
use super::held::Held;
use super::incoming::Incoming;
use super::land::{Landed, Spot, mode};
use super::places::Places;

/// A tree that is being built.
#[derive(Debug)]
pub(super) struct Fill<'a> {
    pub(super) places: &'a Places,
    pub(super) plan: &'a Plan,
    pub(super) next: &'a Manifest,
    /// The base and its directory.
    pub(super) base: Option<(&'a Held, &'a Dir)>,
    pub(super) landed: &'a Landed,
    pub(super) tree: &'a Dir,
    /// Whether the tree is the base's already.
    pub(super) is_spare: bool,
}

/// What a fill touched, while it is little.
#[derive(Debug, Default)]
pub(super) struct Touched {
    files: BTreeSet<RelPath>,
    /// Below the tree's own root.
    dirs: BTreeSet<RelPath>,
}

impl Fill<'_> {
    /// Makes the tree what the manifest says.
    pub(super) fn run(&self, incoming: &mut Incoming) -> Result<Touched, DirError> {
        let mut touched = Touched::default();
        if let Some((base, _)) = self.base.filter(|_| self.is_spare) {
            self.remove_differences(base.manifest(), &mut touched)?;
        }
        let mut to = Cursor::new(self.tree);
        let mut from = self.base.map(|(_, dir)| Cursor::new(dir));
        for (step, (path, entry)) in self.plan.steps().iter().zip(self.next.entries()) {
            if self.is_spare && self.stands(step, path, entry) {
                continue;
            }
            self.places.step()?;
            touched.note(path, entry);
            self.place(step, (path, entry), (&mut to, from.as_mut()), incoming)?;
        }
        Ok(touched)
    }

    /// Whether a spare holds the entry as it must be.
    fn stands(&self, step: &Step, path: &RelPath, entry: &Entry) -> bool {
        match step {
            Step::Keep => true,
            Step::Symlink | Step::Dir => self
                .base
                .is_some_and(|(base, _)| base.manifest().entry(path) == Some(entry)),
            Step::Local { .. } | Step::Again { .. } | Step::Receive { .. } => false,
        }
    }

    fn place(
        &self,
        step: &Step,
        (path, entry): (&RelPath, &Entry),
        (to, from): (&mut Cursor<'_>, Option<&mut Cursor<'_>>),
        incoming: &mut Incoming,
    ) -> Result<(), DirError> {
        if let (Step::Dir, Entry::Dir) = (step, entry) {
            return self.tree.ensure_dir(path.as_str(), 0o755).map(drop);
        }
        let (dir, name) = to.make(path)?;
        let spot = Spot { dir, name };
        match (step, entry) {
            (_, Entry::Symlink { target }) => dir.symlink(target.as_str(), name),
            (Step::Keep, _) => self.bring(from, path, spot, (path, entry)),
            (Step::Local { from: held }, _) => self.bring(from, held, spot, (path, entry)),
            (Step::Again { entry: index }, _) => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                let Some((first, _)) = self.next.entries().get(index) else {
                    return Ok(());
                };
                let mut here = Cursor::new(self.tree);
                self.bring(Some(&mut here), first, spot, (path, entry))
            }
            (Step::Receive { .. }, Entry::File { blob, .. }) => {
                incoming.place(*blob, dir, name)?;
                let file = dir.open_file(name)?;
                self.landed.settle(&file, path, mode(entry))
            }
            (Step::Receive { .. } | Step::Symlink | Step::Dir, _) => Ok(()),
        }
    }

    fn bring(
        &self,
        from: Option<&mut Cursor<'_>>,
        held: &RelPath,
        to: Spot<'_>,
        (path, entry): (&RelPath, &Entry),
    ) -> Result<(), DirError> {
        let Some(from) = from else { return Ok(()) };
        let (dir, name) = from.seek(held)?;
        let how = (mode(entry), held != path);
        self.landed.bring(Spot { dir, name }, to, path, how)
    }

    /// Removes from a spare what the new tree has not, or has otherwise.
    fn remove_differences(&self, old: &Manifest, touched: &mut Touched) -> Result<(), DirError> {
        let mut new = self.next.entries().iter().peekable();
        let mut left: BTreeSet<RelPath> = BTreeSet::new();
        for (path, entry) in old.entries() {
            while new.next_if(|(before, _)| before < path).is_some() {}
            if new.peek().is_some_and(|(p, e)| p == path && e == entry) {
                continue;
            }
            self.places.step()?;
            self.tree.remove_tree(path.as_str())?;
            touched.note(path, &Entry::Dir);
            left.extend(self.abandoned(path));
        }
        for dir in left {
            self.tree.remove_tree(dir.as_str())?;
            touched.note(&dir, &Entry::Dir);
        }
        Ok(())
    }

    /// Returns the highest directory above a path that the new tree has no use for.
    fn abandoned(&self, path: &RelPath) -> Option<RelPath> {
        let above = std::iter::successors(path.parent(), RelPath::parent);
        above.take_while(|dir| !self.has_dir(dir)).last()
    }

    fn has_dir(&self, dir: &RelPath) -> bool {
        let entries = self.next.entries();
        let first = entries.partition_point(|(path, _)| path < dir);
        entries.get(first).is_some_and(|(path, entry)| {
            path.is_below(dir) || (path == dir && *entry == Entry::Dir)
        })
    }
}

impl Touched {
    fn note(&mut self, path: &RelPath, entry: &Entry) {
        if self.is_many() {
            return;
        }
        if entry.blob().is_some() {
            self.files.insert(path.clone());
        }
        // A directory above may be new as well, and its name stands in the one above it.
        self.dirs
            .extend(std::iter::successors(path.parent(), RelPath::parent));
    }

    /// Whether the whole file system is better made durable than each path.
    pub(super) fn is_many(&self) -> bool {
        self.dirs.len() + self.files.len() > TOGETHER_MAX
    }

    /// Adds what was touched, and the tree's root, to what is to be made durable.
    pub(super) fn add_to(&self, together: &mut Together, tree: &Dir) -> Result<(), DirError> {
        for path in &self.files {
            together.add_file(tree, path.as_str())?;
        }
        for path in &self.dirs {
            match tree.open_dir(path.as_str()) {
                Ok(dir) => together.add(path.as_str(), dir),
                // Noted when something in it was removed, and itself gone since.
                Err(error) => {
                    no_file::<()>(error)?;
                }
            }
        }
        together.add_dir("tree", tree)
    }
}
