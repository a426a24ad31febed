//! What the store has lost of a release is taken from the tree once more, where it stands there still: a
//! disk that lost a file of ours has most often not lost the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codevol_protocol::call::CallFailure;
use codevol_protocol::chain::Chain;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::manifest::Entry;
use codevol_protocol::path::RelPath;
use codevol_protocol::story::action;
use tokio::task::block_in_place;
use tracing::{error, info};

use super::append::PublishError;
use super::request::failed;
use super::task::PublisherTask;
use super::write_through::blob_at;
use crate::history::Published;

/// What became of what a release had lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mended {
    /// How many files were taken from the tree.
    pub mended: u64,
    /// Those that the tree does not hold any more as the release has them.
    pub lost: Vec<RelPath>,
}

impl PublisherTask {
    /// Looks whether the store has all files of a release, and reads those through that are `suspected`.
    pub(super) fn mend(
        &self,
        release: ReleaseId,
        suspected: &BTreeSet<BlobId>,
    ) -> Result<Mended, CallFailure> {
        let Some(release) = self.history.by_id(release) else {
            return Ok(Mended::default());
        };
        let mended = block_in_place(|| self.mend_from_tree(&release, suspected));
        let mended = mended.map_err(|error| failed(&error))?;
        let (volume, seq) = (&self.config.name, release.seq());
        let line = || self.line(action::MEND).release(Some(release.id()));
        if mended.mended > 0 {
            let files = mended.mended;
            info!(%volume, release = %seq, files, "what the store had lost was taken from the tree");
            let line = line().outcome("done").detail(&format!("{files} files"));
            self.journal.record(line.event());
        }
        if let Some(first) = mended.lost.first() {
            let files = mended.lost.len();
            error!(%volume, release = %seq, files, %first, "the store has lost files of a release, and the tree has others now");
            let line = line().outcome("failed").detail(&format!("{files} files"));
            self.journal.record(line.event());
        }
        Ok(mended)
    }

    fn mend_from_tree(
        &self,
        release: &Arc<Published>,
        suspected: &BTreeSet<BlobId>,
    ) -> Result<Mended, PublishError> {
        let blobs = self.history.blobs();
        let mut wanting: BTreeMap<BlobId, Vec<&RelPath>> = BTreeMap::new();
        let manifest = self.manifest_of(Some(release))?;
        let mut sound = BTreeSet::new();
        for (path, entry) in manifest.iter().flat_map(|manifest| manifest.entries()) {
            let Entry::File { blob, size, .. } = entry else {
                continue;
            };
            if let Some(paths) = wanting.get_mut(blob) {
                paths.push(path);
            } else if !sound.contains(blob) {
                let is_sound = blobs.size(*blob)? == Some(*size)
                    && (!suspected.contains(blob) || blobs.check(*blob).is_ok());
                if is_sound {
                    sound.insert(*blob);
                } else {
                    wanting.insert(*blob, vec![path]);
                }
            }
        }
        let mut mended = Mended::default();
        let mut batch = blobs.batch();
        for (blob, paths) in wanting {
            let stands = |path: &&&RelPath| {
                let stands = blob_at(&self.scanner, path);
                stands.is_ok_and(|stands| stands == Some(blob))
            };
            let Some(path) = paths.iter().find(stands) else {
                mended.lost.extend(paths.into_iter().cloned());
                continue;
            };
            // What is there is wrong: a batch would take it for the bytes.
            blobs.remove(blob)?;
            let mut file = self.scanner.open_file(path)?;
            match batch.put_expected(&mut file, blob) {
                Ok(_) => mended.mended += 1,
                Err(cause) => {
                    info!(%path, error = %Chain(&cause), "the tree's file was saved meanwhile");
                    mended.lost.push((*path).clone());
                }
            }
        }
        batch.commit()?;
        Ok(mended)
    }
}
