//! What is done in the background once a verification has ended.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::FromAgent;
use tracing::{info, warn};

use super::{VolumeTask, now};

impl VolumeTask {
    /// Prepares the next staging and removes what nobody needs, in the background.
    pub(super) fn tidy(&self) {
        let (root, volume, speaker) =
            (self.root.clone(), self.volume.clone(), self.speaker.clone());
        let wanted: BTreeSet<ReleaseId> = self.live.map(|(_, live)| live).into_iter().collect();
        let handle = tokio::runtime::Handle::current();
        drop(tokio::task::spawn_blocking(move || {
            let lock = || root.lock().unwrap_or_else(PoisonError::into_inner);
            let job = lock().prepare_spare();
            match job.map(|job| job.map(|job| job.build()).transpose().map(Option::flatten)) {
                Ok(Ok(Some(spare))) => lock().keep_spare(spare),
                Ok(Ok(None)) => {}
                Ok(Err(cause)) | Err(cause) => {
                    warn!(%volume, error = %Chain(&cause), "cannot prepare the next staging");
                }
            }
            let (collected, trash) = {
                let mut root = lock();
                (root.collect(&wanted, now()), root.trash())
            };
            match collected {
                Ok(collected) if !collected.removed.is_empty() => {
                    let removed = collected.removed;
                    info!(%volume, releases = removed.len(), "releases collected");
                    let held = FromAgent::Held {
                        volume: volume.clone(),
                        added: Vec::new(),
                        removed,
                    };
                    handle.block_on(speaker.say(held));
                }
                Ok(_) => {}
                Err(cause) => warn!(%volume, error = %Chain(&cause), "cannot collect releases"),
            }
            if let Err(cause) = trash.empty() {
                warn!(%volume, error = %Chain(&cause), "cannot empty the trash");
            }
        }));
    }
}
