//! A release that has its name, on its way to the disk. The source hears of it meanwhile, and who
//! activates it waits here. Power that is lost before leaves a release that nothing proves: the next start
//! looks at each that was never activated, and keeps what is whole.

use std::sync::{Arc, OnceLock};

use codevol_protocol::id::ReleaseId;
use codevol_store::dir::{Dir, DirError};
use codevol_store::together::Together;

use super::Root;
use super::fill::Touched;
use super::held::Held;
use super::marker::MARKER;
use super::places::Places;
use super::stage::StageError;

/// Whether a release is on the disk, once that is known.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<OnceLock<bool>>);

/// What is to be made durable of a release.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) places: Arc<Places>,
    pub(super) held: Arc<Held>,
    pub(super) tree: Dir,
    pub(super) touched: Touched,
}

/// A release that is held and has its name. [`Self::make_durable`] makes it last.
#[derive(Debug)]
#[must_use]
pub struct Named {
    release: ReleaseId,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    naming: Naming,
    verdict: Verdict,
}

/// A release that could not be made durable: [`Root::let_go`] of it.
#[derive(Debug)]
#[must_use]
pub struct NotDurable {
    release: ReleaseId,
    why: DirError,
}

impl Named {
    /// Returns which one it is.
    #[must_use]
    pub const fn release(&self) -> ReleaseId {
        self.release
    }

    /// Returns what is on the disk already.
    pub(super) const fn durable(release: ReleaseId) -> Self {
        Self {
            release,
            pending: None,
        }
    }

    /// Makes the release durable: its files, its record and its name, with one wait. Needs no lock of
    /// the root.
    ///
    /// # Errors
    /// When the disk does not take it: nobody knows then what is on the disk.
    pub fn make_durable(self) -> Result<ReleaseId, NotDurable> {
        let release = self.release;
        let Some(pending) = self.pending else {
            return Ok(release);
        };
        let synced = pending.naming.sync();
        pending.verdict.say(synced.is_ok());
        synced.map_err(|why| NotDurable { release, why })?;
        // The release is held, whatever becomes of what is left. The trash is emptied later.
        let places = &pending.naming.places;
        if let Err(error) = places.discard(&places.incoming, &release.to_string()) {
            tracing::warn!(error = %error, "leftovers of staging stay");
        }
        Ok(release)
    }
}

impl Naming {
    fn sync(&self) -> Result<(), DirError> {
        self.places.step()?;
        if self.touched.is_many() {
            // Records and names lie on the same file system.
            return self.tree.sync_filesystem();
        }
        let mut together = Together::default();
        self.touched.add_to(&mut together, &self.tree)?;
        together.add_file(&self.tree, MARKER)?;
        self.held.add_to(&mut together, &self.places.records)?;
        together.add_dir("releases", &self.places.releases)?;
        together.sync()
    }
}

impl Verdict {
    /// Waits until it is known.
    pub fn wait(&self) {
        self.0.wait();
    }

    /// The first word counts.
    fn say(&self, durable: bool) {
        self.0.get_or_init(|| durable);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Whoever waits must not wait for ever, should the thread die before it knows.
        self.verdict.say(false);
    }
}

impl Root {
    /// Takes note of a release that has its name and is not known to be durable.
    pub(super) fn named(&mut self, naming: Naming) -> Named {
        let (release, verdict) = (naming.held.id(), Verdict::default());
        self.naming = Some((release, verdict.clone()));
        Named {
            release,
            pending: Some(Pending { naming, verdict }),
        }
    }

    /// Returns whether a release is durable, of one that has just got its name. To be waited for without
    /// the root's lock, before the release is activated.
    #[must_use]
    pub fn verdict(&self, release: ReleaseId) -> Option<Verdict> {
        let naming = self.naming.as_ref().filter(|(named, _)| *named == release);
        naming.map(|(_, verdict)| verdict.clone())
    }

    /// Whether a held release is known to be durable.
    pub(super) fn is_durable(&self, release: ReleaseId) -> bool {
        self.verdict(release)
            .is_none_or(|Verdict(verdict)| verdict.get() == Some(&true))
    }

    /// Removes a release that could not be made durable: what is not known to be on the disk must not
    /// look as if it were. Returns why.
    pub fn let_go(&mut self, lost: NotDurable) -> StageError {
        let NotDurable { release, why } = lost;
        self.stamps.remove(&release);
        if let Some(held) = self.held.remove(&release)
            && let Err(error) = self.places.discard(&self.places.releases, &held.dir_name())
        {
            tracing::warn!(%release, error = %error, "a release that is not durable stays");
        }
        self.places.abandon(release);
        why.into()
    }
}
