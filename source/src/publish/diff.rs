//! How the tree as it stands differs from a release.

use codevol_protocol::call::{CallFailure, ReleaseRef};
use codevol_protocol::diff::TreeDiff;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use tokio::task::block_in_place;

use super::plan::changes;
use super::request::failed;
use super::task::PublisherTask;
use crate::diff;
use crate::lines::{blob_of, file_of};
use crate::watch::Watcher;

impl PublisherTask {
    pub(super) fn diff(
        &mut self,
        from: Option<&ReleaseRef>,
        watcher: &Watcher,
    ) -> Result<TreeDiff, CallFailure> {
        let old = diff::find(&self.history, from, self.fleet.view().live)?;
        let manifest = old.as_ref().map(|release| {
            let manifest = self.history.manifest(release.release().manifest);
            manifest.map_err(|error| diff::unreadable(release, &error))
        });
        let manifest = manifest.transpose()?;
        self.expect_anything();
        let seen = self.look(watcher).map_err(|error| failed(&error))?;
        let tree = &seen.scan.manifest;
        let read_old = |_: &RelPath, blob| blob_of(&self.history, blob);
        let read_new = |path: &RelPath, _| file_of(&self.scanner, path);
        let found = block_in_place(|| {
            diff::compare(
                &changes(manifest.as_deref(), tree),
                (manifest.as_deref(), &read_old),
                (Some(tree), &read_new),
            )
        });
        Ok(TreeDiff {
            from: diff::name(old.as_deref()),
            to: Text::cut("tree"),
            ..found
        })
    }
}
