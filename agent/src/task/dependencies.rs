//! What the task asks of the Python environments: before it activates, and from time to time.

use std::collections::BTreeSet;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::Failure;
use tokio::task::block_in_place;

use super::VolumeTask;

impl VolumeTask {
    /// Returns why a release is not to be activated, where its packages are missing: they may have
    /// gone since it was staged. What is active already is not taken away.
    pub(super) async fn refusal(&self, release: ReleaseId) -> Option<Failure> {
        if self.active() == Some(release) {
            return None;
        }
        let refusal = block_in_place(|| self.dependencies.refusal(release));
        self.dependencies.tell().await;
        refusal
    }

    /// Compares the active release with the Python environments, and tells the source what is new.
    pub(super) async fn look_at_dependencies(&self) {
        let active = self.active();
        block_in_place(|| self.dependencies.look_again(active));
        self.dependencies.tell().await;
    }

    /// Returns which of the held releases that are newer than the active one would be refused. What is
    /// older may be gone back to whatever is installed.
    pub(super) fn refused(&self) -> BTreeSet<ReleaseId> {
        let newer = self.newer();
        block_in_place(|| self.dependencies.refused_of(&newer))
    }

    /// Returns what is held of releases that are newer than the active one.
    pub(super) fn newer(&self) -> Vec<ReleaseId> {
        let root = self.lock();
        let active = root.active().and_then(|active| root.held().get(&active));
        let active = active.map(|active| active.release().seq);
        let held = root.held().values();
        held.filter(|held| active.is_none_or(|active| held.release().seq > active))
            .map(|held| held.id())
            .collect()
    }
}
