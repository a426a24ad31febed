//! The calls by which a person has one node go back, or go on.

use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, NodeWentBack, Reply};
use codevol_protocol::hold::{HoldAnswer, HoldOrder, NodeRollback};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use tokio::time::timeout;

use super::Desk;
use super::answer::stopping;
use crate::publish::ROLLOUT_TIMEOUT_MS;

/// How long a node may take to go on.
const THAW_TIMEOUT: Duration = Duration::from_secs(10);

impl Desk {
    /// Has a node go back, and tells what came of it.
    pub(super) async fn rollback_node(
        &self,
        volume: Option<VolumeName>,
        node: NodeName,
        rollback: NodeRollback,
    ) -> Result<Reply, CallFailure> {
        let limit = Duration::from_millis(ROLLOUT_TIMEOUT_MS);
        let order = HoldOrder::Rollback(rollback);
        let (volume, answer) = self.order(volume, &node, order, limit).await?;
        let HoldAnswer::WentBack(went) = answer else {
            return Err(stopping());
        };
        Ok(Reply::NodeWentBack(Box::new(NodeWentBack {
            volume,
            node,
            went: *went,
        })))
    }

    /// Lets a node go on.
    pub(super) async fn thaw_node(
        &self,
        volume: Option<VolumeName>,
        node: NodeName,
        (why, by): (Text, Text),
    ) -> Result<Reply, CallFailure> {
        let order = HoldOrder::Thaw { why, by };
        let (volume, answer) = self.order(volume, &node, order, THAW_TIMEOUT).await?;
        let HoldAnswer::Thawed(was) = answer else {
            return Err(stopping());
        };
        let said = match was {
            None => {
                format!("node `{node}` is not held in volume `{volume}`: it goes with the others")
            }
            Some(hold) => format!(
                "node `{node}` goes with the others again; {} held it on {}: {}",
                hold.by, hold.seq, hold.why
            ),
        };
        Ok(Reply::Done(Text::cut(said)))
    }

    async fn order(
        &self,
        volume: Option<VolumeName>,
        node: &NodeName,
        order: HoldOrder,
        limit: Duration,
    ) -> Result<(VolumeName, HoldAnswer), CallFailure> {
        let (name, volume) = self.volume(volume)?;
        self.agent(node)?;
        let answered = timeout(limit, volume.fleet.order(node.clone(), order)).await;
        match answered {
            Ok(Some(HoldAnswer::Failed(failure))) => Err(failure),
            Ok(Some(answer)) => Ok((name.clone(), answer)),
            Ok(None) => {
                let message = format!("too many orders to node `{node}` wait for their answer");
                Err(CallFailure::new(FailureSort::Failed, "busy", message))
            }
            Err(_elapsed) => {
                let message = format!("node `{node}` did not answer within {limit:?}");
                let failure = CallFailure::new(FailureSort::Failed, "deadline", message);
                Err(failure.hint("`codevol status` shows what it runs, and whether it is held"))
            }
        }
    }
}
