//! What the rollout machine asks for, carried out in its order.

use std::collections::BTreeSet;
use std::time::Instant;

use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::FromSource;
use codevol_protocol::name::NodeName;
use codevol_protocol::rollout::{self, Command, Output, Saved};
use codevol_protocol::story::{action, outcome};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::handle::SessionCommand;
use super::task::FleetTask;
use crate::bus::Notice;
use crate::journal::Line;

impl FleetTask {
    /// Does all that the machine asks for, in its order.
    /// Where the state cannot be saved, what follows from it is left undone, and it says no.
    pub(super) async fn carry_out(&mut self) -> bool {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.machine.poll_output()).collect();
        // A push waits for no save: it stages and changes nothing that anyone sees, and after a
        // restart the log says anew that the release is to be rolled out.
        let (pushes, others): (Vec<Output>, Vec<Output>) =
            outputs.into_iter().partition(|output| {
                matches!(
                    output,
                    Output::Ask {
                        command: Command::Push(_),
                        ..
                    }
                )
            });
        for output in pushes.into_iter().chain(others) {
            match output {
                Output::Save(saved) => {
                    if !self.save(*saved) {
                        return false;
                    }
                }
                Output::Ask { node, command } => self.ask(&node, command).await,
                Output::Started(release) => {
                    self.metrics.rollout_began(release, Instant::now());
                    info!(volume = %self.volume, release = %self.named(release), "rollout began");
                }
                Output::Quarantined { release, node } => {
                    warn!(volume = %self.volume, release = %self.named(release), %node, "release is broken");
                    let line = Line::new(action::QUARANTINED)
                        .release(Some(release))
                        .node(&node);
                    self.journal.record(line.volume(&self.volume).event());
                }
                Output::HeldBack(release) => {
                    info!(volume = %self.volume, release = %self.named(release), "release waits for a person");
                    let line = Line::new(action::HELD)
                        .release(Some(release))
                        .volume(&self.volume);
                    self.journal.record(line.event());
                }
                Output::LiveMoved(release) => self.live_moved(release).await,
                Output::Ended(outcome) => self.ended(&outcome),
            }
        }
        self.show();
        true
    }

    /// Makes the machine's state durable, and says whether it is.
    fn save(&mut self, saved: Saved) -> bool {
        // A failed save is as bad as a crash at this point: stopping lets recovery decide, going
        // on could activate something that a restart knows nothing of.
        let kept = self.kept.get().followed_by(saved);
        let saved = tokio::task::block_in_place(|| self.kept.replace(kept));
        if let Err(cause) = &saved {
            error!(volume = %self.volume, error = %Chain(cause), "cannot save the rollout's state");
            self.inbox.close();
            self.failed.cancel();
        }
        saved.is_ok()
    }

    async fn ask(&self, node: &NodeName, command: Command) {
        debug!(volume = %self.volume, %node, ?command, "node is asked");
        let volume = self.volume.clone();
        let Some(known) = self.nodes.get(node) else {
            return;
        };
        let Some(session) = &known.session else {
            return;
        };
        let command = match command {
            Command::Push(release) => SessionCommand::Push {
                volume,
                release,
                held: known.held.iter().copied().collect(),
                missing: BTreeSet::new(),
            },
            Command::Activate(release) => {
                SessionCommand::Say(FromSource::Activate { volume, release })
            }
            Command::Return(release) => SessionCommand::Say(FromSource::Return { volume, release }),
            Command::Cancel(release) => SessionCommand::Cancel { volume, release },
        };
        send(&session.outbox, command).await;
    }

    async fn live_moved(&self, release: Option<ReleaseId>) {
        if let Some(release) = release {
            self.metrics.live(release, Instant::now());
        }
        let seq = release.and_then(|release| self.seq(release));
        info!(volume = %self.volume, live = seq.map(|seq| seq.to_string()), "live moved");
        let line = Line::new(action::LIVE)
            .release(release)
            .volume(&self.volume);
        self.journal.record(line.event());
        let outboxes: Vec<_> = self
            .nodes
            .values()
            .filter_map(|known| known.session.as_ref().map(|session| session.outbox.clone()))
            .collect();
        for outbox in outboxes {
            self.tell_live_to(&outbox).await;
        }
    }

    pub(super) async fn tell_live_to(&self, outbox: &mpsc::Sender<SessionCommand>) {
        let live = self.machine.live().and_then(|id| Some((self.seq(id)?, id)));
        let head = self.history.head().map(|head| head.seq());
        let say = FromSource::Live {
            volume: self.volume.clone(),
            live,
            head,
        };
        send(outbox, SessionCommand::Say(say)).await;
    }

    fn ended(&self, ended: &rollout::Outcome) {
        self.metrics
            .rollout_ended(ended.release, ended.live, Instant::now());
        let Some(outcome) = self.outcome(ended) else {
            return;
        };
        let word = if ended.live {
            outcome::DONE
        } else {
            outcome::FAILED
        };
        info!(volume = %self.volume, release = %outcome.release, returned = ended.returned, "rollout {word}");
        let line = Line::new(action::ROLLOUT)
            .release(Some(ended.release))
            .outcome(word);
        self.journal.record(line.volume(&self.volume).event());
        self.show();
        self.bus.tell(Notice::Outcome(Box::new(outcome)));
    }

    fn named(&self, release: ReleaseId) -> String {
        self.seq(release)
            .map_or_else(|| release.short(), |seq| seq.to_string())
    }
}

pub(super) async fn send(outbox: &mpsc::Sender<SessionCommand>, command: SessionCommand) {
    // A session that is gone has told so, or will: the machine then knows what to do.
    outbox.send(command).await.unwrap_or_default();
}
