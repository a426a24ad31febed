//! What the source keeps whole: the newest releases, and those that may still be rolled out or gone
//! back to. Of the others the record stays; their manifests and files go.

use std::collections::BTreeSet;

use codevol_protocol::id::{BlobId, ManifestId, ReleaseId};

use crate::history::{History, HistoryError};

/// How many releases are published between two collections.
pub(super) const INTERVAL: usize = 16;

/// Removes manifests and blobs that no kept release needs, and returns how many. Nothing may be
/// published meanwhile.
pub(super) fn collect(
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
