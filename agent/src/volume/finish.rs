//! From received bytes to a release with a name: check, build, name. A release directory is whole, or it
//! is not there. What has its name is then made durable, while the source already hears of it: whoever
//! activates it waits for that.

use std::collections::BTreeSet;

use codevol_protocol::delta::Step;
use codevol_protocol::id::BlobId;
use codevol_store::dir::{Dir, DirError};

use super::cursor::Cursor;
use super::fill::{Fill, Touched};
use super::land::Landed;
use super::marker;
use super::named::{Named, Naming};
use super::spare::Spare;
use super::stage::{StageError, Staging};
use super::{Root, mend};

const TREE: &str = "tree";

impl Staging {
    /// Builds the release and gives it its name. It is held then, and still to be made durable.
    ///
    /// # Errors
    /// [`StageError::Missing`] where blobs must be sent whole: write them and finish again. Any
    /// other error ends this staging, and what it held is removed.
    pub fn finish(&mut self, root: &mut Root) -> Result<Named, StageError> {
        let finished = self.try_finish(root);
        if let Err(error) = &finished
            && !matches!(error, StageError::Missing(_))
        {
            self.abandon();
        }
        finished
    }

    fn try_finish(&mut self, root: &mut Root) -> Result<Named, StageError> {
        if self.mends {
            return Ok(Named::durable(self.finish_mending(root)?));
        }
        let mut missing = self.not_received();
        let spare = if missing.is_empty() {
            root.take_spare(self)
        } else {
            None
        };
        missing.extend(self.damaged(spare.is_some())?);
        if !missing.is_empty() {
            let blobs: Vec<BlobId> = missing.into_iter().collect();
            self.ask_for(&blobs);
            return Err(StageError::Missing(blobs));
        }
        let landed = root.landed()?;
        let (tree, touched) = self.build(spare.is_some(), &landed)?;
        self.places.step()?;
        marker::write(&tree, &self.next, &self.places.blanks)?;
        self.places.step()?;
        let (releases, name) = (&self.places.releases, self.next.dir_name());
        self.dir.rename_noreplace(TREE, releases, &name)?;
        let id = self.next.id();
        root.held.insert(id, self.next.clone());
        if let Some(spare) = spare {
            root.stamps
                .insert(id, spare.carried(&self.plan, self.next.manifest()));
        }
        if !self.resent().is_empty() {
            mend::mend(root, self, &landed);
        }
        Ok(root.named(Naming {
            places: self.places.clone(),
            held: self.next.clone(),
            tree,
            touched,
        }))
    }

    fn not_received(&self) -> BTreeSet<BlobId> {
        let steps = self.plan.steps().iter().zip(self.next.manifest().entries());
        steps
            .filter(|(step, _)| matches!(step, Step::Receive { .. }))
            .filter_map(|(_, (_, entry))| entry.blob())
            .filter(|blob| !self.incoming.has(*blob))
            .collect()
    }

    /// Checks what is to come out of the base. What stands in the spare was compared before.
    fn damaged(&mut self, has_spare: bool) -> Result<BTreeSet<BlobId>, DirError> {
        let mut damaged = BTreeSet::new();
        let Some(base) = &mut self.base else {
            return Ok(damaged);
        };
        let dir = base.dir.try_clone()?;
        let mut cursor = Cursor::new(&dir);
        let steps = self.plan.steps().iter().zip(self.next.manifest().entries());
        for (step, (path, entry)) in steps {
            let from = match step {
                Step::Keep if !has_spare => path,
                Step::Local { from } => from,
                Step::Keep
                | Step::Again { .. }
                | Step::Receive { .. }
                | Step::Symlink
                | Step::Dir => continue,
            };
            if !base.is_good(&mut cursor, from)? {
                damaged.extend(entry.blob());
            }
        }
        Ok(damaged)
    }

    fn build(&mut self, is_spare: bool, landed: &Landed) -> Result<(Dir, Touched), DirError> {
        let places = &self.places;
        places.discard(&self.dir, TREE)?;
        if is_spare {
            Spare::rename(places, &self.dir, TREE)?;
        }
        let tree = self.dir.ensure_dir(TREE, 0o755)?;
        let fill = Fill {
            places,
            plan: &self.plan,
            next: self.next.manifest(),
            base: self.base.as_ref().map(|base| (&*base.held, &base.dir)),
            landed,
            tree: &tree,
            is_spare,
        };
        let touched = fill.run(&mut self.incoming)?;
        Ok((tree, touched))
    }
}
