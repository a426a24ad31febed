//! What agents report, taken in.

use std::time::Instant;

use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::message::{Failure, FromAgent, Report, Step, Verification};
use codevol_protocol::name::NodeName;
use codevol_protocol::rollout::{Event, Standing};
use codevol_protocol::status::EventKind;
use codevol_protocol::story::{action, outcome};
use tracing::{info, warn};

use super::act::send;
use super::handle::{SessionCommand, SessionId};
use super::known::standing;
use super::status::counted;
use super::task::FleetTask;
use crate::bus::now;
use crate::journal::Line;

/// How often in a row a node is sent bytes anew that it should hold. With each time it may name the most
/// that one message can.
const MENDED_MAX: u32 = 16;

impl FleetTask {
    pub(super) async fn heard(&mut self, node: &NodeName, message: FromAgent) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.last_seen_at = Some(now());
        }
        match message {
            // Whoever pinged was told by the session, of keys the door knows, and that it is held was said
            // with its greeting.
            FromAgent::Hello(_)
            | FromAgent::Pong { .. }
            | FromAgent::Rotate { .. }
            | FromAgent::Records { .. }
            | FromAgent::Holds(_) => {}
            FromAgent::Hold(report) => self.held_or_not(node, report),
            FromAgent::HoldAnswer { ask, answer, .. } => self.ordered(node, ask, answer),
            FromAgent::Held { added, removed, .. } => self.held(node, added, removed),
            FromAgent::Refused {
                release, failure, ..
            } => {
                self.step_failed(node, release, "stage", failure);
            }
            FromAgent::Missing { release, blobs, .. } => self.missing(node, release, blobs).await,
            FromAgent::Report(report) => self.reported(node, report),
            FromAgent::Drift(report) => self.drifts(node, report),
            FromAgent::Looked { ask, word, .. } => self.looked(node, ask, word).await,
            FromAgent::Rules { release, .. } => self.send_rules(node, release).await,
            FromAgent::Environments { environments, .. } => self.environments(node, environments),
            FromAgent::Dependencies { report, .. } => self.dependencies(node, report),
        }
    }

    fn held(&mut self, node: &NodeName, added: Vec<ReleaseId>, removed: Vec<ReleaseId>) {
        for release in removed {
            if let Some(known) = self.nodes.get_mut(node) {
                known.held.remove(&release);
            }
            self.machine.handle(
                Event::Dropped {
                    node: node.clone(),
                    release,
                },
                Instant::now(),
            );
        }
        for release in added {
            self.staged(node, release);
        }
    }

    fn staged(&mut self, node: &NodeName, release: ReleaseId) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.held.insert(release);
            known.mended = 0;
        }
        self.machine.handle(
            Event::Staged {
                node: node.clone(),
                release,
            },
            Instant::now(),
        );
    }

    /// An agent lost bytes that it was thought to hold: the release is sent again, with those. One that
    /// never has enough has a failing disk or plays with us: it is given up, and holds nobody up.
    async fn missing(&mut self, node: &NodeName, release: ReleaseId, blobs: Vec<BlobId>) {
        let runs = self.machine.saved().rollout.is_some();
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        if runs && known.held.contains(&release) {
            // It puts back what drifted. A push for that would end the one that the rollout waits for;
            // it asks again.
            return;
        }
        known.mended = known.mended.saturating_add(1);
        if known.mended > MENDED_MAX {
            // Said once, however often it goes on asking.
            if known.mended == MENDED_MAX + 1 {
                let message = format!("held bytes were damaged {MENDED_MAX} times in a row");
                let failure = Failure::new("damaged", message);
                self.step_failed(node, release, "stage", failure);
            }
            return;
        }
        warn!(volume = %self.volume, %node, blobs = blobs.len(), "node found held bytes damaged");
        let line = Line::new(action::MISSING).release(Some(release)).node(node);
        self.journal.record(line.volume(&self.volume).event());
        let Some(known) = self.nodes.get(node) else {
            return;
        };
        let Some(session) = &known.session else {
            return;
        };
        let push = SessionCommand::Push {
            volume: self.volume.clone(),
            release,
            held: known.held.iter().copied().collect(),
            missing: blobs.into_iter().collect(),
        };
        send(&session.outbox, push).await;
        self.machine
            .handle(Event::Progress { node: node.clone() }, Instant::now());
    }

    /// A release whose files are not here, or not all of them.
    pub(super) fn not_sent(
        &mut self,
        (node, session): &(NodeName, SessionId),
        (release, failure): (ReleaseId, Failure),
    ) {
        if self.is_current(node, *session) {
            self.step_failed(node, release, "stage", failure);
        }
    }

    fn reported(&mut self, node: &NodeName, report: Report) {
        let Report { release, step, .. } = report;
        match step {
            Step::Receiving { .. } => {
                self.machine
                    .handle(Event::Progress { node: node.clone() }, Instant::now());
            }
            Step::Staged {
                received_bytes,
                elapsed_ms,
            } => {
                let mut event =
                    self.bus
                        .event(EventKind::NodeStaged, self.seq(release), Some(node.clone()));
                event.elapsed_ms = Some(elapsed_ms);
                event.bytes = Some(received_bytes);
                event.wave = self.wave_of(node, release);
                self.bus.tell_event(event);
                self.note(action::STAGED, node, release);
                self.staged(node, release);
            }
            Step::StageFailed(failure) => self.step_failed(node, release, "stage", failure),
            Step::Activated { elapsed_us } => {
                if let Some(known) = self.nodes.get_mut(node) {
                    known.activated();
                }
                let mut event = self.bus.event(
                    EventKind::NodeActivated,
                    self.seq(release),
                    Some(node.clone()),
                );
                event.elapsed_ms = Some(elapsed_us.div_ceil(1_000));
                event.wave = self.wave_of(node, release);
                self.bus.tell_event(event);
                self.note(action::ACTIVATED, node, release);
                self.machine.handle(
                    Event::Activated {
                        node: node.clone(),
                        release,
                    },
                    Instant::now(),
                );
            }
            Step::ActivateFailed(failure) => {
                self.step_failed(node, release, "activate", failure);
            }
            Step::Verified(verification) => self.verified(node, release, verification),
            Step::Returned(verification) => self.returned(node, release, verification),
        }
    }

    /// In which wave of the release's rollout a node is.
    fn wave_of(&self, node: &NodeName, release: ReleaseId) -> Option<u32> {
        let rollout = self.machine.saved().rollout.as_ref()?;
        let of_it = rollout.target.release == release;
        counted(self.machine.wave_of(node).filter(|_| of_it)?)
    }

    fn step_failed(
        &mut self,
        node: &NodeName,
        release: ReleaseId,
        step: &'static str,
        failure: Failure,
    ) {
        let retryable = failure.retryable;
        warn!(volume = %self.volume, %node, step, error = %failure.message, "step failed on node");
        let line = Line::new(action::FAILED)
            .release(Some(release))
            .node(node)
            .outcome(step);
        self.journal.record(
            line.volume(&self.volume)
                .detail(failure.message.as_str())
                .event(),
        );
        self.fail(node, release, step, failure);
        let event = Event::StepFailed {
            node: node.clone(),
            release,
            retryable,
        };
        self.machine.handle(event, Instant::now());
    }

    fn fail(&mut self, node: &NodeName, release: ReleaseId, step: &'static str, failure: Failure) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.failed(release, step, failure);
        }
        let mut event =
            self.bus
                .event(EventKind::NodeFailed, self.seq(release), Some(node.clone()));
        event.error = self.error_of(node);
        self.bus.tell_event(event);
    }

    fn verified(&mut self, node: &NodeName, release: ReleaseId, found: Verification) {
        let standing = standing(Some(&found));
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        known.verified(&found);
        self.note_found(action::VERIFIED, (node, release), &found);
        info!(volume = %self.volume, %node, evidence = %found.evidence, ?standing, "node verified");
        match (standing, found.failure) {
            (Standing::Broken, Some(failure)) => self.fail(node, release, "verify", failure),
            (_, failure) => {
                let mut event = self.bus.event(
                    EventKind::NodeVerified,
                    self.seq(release),
                    Some(node.clone()),
                );
                event.elapsed_ms = Some(found.elapsed_ms);
                event.evidence = Some(found.evidence);
                if let (Some(known), Some(failure)) = (self.nodes.get_mut(node), failure) {
                    known.failed(release, "verify", failure);
                    event.error = self.error_of(node);
                }
                self.bus.tell_event(event);
            }
        }
        let event = Event::Verified {
            node: node.clone(),
            release,
            standing,
        };
        self.machine.handle(event, Instant::now());
    }

    fn returned(&mut self, node: &NodeName, to: ReleaseId, found: Verification) {
        let from = self
            .machine
            .view()
            .nodes
            .get(node)
            .and_then(|view| view.active)
            .unwrap_or(to);
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        known.verified(&found);
        self.note_found(action::RETURNED, (node, to), &found);
        let mut event = self
            .bus
            .event(EventKind::NodeReturned, self.seq(to), Some(node.clone()));
        event.elapsed_ms = Some(found.elapsed_ms);
        event.evidence = Some(found.evidence);
        self.bus.tell_event(event);
        let standing = standing(Some(&found));
        let history = &self.history;
        self.machine
            .take_in(node, (to, standing), |release| history.seq(release));
        let moment = Instant::now();
        self.machine.handle(
            Event::Returned {
                node: node.clone(),
                from,
                to,
            },
            moment,
        );
        let event = Event::Verified {
            node: node.clone(),
            release: to,
            standing,
        };
        self.machine.handle(event, moment);
    }

    /// Writes down a step that a node took.
    pub(super) fn note(&self, action: &'static str, node: &NodeName, release: ReleaseId) {
        let line = Line::new(action).release(Some(release)).node(node);
        self.journal.record(line.volume(&self.volume).event());
    }

    fn note_found(
        &self,
        action: &'static str,
        (node, release): (&NodeName, ReleaseId),
        found: &Verification,
    ) {
        let line = Line::new(action)
            .release(Some(release))
            .node(node)
            .evidence(found.evidence)
            .outcome(match standing(Some(found)) {
                Standing::Broken => outcome::BROKEN,
                Standing::Unproven => outcome::UNPROVEN,
                Standing::Verifying | Standing::Good | Standing::Proven | Standing::Activated => {
                    outcome::GOOD
                }
            });
        let line = match &found.failure {
            Some(failure) => line.detail(failure.message.as_str()),
            None => line,
        };
        self.journal.record(line.volume(&self.volume).event());
    }
}
