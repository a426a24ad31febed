//! Collecting what nobody needs any more: by itself when it is tidied, or for a person who asks.
//!
//! The processes of the host are looked at, and the room is weighed, while the root goes on being used.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codevol_protocol::chain::Chain;
use codevol_protocol::collection::{Collection, Named};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::FromAgent;
use codevol_protocol::name::VolumeName;
use codevol_store::dir::DirError;
use codevol_transport::Changes;
use tracing::{info, warn};

use super::now;
use crate::volume::{Held, Root, in_use_by_processes};

/// What a collection needs of its volume.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) root: Arc<Mutex<Root>>,
    pub(super) volume: VolumeName,
    /// Whom to tell that there is less.
    pub(super) changes: Changes,
    /// What is kept whatever its age.
    pub(super) wanted: BTreeSet<ReleaseId>,
}

impl Collector {
    /// Collects, and returns what is to be said of it.
    pub(super) fn run(mut self) -> Result<Option<FromAgent>, DirError> {
        let surplus = self.root().collectable(&self.wanted, now());
        self.wanted.extend(in_use_by_processes(&surplus));
        self.collect().map(|(_, said)| said)
    }

    /// Collects, or only looks, and tells all of it.
    pub(super) fn run_and_tell(
        mut self,
        dry_run: bool,
    ) -> Result<(Collection, Option<FromAgent>), DirError> {
        let mut collection = Collection::new(self.volume.clone(), dry_run);
        let surplus = self.root().collectable(&self.wanted, now());
        let mut in_use = in_use_by_processes(&surplus);
        for held in &surplus {
            if self.root().is_locked(held)? {
                in_use.insert(held.id());
            }
        }
        let is_used = |held: &Arc<Held>| in_use.contains(&held.id());
        let (used, free): (Vec<_>, Vec<_>) = surplus.into_iter().partition(is_used);
        collection.in_use = used.iter().map(named).collect();
        let trash = self.root().trash();
        collection.bytes = trash.weigh(&free)?;
        if dry_run {
            collection.set_releases(free.iter().map(named).collect());
            return Ok((collection, None));
        }
        self.wanted.extend(in_use);
        let (removed, said) = self.collect()?;
        let removed = free.iter().filter(|held| removed.contains(&held.id()));
        collection.set_releases(removed.map(named).collect());
        Ok((collection, said))
    }

    fn collect(&self) -> Result<(Vec<ReleaseId>, Option<FromAgent>), DirError> {
        let (collected, trash) = {
            let mut root = self.root();
            (root.collect(&self.wanted, now()), root.trash())
        };
        if let Err(cause) = trash.empty() {
            warn!(volume = %self.volume, error = %Chain(&cause), "cannot empty the trash");
        }
        let removed = collected?.removed;
        if removed.is_empty() {
            return Ok((removed, None));
        }
        self.changes.tell();
        info!(volume = %self.volume, releases = removed.len(), "releases collected");
        let said = FromAgent::Held {
            volume: self.volume.clone(),
            added: Vec::new(),
            removed: removed.clone(),
        };
        Ok((removed, Some(said)))
    }

    fn root(&self) -> MutexGuard<'_, Root> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(held: &Arc<Held>) -> Named {
    Named {
        release: held.release().seq,
        id: held.id(),
    }
}
