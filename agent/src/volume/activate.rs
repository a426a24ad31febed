//! Activation: `current` is made to name another release, in one step, after the intent is durable.

use std::time::Instant;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::release::UnixMillis;
use codevol_store::dir::{DirError, Kind};
use codevol_store::state::StateError;

use super::Root;
use super::places::{CURRENT, RELEASES};

/// The new link, until it takes the place of the old one.
pub(super) const NEXT_LINK: &str = "current.next";

/// Why a release is not activated.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// This node does not hold it.
    #[error("release {0} is not held")]
    NotHeld(ReleaseId),
    /// It is not on the disk, or not yet.
    #[error("release {0} is not durable")]
    NotDurable(ReleaseId),
    /// Its directory is gone: somebody removed it.
    #[error("`releases/{0}` is gone")]
    Gone(String),
    /// `releases` is another directory than the one that was opened: it was moved or replaced.
    #[error("`releases` was replaced by something else")]
    Moved,
    /// The recovery record. Nothing was flipped.
    #[error("cannot write the recovery record")]
    Record(#[from] StateError),
    /// The disk. Where it is a failed sync, nobody knows what is on the disk: treat it as a crash.
    #[error("the disk failed")]
    Dir(#[from] DirError),
}

impl ActivateError {
    /// Whether the same may succeed when it is tried again, perhaps after its cause is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            // The intent is written again, and the link made again.
            Self::Record(StateError::Dir(error)) | Self::Dir(error) => error.errno().is_some(),
            Self::Record(_) => false,
            // It is sent once more.
            Self::NotDurable(_) | Self::NotHeld(_) => true,
            Self::Gone(_) | Self::Moved => false,
        }
    }
}

/// What an activation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activated {
    /// What was active before.
    pub was: Option<ReleaseId>,
    /// How long the flip itself took, in microseconds; nothing where the release was active already.
    pub flip_us: Option<u128>,
}

impl Root {
    /// Makes `current` name a held release. When it returns, that is on the disk.
    ///
    /// # Errors
    /// When the release is not there or the disk fails: then `current` names the old one or, where it
    /// cannot be put back, the new one, and [`Root::active`] says which.
    pub fn activate(&mut self, id: ReleaseId, now: UnixMillis) -> Result<Activated, ActivateError> {
        let held = self.held.get(&id).ok_or(ActivateError::NotHeld(id))?;
        let (dir_name, seq) = (held.dir_name(), held.release().seq);
        let was = self.active;
        if was == Some(id) {
            return Ok(Activated { was, flip_us: None });
        }
        if !self.is_durable(id) {
            return Err(ActivateError::NotDurable(id));
        }
        let there = self.places.releases.stat(&dir_name)?;
        if there.is_none_or(|stat| stat.kind != Kind::Dir) {
            return Err(ActivateError::Gone(dir_name));
        }
        if !self.places.is_in_place()? {
            return Err(ActivateError::Moved);
        }
        self.places.step()?;
        let record = self.record.get().before((seq, id), was, now);
        self.record.replace(record)?;
        let flipped = self.flip(id, &dir_name);
        if flipped.is_err() {
            self.flip_back(was);
        }
        let flip_us = flipped?;
        Ok(Activated {
            was,
            flip_us: Some(flip_us),
        })
    }

    /// Undoes a flip of which nobody knows whether it is on the disk: nobody is told of it, so nobody
    /// would have the code server load what it names.
    fn flip_back(&mut self, was: Option<ReleaseId>) {
        let before = was.and_then(|was| self.held.get(&was));
        let Some((was, dir_name)) = before.map(|held| (held.id(), held.dir_name())) else {
            return;
        };
        if self.active != Some(was)
            && let Err(error) = self.flip(was, &dir_name)
        {
            tracing::warn!(release = %was, error = %error, "cannot make `current` durable");
        }
    }

    /// Makes the link by which a release is activated, while nobody waits for that. Without it the
    /// activation makes it.
    pub fn prepare_activation(&self, id: ReleaseId) {
        if let Some(held) = self.held.get(&id)
            && let Err(error) = self.make_link(&held.dir_name())
        {
            tracing::debug!(release = %id, error = %error, "activation is not prepared");
        }
    }

    /// Makes the link that is to take the place of `current`, where it is not there.
    fn make_link(&self, dir_name: &str) -> Result<(), DirError> {
        let (own, target) = (&self.places.own, format!("{RELEASES}/{dir_name}"));
        if own.read_link(NEXT_LINK).is_ok_and(|made| made == target) {
            return Ok(());
        }
        self.places.step()?;
        own.remove_file(NEXT_LINK)?;
        own.symlink(&target, NEXT_LINK)
    }

    /// Replaces the link and makes that durable.
    pub(super) fn flip(&mut self, id: ReleaseId, dir_name: &str) -> Result<u128, DirError> {
        let (own, root) = (&self.places.own, &self.places.root);
        self.make_link(dir_name)?;
        self.places.step()?;
        let start = Instant::now();
        own.rename(NEXT_LINK, root, CURRENT)?;
        let flip_us = start.elapsed().as_micros();
        self.active = Some(id);
        self.places.step()?;
        root.sync()?;
        Ok(flip_us)
    }
}
