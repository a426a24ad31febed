//! What is done in the background when nothing has happened for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::collection::Collection;
use codevol_protocol::name::VolumeName;
use codevol_store::dir::DirError;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::VolumeTask;
use super::collect::Collector;
use crate::volume::Root;

/// How long nothing must have happened. What has just been done to one agent is being done to others,
/// perhaps on this host and this disk: they go first.
const LULL: Duration = Duration::from_millis(50);
/// How many collections may go on at once.
const COLLECTING_MAX: usize = 4;

/// The tidying that is due, or runs.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    due: Option<Instant>,
    running: JoinSet<()>,
}

impl Tidying {
    /// Tidies after a lull; one that was waited for already counts from now.
    pub(super) fn later(&mut self) {
        self.due = Some(Instant::now() + LULL);
    }

    /// Does nothing until it is asked for again: a code server is to load, and needs the disk.
    pub(super) fn put_off(&mut self) {
        self.due = None;
    }

    /// Waits until it is to be tidied. Cancel-safe.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

impl VolumeTask {
    /// Prepares the next staging and removes what nobody needs, in the background.
    pub(super) fn tidy(&mut self) {
        self.tidying.due = None;
        while self.tidying.running.try_join_next().is_some() {}
        if !self.tidying.running.is_empty() {
            self.tidying.later();
            return;
        }
        let (root, volume) = (self.root.clone(), self.volume.clone());
        let speaker = self.speaker.clone();
        let collector = self.collector();
        let handle = tokio::runtime::Handle::current();
        self.tidying.running.spawn_blocking(move || {
            prepare_spare(&root, &volume);
            match collector.run() {
                Ok(said) => handle.block_on(speaker.say_all(said)),
                Err(cause) => {
                    warn!(%volume, error = %Chain(&cause), "cannot collect releases");
                }
            }
        });
    }

    /// Collects for a person, beside whatever is tidied: who asked may have gone.
    pub(super) fn collect(
        &mut self,
        dry_run: bool,
        reply: oneshot::Sender<Result<Collection, DirError>>,
    ) {
        while self.tidying.running.try_join_next().is_some() {}
        if self.tidying.running.len() >= COLLECTING_MAX {
            // Dropped, it says that nobody answers.
            return;
        }
        let (collector, speaker) = (self.collector(), self.speaker.clone());
        let handle = tokio::runtime::Handle::current();
        self.tidying.running.spawn_blocking(move || {
            let collected = collector.run_and_tell(dry_run);
            let collected = collected.map(|(collection, said)| {
                handle.block_on(speaker.say_all(said));
                collection
            });
            drop(reply.send(collected));
        });
    }

    fn collector(&self) -> Collector {
        Collector {
            root: self.root.clone(),
            volume: self.volume.clone(),
            changes: self.changes.clone(),
            wanted: self.live.map(|(_, live)| live).into_iter().collect(),
        }
    }
}

fn prepare_spare(root: &Mutex<Root>, volume: &VolumeName) {
    let lock = || root.lock().unwrap_or_else(PoisonError::into_inner);
    let job = lock().prepare_spare();
    match job.map(|job| job.map(|job| job.build()).transpose().map(Option::flatten)) {
        Ok(Ok(Some(spare))) => lock().keep_spare(spare),
        Ok(Ok(None)) => {}
        Ok(Err(cause)) | Err(cause) => {
            warn!(%volume, error = %Chain(&cause), "cannot prepare the next staging");
        }
    }
}
