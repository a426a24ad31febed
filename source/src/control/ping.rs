//! How long a node takes to answer, by its live connection.

use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Pong, Reply};
use codevol_protocol::name::{NodeName, Text};
use tokio::time::timeout;

use super::Desk;
use crate::fleet::Pinged;

/// How long a node may take. Less than the idle timeout of a link, more than a busy host needs.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

impl Desk {
    /// Asks a node for a sign of life, and returns how long it took.
    pub(super) async fn ping(&self, node: NodeName) -> Result<Reply, CallFailure> {
        self.agent(&node)?;
        let unreachable = |why: &str| {
            let message = format!("node `{node}` {why}");
            CallFailure::new(FailureSort::Unavailable, "unreachable", message)
        };
        match timeout(PING_TIMEOUT, self.pinged(&node)).await {
            Ok(Some(Pinged::Answered { address, rtt })) => Ok(Reply::Pong(Pong {
                node,
                address: Text::cut(address.to_string()),
                rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX),
            })),
            Ok(Some(Pinged::TooOld)) => {
                let message = format!("the agent of node `{node}` is too old to be pinged");
                let failure = CallFailure::new(FailureSort::Failed, "too-old", message);
                Err(failure.hint("it is connected: `codevol status` shows it; update it"))
            }
            Ok(Some(Pinged::Busy)) => {
                let message = format!("too many pings of node `{node}` wait for their answer");
                Err(CallFailure::new(FailureSort::Failed, "busy", message))
            }
            Ok(None) => Err(unreachable("is not connected").hint(
                "is its agent running, and does UDP get through? `codevol doctor --net` there",
            )),
            Err(_elapsed) => Err(unreachable(&format!(
                "is connected, but did not answer within {PING_TIMEOUT:?}"
            ))
            .hint("that host may hang, or the way to it; `codevol status` shows when it was seen")),
        }
    }

    /// Asks by the first volume in which the node is connected: it has one link for all of them.
    async fn pinged(&self, node: &NodeName) -> Option<Pinged> {
        for volume in self.volumes.values() {
            if let Some(pinged) = volume.fleet.ping(node.clone()).await {
                return Some(pinged);
            }
        }
        None
    }
}
