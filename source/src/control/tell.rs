//! The calls that ask what was, and what differs.

use codevol_protocol::call::{Call, CallFailure, Reply};
use tokio::task::block_in_place;

use super::Desk;
use super::answer::stopping;
use crate::diff;

impl Desk {
    pub(super) async fn tell(&self, call: Call) -> Result<Reply, CallFailure> {
        match call {
            Call::Story { volume, release } => {
                let volume = self.volume(volume)?;
                let told = block_in_place(|| self.chronicle.story(volume, &release))?;
                Ok(Reply::Story(Box::new(told)))
            }
            Call::At { volume, time, node } => {
                let volume = self.volume(volume)?;
                let told = block_in_place(|| self.chronicle.at(volume, time, node.as_ref()))?;
                Ok(Reply::At(Box::new(told)))
            }
            Call::Diff { volume, from, to } => {
                let (_, volume) = self.volume(volume)?;
                let Some(to) = to else {
                    return Ok(Reply::Diff(Box::new(volume.publisher.diff(from).await?)));
                };
                let live = volume.fleet.view().live;
                let found = block_in_place(|| {
                    diff::of_releases(&volume.history, (from.as_ref(), live), &to)
                })?;
                Ok(Reply::Diff(Box::new(found)))
            }
            Call::Audit => {
                let audit = block_in_place(|| self.chronicle.audit())?;
                Ok(Reply::Audited(Box::new(audit)))
            }
            _ => Err(stopping()),
        }
    }
}
