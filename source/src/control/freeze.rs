//! The calls that stop new releases from going live, and let them.

use codevol_protocol::call::{CallFailure, Reply};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::rollout::Frozen;

use super::Desk;
use super::answer::stopping;
use crate::bus::now;

impl Desk {
    pub(super) async fn freeze(
        &self,
        volume: Option<VolumeName>,
        message: Text,
        by: Text,
    ) -> Result<Reply, CallFailure> {
        let (name, volume) = self.volume(volume)?;
        let why = if message.is_empty() {
            Text::cut("frozen by hand")
        } else {
            message
        };
        let frozen = Frozen {
            why,
            by,
            at: now(),
            by_rollback: false,
        };
        volume.fleet.freeze(frozen).await.ok_or_else(stopping)?;
        Ok(Reply::Done(Text::cut(format!("volume `{name}` is frozen"))))
    }

    pub(super) async fn thaw(
        &self,
        volume: Option<VolumeName>,
        message: Text,
        by: Text,
    ) -> Result<Reply, CallFailure> {
        let (name, volume) = self.volume(volume)?;
        let Some(was) = volume.fleet.view().frozen else {
            let said = format!("volume `{name}` is not frozen: nothing was to be thawed");
            return Ok(Reply::Done(Text::cut(said)));
        };
        volume.fleet.thaw(by, message).await.ok_or_else(stopping)?;
        let Frozen { why, by, .. } = was;
        let said = format!("volume `{name}` is thawed; it was frozen by {by}: {why}");
        Ok(Reply::Done(Text::cut(said)))
    }
}
