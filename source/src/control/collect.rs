//! Deleting what nobody needs any more, for a person.

use codevol_protocol::call::{CallFailure, Reply};
use codevol_protocol::name::VolumeName;

use super::Desk;

impl Desk {
    pub(super) async fn collect(
        &self,
        volume: Option<VolumeName>,
        dry_run: bool,
    ) -> Result<Reply, CallFailure> {
        let (_, volume) = self.volume(volume)?;
        let collected = volume.publisher.collect(dry_run).await?;
        Ok(Reply::Collected(Box::new(collected)))
    }
}
