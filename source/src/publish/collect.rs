//! What the source keeps whole: the newest releases, and those that may still be rolled out or gone
//! back to. Of the others the record stays; their manifests and files go.

use std::collections::BTreeSet;

use codevol_protocol::call::CallFailure;
use codevol_protocol::chain::Chain;
use codevol_protocol::collection::{Collection, Named};
use codevol_protocol::id::{BlobId, ManifestId, ReleaseId};
use tokio::task::block_in_place;
use tracing::{error, info};

use super::request::failed;
use super::task::PublisherTask;
use crate::history::{History, HistoryError, Surplus};

/// How many releases are published between two collections.
pub(super) const INTERVAL: usize = 16;

impl PublisherTask {
    /// Removes what no kept release needs, now and then. Nothing waits for it but the next change.
    pub(super) fn collect(&mut self) {
        if self.uncollected < INTERVAL {
            return;
        }
        self.uncollected = 0;
        let collected = block_in_place(|| {
            let surplus = self.surplus()?;
            self.history.remove(&surplus)?;
            Ok::<_, HistoryError>(surplus.manifests.len() + surplus.blobs.len())
        });
        match collected {
            Ok(0) => {}
            Ok(swept) => info!(volume = %self.config.name, swept, "old releases collected"),
            Err(cause) => {
                error!(volume = %self.config.name, error = %Chain(&cause), "cannot collect old releases");
            }
        }
    }

    /// Removes the same for a person who asks, or says what that would be.
    pub(super) fn collect_now(&mut self, dry_run: bool) -> Result<Collection, CallFailure> {
        let collected = block_in_place(|| {
            let surplus = self.surplus()?;
            if !dry_run {
                self.history.remove(&surplus)?;
                self.uncollected = 0;
                self.metrics.usage.changed();
            }
            Ok::<_, HistoryError>(surplus)
        });
        let surplus = collected.map_err(|error| failed(&error.into()))?;
        let mut collection = Collection::new(self.config.name.clone(), dry_run);
        collection.blobs = surplus.blobs.len() as u64;
        collection.bytes = surplus.bytes;
        let manifests: BTreeSet<ManifestId> = surplus.manifests.into_iter().collect();
        let releases = self.history.releases();
        let gone = releases
            .iter()
            .filter(|release| manifests.contains(&release.release().manifest));
        let named = gone.map(|release| Named {
            release: release.seq(),
            id: release.id(),
        });
        collection.set_releases(named.collect());
        Ok(collection)
    }

    fn surplus(&self) -> Result<Surplus, HistoryError> {
        surplus(&self.history, self.config.keep, &self.fleet.view().needed)
    }
}

/// Returns what no kept release needs. It may be removed as long as nothing is published.
fn surplus(
    history: &History,
    keep: usize,
    needed: &BTreeSet<ReleaseId>,
) -> Result<Surplus, HistoryError> {
    let releases = history.releases();
    let newest = releases.len().saturating_sub(keep);
    let mut manifests: BTreeSet<ManifestId> = BTreeSet::new();
    let mut blobs: BTreeSet<BlobId> = BTreeSet::new();
    for (index, release) in releases.iter().enumerate() {
        if index < newest && !needed.contains(&release.id()) {
            continue;
        }
        let record = release.release();
        let manifest = match history.manifest(record.manifest) {
            Ok(manifest) => manifest,
            // It was collected before it came to be needed again: nothing more can be lost of it.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        manifests.insert(record.manifest);
        blobs.insert(record.ignore_rules);
        blobs.extend(
            manifest
                .entries()
                .iter()
                .filter_map(|(_, entry)| entry.blob()),
        );
    }
    history.surplus(&manifests, &blobs)
}
