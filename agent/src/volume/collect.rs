//! Garbage collection: which releases are not needed any more, and their removal.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::release::UnixMillis;
use codevol_store::dir::{DirError, Kind};

use super::held::Held;
use super::lease::{self, Claim};
use super::places::{CURRENT, Places};
use super::{Root, current_name, seq_of};

/// A release that was live within this time may have runs that still need it, in milliseconds.
const RECENT_MS: u64 = 24 * 60 * 60 * 1_000;
/// But of those no more than the newest so many.
const RECENT_MAX: usize = 20;

/// What a collection did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What is no longer held.
    pub removed: Vec<ReleaseId>,
    /// What would have been removed, but is in use by some process.
    pub in_use: Vec<ReleaseId>,
}

/// What was collected and still takes room. It needs no [`Root`]: empty it in the background.
#[derive(Debug)]
pub struct Trash(pub(super) Arc<Places>);

impl Trash {
    /// Removes what was collected.
    ///
    /// # Errors
    /// When the trash cannot be listed; what cannot be removed stays for the next time.
    pub fn empty(&self) -> Result<(), DirError> {
        self.0.empty_trash()
    }
}

impl Root {
    /// Takes those releases out of sight that nobody needs; [`Trash::empty`] then frees the room.
    /// What the caller wants is kept, whatever its age.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn collect(
        &mut self,
        wanted: &BTreeSet<ReleaseId>,
        now: UnixMillis,
    ) -> Result<Collected, DirError> {
        let kept = self.kept(wanted, now);
        let mut collected = Collected::default();
        let all: Vec<ReleaseId> = self.held.keys().copied().collect();
        for id in all.into_iter().filter(|id| !kept.contains(id)) {
            if self.remove_release(id)? {
                collected.removed.push(id);
            } else {
                collected.in_use.push(id);
            }
        }
        self.remove_strays()?;
        self.places.releases.sync()?;
        Ok(collected)
    }

    /// Returns what [`Root::collect`] would remove, if nobody uses it, oldest first.
    #[must_use]
    pub fn collectable(&self, wanted: &BTreeSet<ReleaseId>, now: UnixMillis) -> Vec<Arc<Held>> {
        let kept = self.kept(wanted, now);
        let all = self.held.values();
        let mut surplus: Vec<_> = all
            .filter(|held| !kept.contains(&held.id()))
            .cloned()
            .collect();
        surplus.sort_by_key(|held| held.release().seq);
        surplus
    }

    /// Whether some process says by its lock that it uses a release.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn is_locked(&self, held: &Held) -> Result<bool, DirError> {
        Ok(matches!(self.claim(&held.dir_name())?, Claim::Used))
    }

    /// Returns the handle by which collected releases are removed.
    #[must_use]
    pub fn trash(&self) -> Trash {
        Trash(Arc::clone(&self.places))
    }

    fn kept(&self, wanted: &BTreeSet<ReleaseId>, now: UnixMillis) -> BTreeSet<ReleaseId> {
        let mut kept = wanted.clone();
        kept.extend(self.active);
        kept.extend(self.record.get().intend);
        kept.extend(self.record.get().was);
        let mut newest: Vec<(Reverse<_>, ReleaseId)> = self
            .held
            .values()
            .map(|held| (Reverse(held.release().seq), held.id()))
            .collect();
        newest.sort();
        // At least one: what was staged last is perhaps to be activated next.
        kept.extend(newest.iter().take(self.keep.max(1)).map(|(_, id)| *id));
        let since = now.0.saturating_sub(RECENT_MS);
        let activations = &self.record.get().activations;
        // Each was live until the next one came.
        let ends = activations.iter().skip(1).map(|(_, at)| *at);
        let recent: BTreeSet<ReleaseId> = activations
            .iter()
            .zip(ends.chain([now]))
            .filter(|(_, end)| end.0 >= since)
            .map(|((id, _), _)| *id)
            .collect();
        let recent = newest.iter().filter(|(_, id)| recent.contains(id));
        kept.extend(recent.take(RECENT_MAX).map(|(_, id)| *id));
        kept
    }

    /// Removes a release unless some process uses it.
    fn remove_release(&mut self, id: ReleaseId) -> Result<bool, DirError> {
        let Some(held) = self.held.get(&id) else {
            return Ok(true);
        };
        let name = held.dir_name();
        // Held until it is out of sight: who locks it after that sees that it is gone.
        let Claim::Free(_claim) = self.claim(&name)? else {
            return Ok(false);
        };
        self.places.discard(&self.places.releases, &name)?;
        self.places.step()?;
        self.held.remove(&id);
        self.stamps.remove(&id);
        self.places.records.remove_file(&id.to_string())?;
        Ok(true)
    }

    fn claim(&self, name: &str) -> Result<Claim, DirError> {
        match self.places.releases.open_dir(name) {
            Ok(dir) => lease::claim(&dir),
            Err(error) if error.is_not_found() => Ok(Claim::Free(None)),
            Err(DirError::WrongKind { .. } | DirError::NotBeneath { .. }) => Ok(Claim::Free(None)),
            Err(error) => Err(error),
        }
    }

    /// Removes directories that look like releases but have no record, unless `current` names them.
    fn remove_strays(&self) -> Result<(), DirError> {
        let held: BTreeSet<String> = self.held.values().map(|held| held.dir_name()).collect();
        let current = current_name(&self.places)?;
        for (name, kind) in self.places.releases.entries()? {
            let Some(name) = name.to_str() else { continue };
            let is_stray = kind == Kind::Dir
                && seq_of(name).is_some()
                && !held.contains(name)
                && current.as_deref() != Some(name);
            if is_stray && let Claim::Free(_claim) = self.claim(name)? {
                tracing::warn!(name, current = CURRENT, "release without a record removed");
                self.places.discard(&self.places.releases, name)?;
            }
        }
        Ok(())
    }
}
