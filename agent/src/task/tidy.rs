//! What is done in the background when nothing has happened for a while.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::FromAgent;
use codevol_protocol::name::VolumeName;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{VolumeTask, now};
use crate::volume::Root;

/// How long nothing must have happened. What has just been done to one agent is being done to others,
/// perhaps on this host and this disk: they go first.
const LULL: Duration = Duration::from_millis(50);

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
        let (speaker, changes) = (self.speaker.clone(), self.changes.clone());
        let wanted = self.live.map(|(_, live)| live).into_iter().collect();
        let handle = tokio::runtime::Handle::current();
        self.tidying.running.spawn_blocking(move || {
            prepare_spare(&root, &volume);
            if let Some(said) = collect(&root, &volume, &wanted) {
                changes.tell();
                handle.block_on(speaker.say(said));
            }
        });
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

/// Returns what is to be said of it.
fn collect(
    root: &Mutex<Root>,
    volume: &VolumeName,
    wanted: &BTreeSet<ReleaseId>,
) -> Option<FromAgent> {
    let (collected, trash) = {
        let mut root = root.lock().unwrap_or_else(PoisonError::into_inner);
        (root.collect(wanted, now()), root.trash())
    };
    if let Err(cause) = trash.empty() {
        warn!(%volume, error = %Chain(&cause), "cannot empty the trash");
    }
    match collected {
        Ok(collected) if !collected.removed.is_empty() => {
            let removed = collected.removed;
            info!(%volume, releases = removed.len(), "releases collected");
            Some(FromAgent::Held {
                volume: volume.clone(),
                added: Vec::new(),
                removed,
            })
        }
        Ok(_) => None,
        Err(cause) => {
            warn!(%volume, error = %Chain(&cause), "cannot collect releases");
            None
        }
    }
}
