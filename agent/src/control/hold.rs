//! The calls by which a person on this host has its node go back, or go on, source or no source.

use std::time::Duration;

use codevol_protocol::call::{Call, CallFailure, FailureSort, NodeWentBack, Reply};
use codevol_protocol::hold::{HoldAnswer, HoldOrder, NodeRollback};
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::status::LinkState;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Desk, stopping};
use crate::task::{Order, ReplyTo};

/// How long a rollback may take: each code server has its own time for a load, there and back.
const TIMEOUT: Duration = Duration::from_secs(300);

impl Desk {
    pub(super) async fn order(&self, call: Call, by: Text) -> Result<Reply, CallFailure> {
        let (volume, node, order) = match call {
            Call::Rollback {
                volume,
                to,
                message: why,
                wait,
            } => {
                let rollback = NodeRollback { to, why, by, wait };
                (volume, None, HoldOrder::Rollback(rollback))
            }
            Call::RollbackNode {
                volume,
                node,
                to,
                message: why,
                wait,
            } => {
                let rollback = NodeRollback { to, why, by, wait };
                (volume, Some(node), HoldOrder::Rollback(rollback))
            }
            Call::Thaw {
                volume,
                message: why,
            } => (volume, None, HoldOrder::Thaw { why, by }),
            Call::ThawNode {
                volume,
                node,
                message: why,
            } => (volume, Some(node), HoldOrder::Thaw { why, by }),
            _ => return Err(stopping()),
        };
        self.is_own(node.as_ref())?;
        let (volume, linked) = self.named(volume.as_ref())?;
        let (reply, answer) = oneshot::channel();
        let order = Order::Hold(order, ReplyTo::Caller(reply));
        let sent = linked.orders.send(order).await;
        sent.map_err(|_closed| stopping())?;
        let answer = timeout(TIMEOUT, answer).await.map_err(|_elapsed| {
            let message = format!("what is served is not known after {TIMEOUT:?}");
            CallFailure::new(FailureSort::Failed, "deadline", message)
                .hint("`codevol status` shows what this node runs, and whether it is held")
        })?;
        match answer.map_err(|_dropped| stopping())? {
            HoldAnswer::Failed(failure) => Err(failure),
            HoldAnswer::WentBack(went) => Ok(Reply::NodeWentBack(Box::new(NodeWentBack {
                volume: volume.clone(),
                node: self.node.clone(),
                went: *went,
            }))),
            HoldAnswer::Thawed(was) => {
                let node = &self.node;
                let said = match was {
                    None => format!("node `{node}` is not held: it goes with the others"),
                    Some(hold) => format!(
                        "node `{node}` {}; {} held it on {}: {}",
                        self.way_on(),
                        hold.by,
                        hold.seq,
                        hold.why
                    ),
                };
                Ok(Reply::Done(Text::cut(said)))
            }
        }
    }

    /// What is live only the source knows.
    fn way_on(&self) -> &'static str {
        if self.link.borrow().state == LinkState::Connected {
            "goes with the others again"
        } else {
            "stays where it is until the source is back, and then goes with the others"
        }
    }

    /// By its name only this node may be meant.
    fn is_own(&self, node: Option<&NodeName>) -> Result<(), CallFailure> {
        let own = &self.node;
        match node.filter(|node| *node != own) {
            None => Ok(()),
            Some(other) => {
                let message = format!("this is the host of node `{own}`, not of `{other}`");
                let failure = CallFailure::new(FailureSort::Usage, "role", message);
                Err(failure.hint("run it on the source host, or on that node's own"))
            }
        }
    }
}
