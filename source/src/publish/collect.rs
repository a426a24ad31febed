//! What the source keeps whole: the newest releases, and those that may still be rolled out or gone
//! back to. Of the others the record stays; their manifests and files go.

use std::collections::BTreeSet;

use codevol_protocol::chain::Chain;
use codevol_protocol::id::{BlobId, ManifestId, ReleaseId};
use tokio::task::block_in_place;
use tracing::{error, info};

use super::task::PublisherTask;
use crate::history::{History, HistoryError};

/// How many releases are published between two collections.
pub(super) const INTERVAL: usize = 16;

impl PublisherTask {
    /// Removes what no kept release needs, now and then. Nothing waits for it but the next change.
    pub(super) fn collect(&mut self) {
        if self.uncollected < INTERVAL {
            return;
        }
        self.uncollected = 0;
        let needed = self.fleet.view().needed;
        match block_in_place(|| collect(&self.history, self.config.keep, &needed)) {
            Ok(0) => {}
            Ok(swept) => info!(volume = %self.config.name, swept, "old releases collected"),
            Err(cause) => {
                error!(volume = %self.config.name, error = %Chain(&cause), "cannot collect old releases");
            }
        }
    }
}

/// Removes manifests and blobs that no kept release needs, and returns how many. Nothing may be
/// published meanwhile.
fn collect(
    history: &History,
    keep: usize,
    needed: &BTreeSet<ReleaseId>,
) -> Result<usize, HistoryError> {
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
    history.sweep(&manifests, &blobs)
}
