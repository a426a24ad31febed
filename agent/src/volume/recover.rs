//! What stands after a crash, and making it whole: reads `current`, `releases/`, the recovery record
//! and incoming, in this order of belief.

use std::collections::BTreeMap;
use std::sync::Arc;

use codevol_protocol::delta::Position;
use codevol_protocol::id::ReleaseId;
use codevol_store::dir::{DirError, Kind};

use super::activate::NEXT_LINK;
use super::held::Held;
use super::places::{NEXT, Places, SPARE};
use super::{Root, current_name, drift, marker, seq_of};

/// What was found when a root was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// A release that had been on its way, and the first place of its plan that is not here.
    pub partial: Option<(ReleaseId, Position)>,
    /// An activation that had been cut short before the flip: it did not happen.
    pub undone: Option<ReleaseId>,
    /// `current` named nothing, before a first flip or because it was lost; it names this now.
    pub restored: Option<ReleaseId>,
    /// `current` names a directory that this agent has no record of.
    pub unknown_current: Option<String>,
}

/// Reads the records of those releases that stand on the disk.
pub(super) fn held(places: &Places) -> Result<BTreeMap<ReleaseId, Arc<Held>>, DirError> {
    let mut held: BTreeMap<ReleaseId, Arc<Held>> = BTreeMap::new();
    for (name, _) in places.records.entries()? {
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let like = held.values().next().map(|held| &**held);
        let Some(release) = Held::read(&places.records, id, like)? else {
            continue;
        };
        let stat = places.releases.stat(&release.dir_name())?;
        if stat.is_some_and(|stat| stat.kind == Kind::Dir) {
            held.insert(id, release);
        }
    }
    Ok(held)
}

impl Root {
    /// Puts everything in order. Safe to run twice.
    pub(super) fn recover(&mut self) -> Result<Recovered, DirError> {
        let mut recovered = Recovered::default();
        self.look_at_unproven()?;
        self.places.own.remove_file(NEXT_LINK)?;
        self.empty_mending()?;
        self.recover_current(&mut recovered)?;
        // A spare is worth nothing without the stats that were recorded when it was made.
        self.places.discard(&self.places.incoming, SPARE)?;
        let partial = self.newest_partial()?;
        self.discard_unfinished(partial.as_ref().map(|held| held.id()))?;
        self.remove_records()?;
        if let Some(partial) = partial {
            let (id, base) = (partial.id(), partial.base());
            match self.open_staging(partial, base) {
                Ok(staging) => recovered.partial = Some((id, staging.position())),
                Err(error) => {
                    tracing::warn!(release = %id, error = %error, "partial release dropped");
                    self.places.abandon(id);
                }
            }
        }
        self.places.empty_trash()?;
        Ok(recovered)
    }

    /// A release has its name before it is durable. One that was activated was durable before; of the
    /// others those stay that are whole, and these are made durable: from here on they may be activated.
    fn look_at_unproven(&mut self) -> Result<(), DirError> {
        let current = current_name(&self.places)?;
        let record = self.record.get();
        let unproven = self.held.values().filter(|held| !record.proves(held.id()));
        let unproven: Vec<Arc<Held>> = unproven.cloned().collect();
        for held in &unproven {
            let (id, name) = (held.id(), held.dir_name());
            let dir = self.places.releases.open_dir(&name)?;
            let is_whole = marker::stands(&dir, held)? && drift::holds_all(&dir, held.manifest())?;
            // What `current` names is run already: it is not taken away.
            if is_whole || current.as_ref() == Some(&name) {
                continue;
            }
            tracing::warn!(
                release = %id.short(),
                "a release that was staged is not whole after a crash: dropped, and received anew when it is wanted"
            );
            self.places.discard(&self.places.releases, &name)?;
            self.places.records.remove_file(&id.to_string())?;
            self.held.remove(&id);
        }
        if !unproven.is_empty() {
            self.places.root.sync_filesystem()?;
        }
        self.places.releases.sync()?;
        self.places.records.sync()
    }

    /// Removes files that had not yet taken the place of a wrong one.
    fn empty_mending(&self) -> Result<(), DirError> {
        for (name, _) in self.places.mending.entries()? {
            if let Some(name) = name.to_str() {
                self.places.mending.remove_tree(name)?;
            }
        }
        Ok(())
    }

    fn recover_current(&mut self, recovered: &mut Recovered) -> Result<(), DirError> {
        let current = current_name(&self.places)?;
        let mut held = self.held.values();
        self.active = current
            .as_ref()
            .and_then(|name| held.find(|held| held.dir_name() == *name))
            .map(|held| held.id());
        let intend = self.record.get().intend;
        if self.active.is_none() && current.is_some() {
            self.unknown = current.as_deref().and_then(seq_of);
            recovered.unknown_current = current;
        } else if self.active.is_none() {
            // A rename leaves no gap, but a file system after a crash may.
            let last = [intend, self.record.get().was].into_iter().flatten();
            if let Some(held) = last.filter_map(|id| self.held.get(&id)).next() {
                let (id, name) = (held.id(), held.dir_name());
                self.flip(id, &name)?;
                recovered.restored = Some(id);
            }
        }
        if self.active != intend {
            recovered.undone = intend;
        }
        // The link may be newer than what the disk has of it.
        self.places.root.sync()
    }

    /// Returns the newest release of which the staging was cut short.
    fn newest_partial(&self) -> Result<Option<Arc<Held>>, DirError> {
        let mut newest: Option<Arc<Held>> = None;
        for (name, _) in self.places.incoming.entries()? {
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let partial = Held::read(&self.places.records, id, None)?;
            let Some(partial) = partial.filter(|_| !self.held.contains_key(&id)) else {
                continue;
            };
            let seq = partial.release().seq;
            if newest.as_ref().is_none_or(|n| n.release().seq < seq) {
                newest = Some(partial);
            }
        }
        Ok(newest)
    }

    /// Discards all that lies in incoming, but this release and the spare.
    pub(super) fn discard_unfinished(&self, but: Option<ReleaseId>) -> Result<(), DirError> {
        let but = but.map(|id| id.to_string());
        for (name, _) in self.places.incoming.entries()? {
            let Some(name) = name.to_str() else { continue };
            if name == SPARE || name == NEXT || but.as_deref() == Some(name) {
                continue;
            }
            self.places.discard(&self.places.incoming, name)?;
            let is_held = name.parse().is_ok_and(|id| self.held.contains_key(&id));
            if !is_held {
                self.places.records.remove_file(name)?;
            }
        }
        Ok(())
    }

    /// Removes the records of what is neither held nor on its way.
    fn remove_records(&self) -> Result<(), DirError> {
        for (name, _) in self.places.records.entries()? {
            let Some(name) = name.to_str() else { continue };
            let is_held = name.parse().is_ok_and(|id| self.held.contains_key(&id));
            if !is_held && self.places.incoming.stat(name)?.is_none() {
                self.places.records.remove_file(name)?;
            }
        }
        Ok(())
    }
}
