//! Deleting what nobody needs any more, for a person.

use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Reply};
use codevol_protocol::name::VolumeName;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Desk, unavailable};
use crate::task::Order;

/// How long a collection may take.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(600);

impl Desk {
    pub(super) async fn collect(
        &self,
        volume: Option<&VolumeName>,
        dry_run: bool,
    ) -> Result<Reply, CallFailure> {
        let (_, linked) = self.named(volume)?;
        let (reply, collected) = oneshot::channel();
        let order = Order::Collect { dry_run, reply };
        let stopping = || unavailable("stopping", "the agent is stopping");
        let sent = linked.orders.send(order).await;
        sent.map_err(|_closed| stopping())?;
        let collected = timeout(COLLECT_TIMEOUT, collected).await;
        let collected = collected
            .map_err(|_elapsed| unavailable("silent", "the collection does not end"))?
            .map_err(|_dropped| unavailable("busy", "the agent collects for others already"))?;
        let collected = collected.map_err(|error| {
            let message = "releases could not be collected";
            CallFailure::new(FailureSort::Failed, "io", message).caused_by(&error)
        })?;
        Ok(Reply::Collected(Box::new(collected)))
    }
}
