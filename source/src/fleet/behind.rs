//! A log that knows less than a node does: the source was restored from a backup. What was published
//! since is taken in before that node is led anywhere, and the volume is frozen: whether the tree of this
//! host is older, too, only a person can say.

use std::time::Instant;

use codevol_protocol::chain::Chain;
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::release::Seq;
use codevol_protocol::rollout::{Event, Frozen};
use codevol_protocol::story::action;
use tokio::task::block_in_place;
use tracing::{error, warn};

use super::handle::Lost;
use super::task::FleetTask;
use crate::bus::now;

impl FleetTask {
    /// Takes in what is lacking, and says whether the node may be led on. Should that be cut short, the
    /// next connection goes on with it: what the machine is told first is durable first, so that nothing
    /// of it is rolled out.
    pub(super) async fn behind(&mut self, node: &NodeName, lost: Lost) -> bool {
        let head = self.history.head().map_or(Seq(0), |head| head.seq());
        let newest = lost.newest;
        // What it knows of the middle alone only fills a gap.
        if newest > head {
            warn!(volume = %self.volume, %node, %head, %newest, "the log was behind a node");
            self.machine
                .handle(Event::Behind { newest }, Instant::now());
            if self.machine.saved().frozen.is_none() {
                let why = format!("restored: {node} knew releases up to {newest}");
                self.freeze(Frozen {
                    why: Text::cut(why),
                    by: Text::cut("codevol"),
                    at: now(),
                    by_rollback: false,
                });
            }
            if !self.carry_out().await {
                return false;
            }
        }
        block_in_place(|| self.take_in(node, &lost));
        if self.history.head().is_none_or(|head| head.seq() < newest) {
            // As bad as a save that failed: going on would lead the node back to what is known here.
            self.inbox.close();
            self.failed.cancel();
            return false;
        }
        true
    }

    fn take_in(&self, node: &NodeName, lost: &Lost) {
        for record in &lost.records {
            let release = record.id();
            if self.seq(release).is_some() {
                continue;
            }
            match self.history.take_in(record) {
                Ok(true) => self.note(action::TAKE_IN, node, release),
                Ok(false) => {
                    error!(volume = %self.volume, release = %release.short(), "another release has its number here");
                }
                // Of these the newest alone is needed to go on.
                Err(cause) => {
                    error!(volume = %self.volume, release = %release.short(), error = %Chain(&cause), "cannot take a release in");
                }
            }
        }
    }
}
