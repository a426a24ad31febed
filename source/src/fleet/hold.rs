//! Nodes that a person holds: having one go back or go on, and what the nodes say of it. A node keeps by
//! itself whether it is held; here it is only remembered what it said last.

use std::collections::BTreeMap;
use std::time::Instant;

use codevol_protocol::call::{CallFailure, FailureSort};
use codevol_protocol::hold::{AskedAt, Hold, HoldAnswer, HoldOrder, HoldReport, Thawed};
use codevol_protocol::limits::HOLD_ORDERS_MAX;
use codevol_protocol::message::{FromSource, HOLD_MINOR};
use codevol_protocol::name::NodeName;
use codevol_protocol::rollout::Event;
use codevol_protocol::story::action;
use tokio::sync::oneshot;
use tracing::info;

use super::act::send;
use super::handle::SessionCommand;
use super::task::FleetTask;
use crate::journal::Line;

/// What persons asked of nodes, and was not answered yet.
#[derive(Debug, Default)]
pub(super) struct HoldOrders {
    last: u64,
    open: BTreeMap<u64, (NodeName, oneshot::Sender<HoldAnswer>)>,
}

impl HoldOrders {
    /// Enters one more, unless too many of that node wait.
    fn enter(&mut self, node: &NodeName, reply: oneshot::Sender<HoldAnswer>) -> Option<u64> {
        self.open.retain(|_, (_, reply)| !reply.is_closed());
        let of_node = self.open.values().filter(|(of, _)| of == node).count();
        if of_node >= HOLD_ORDERS_MAX {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, (node.clone(), reply));
        Some(self.last)
    }
}

impl FleetTask {
    /// Has a node do as a person wants. Where it cannot be asked, nothing is told.
    pub(super) async fn order(
        &mut self,
        node: NodeName,
        order: HoldOrder,
        reply: oneshot::Sender<HoldAnswer>,
    ) {
        let session = self
            .nodes
            .get(&node)
            .and_then(|known| known.session.as_ref());
        let Some(session) = session else {
            let failure = unreachable(&node, "is not connected").hint(format!(
                "on that host itself the same works by its agent: `codevol {}`",
                match order {
                    HoldOrder::Rollback(_) => "rollback",
                    HoldOrder::Thaw { .. } => "thaw",
                }
            ));
            return tell(reply, HoldAnswer::Failed(failure));
        };
        if session.minor < HOLD_MINOR {
            let message = format!("the agent of node `{node}` is too old to be held");
            let failure = CallFailure::new(FailureSort::Failed, "too-old", message);
            return tell(reply, HoldAnswer::Failed(failure.hint("update it")));
        }
        // Where too many wait already, the asker hears nothing, as of a task that has ended.
        let Some(ask) = self.orders.enter(&node, reply) else {
            return;
        };
        let volume = self.volume.clone();
        let say = FromSource::Hold { volume, ask, order };
        send(&session.outbox, SessionCommand::Say(say)).await;
    }

    /// Takes in what a node answers to an order.
    pub(super) fn ordered(&mut self, node: &NodeName, ask: u64, answer: HoldAnswer) {
        let asked = self.orders.open.get(&ask);
        if asked.is_some_and(|(of, _)| of == node)
            && let Some((_, reply)) = self.orders.open.remove(&ask)
        {
            tell(reply, answer);
        }
    }

    /// A node that is gone answers nothing.
    pub(super) fn will_not_obey(&mut self, node: &NodeName) {
        let gone = self.orders.open.extract_if(.., |_, (of, _)| of == node);
        for (_, (of, reply)) in gone {
            let failure = unreachable(&of, "was asked, and then its connection ended");
            let failure = failure.hint("`codevol status` shows what it runs when it is back");
            tell(reply, HoldAnswer::Failed(failure));
        }
    }

    /// Takes in whether a node is held that was connected before.
    pub(super) fn held_or_not(&mut self, node: &NodeName, report: HoldReport) {
        if self.is_news_of_hold(node, &report) {
            let (node, hold) = (node.clone(), report.hold);
            self.machine
                .handle(Event::Held { node, hold }, Instant::now());
        }
    }

    /// Takes in whether a node is held that has just connected; of one that does not say so, that it is
    /// not.
    pub(super) fn greets(&mut self, node: &NodeName, report: Option<HoldReport>) {
        let never_held = HoldReport {
            volume: self.volume.clone(),
            hold: None,
            thawed: None,
        };
        let report = report.unwrap_or(never_held);
        if self.is_news_of_hold(node, &report) {
            self.machine.greets(node, report.hold);
        }
    }

    /// Returns whether it is new that a node is held, or is not; then it is written down.
    fn is_news_of_hold(&self, node: &NodeName, report: &HoldReport) -> bool {
        let HoldReport { hold, thawed, .. } = report;
        let before = self.machine.saved().holds.get(node);
        if before == hold.as_ref() {
            return false;
        }
        let line = match (hold, before) {
            (Some(hold), _) => held_line(hold),
            (None, Some(before)) => thawed_line(before, thawed.as_ref()),
            (None, None) => return false,
        };
        self.journal
            .record(line.node(node).volume(&self.volume).event());
        let held_on = hold.as_ref().map(|hold| hold.seq.to_string());
        info!(volume = %self.volume, %node, held_on, "a person holds the node, or lets it go on");
        true
    }
}

fn held_line(hold: &Hold) -> Line {
    let line = Line::new(action::HOLD).release(Some(hold.release));
    line.actor(&hold.by)
        .detail(&since(hold.why.as_str(), hold.asked_at, hold.at))
}

/// A node that is too old to say how it was let go, or lost its state, says nothing of it.
fn thawed_line(before: &Hold, thawed: Option<&Thawed>) -> Line {
    let line = Line::new(action::UNHOLD).release(Some(before.release));
    match thawed {
        Some(thawed) => line.actor(&thawed.by).why(&thawed.why),
        None => line,
    }
}

/// What was asked on the node's own host may have been asked long before the source hears of it.
fn since(why: &str, asked_at: AskedAt, at: codevol_protocol::release::UnixMillis) -> String {
    match asked_at {
        AskedAt::Source => why.to_owned(),
        AskedAt::Node => format!("{why} (on its own host, at {at})"),
    }
}

fn unreachable(node: &NodeName, why: &str) -> CallFailure {
    let message = format!("node `{node}` {why}");
    CallFailure::new(FailureSort::Unavailable, "unreachable", message)
}

/// Whoever asked may have gone.
fn tell(reply: oneshot::Sender<HoldAnswer>, answer: HoldAnswer) {
    drop(reply.send(answer));
}
