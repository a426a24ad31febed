//! The task that owns a volume's rollout machine.
//!
//! ```text
//!   publisher, sessions, operators --Input--> task --Event--> machine
//!   sessions <--SessionCommand-- task <--Output-- machine
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::hold::HoldReport;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{FromSource, VolumeHello};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::{Origin, Seq};
use codevol_protocol::rollout::{Event, Frozen, Intent, Machine, Policy};
use codevol_protocol::status::EventKind;
use codevol_protocol::story::action;
use codevol_store::recorder::Recorder;
use codevol_store::register::Register;
use codevol_transport::Changes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::drift::Questions;
use super::handle::{FleetHandle, FleetView, Input, SessionCommand, SessionId};
use super::hold::HoldOrders;
use super::kept::Kept;
use super::known::{Known, Session, standing};
use crate::bus::{Bus, now};
use crate::history::History;
use crate::journal::Line;
use crate::metrics::VolumeMetrics;

/// How many inputs may wait for the task.
const INBOX_MAX: usize = 1_024;

/// What the task is made of.
#[derive(Debug)]
pub struct FleetParts {
    /// The volume.
    pub volume: VolumeName,
    /// The volume's releases.
    pub history: Arc<History>,
    /// Where the fleet's state is kept.
    pub kept: Register<Kept>,
    /// The source's journal.
    pub journal: Recorder,
    /// The members.
    pub enrolled: BTreeSet<NodeName>,
    /// How releases go through the fleet.
    pub policy: Policy,
    /// Stops the daemon.
    pub failed: CancellationToken,
    /// Where rollouts are counted.
    pub metrics: Arc<VolumeMetrics>,
    /// Whom to tell when something has changed.
    pub changes: Changes,
}

/// The task: [`Self::run`] it.
#[derive(Debug)]
pub struct FleetTask {
    pub(super) volume: VolumeName,
    pub(super) history: Arc<History>,
    pub(super) kept: Register<Kept>,
    pub(super) journal: Recorder,
    pub(super) machine: Machine,
    pub(super) nodes: BTreeMap<NodeName, Known>,
    pub(super) bus: Bus,
    pub(super) inbox: mpsc::Receiver<Input>,
    /// Cancelled where going on would be worse than stopping.
    pub(super) failed: CancellationToken,
    pub(super) view: watch::Sender<FleetView>,
    /// What nodes were asked.
    pub(super) questions: Questions,
    /// What persons asked of nodes.
    pub(super) orders: HoldOrders,
    pub(super) metrics: Arc<VolumeMetrics>,
    changes: Changes,
}

impl FleetTask {
    /// Makes the task and the handle to it. Releases that the machine was not told of before the
    /// last stop are told to it now.
    #[must_use]
    pub fn new(parts: FleetParts) -> (Self, FleetHandle) {
        let FleetParts {
            volume,
            history,
            kept,
            journal,
            enrolled,
            policy,
            failed,
            metrics,
            changes,
        } = parts;
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let nodes = enrolled
            .iter()
            .map(|node| (node.clone(), Known::default()))
            .collect();
        let saved = kept.get().saved.clone();
        let machine = Machine::restore(saved, enrolled, policy, Instant::now());
        let bus = Bus::new(volume.clone());
        let (view, seen) = watch::channel(FleetView::default());
        let handle = FleetHandle {
            inbox: sender,
            view: seen,
            bus: bus.clone(),
        };
        let task = Self {
            volume,
            history,
            kept,
            journal,
            machine,
            nodes,
            bus,
            inbox,
            failed,
            view,
            questions: Questions::default(),
            orders: HoldOrders::default(),
            metrics,
            changes,
        };
        task.show();
        (task, handle)
    }

    /// Runs until the daemon stops.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without this task the daemon is of no use: however it ends, by a panic too, all end.
        let _stop = shutdown.clone().drop_guard();
        let line = Line::new(action::START).volume(&self.volume);
        self.journal.record(line.event());
        for release in self.history.releases() {
            // One that the machine was not told of before the last stop: what made it says who
            // wanted it.
            let seq = release.seq();
            let intent = match release.release().origin {
                // A baseline is in no source's log.
                Origin::Watch | Origin::Baseline => Intent::Watched,
                Origin::Push | Origin::HotFix | Origin::Rollback => Intent::Wanted,
            };
            let event = Event::Published {
                release: release.id(),
                seq,
                intent,
            };
            self.machine.handle(event, Instant::now());
        }
        if !self.carry_out().await {
            return;
        }
        loop {
            let timeout = self
                .machine
                .poll_timeout()
                .map(tokio::time::Instant::from_std);
            let due = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let (mut done, mut is_news) = (None, true);
            // Cancel-safe: each arm loses nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = due => self.machine.handle_timeout(Instant::now()),
                input = self.inbox.recv() => match input {
                    Some(input) => {
                        is_news = input.is_news();
                        done = self.take(input).await;
                    }
                    None => break,
                },
            }
            // Not durable, not done: whoever asked is told that the daemon stops.
            if !self.carry_out().await {
                return;
            }
            if is_news {
                self.changes.tell();
            }
            if let Some(done) = done {
                done.send(()).unwrap_or_default();
            }
        }
    }

    /// Takes something in, and returns whom to tell when what follows from it is done.
    async fn take(&mut self, input: Input) -> Option<oneshot::Sender<()>> {
        match input {
            Input::Published { release, intent } => self.published(release, intent),
            Input::Online {
                node,
                session,
                minor,
                hello,
                hold,
                outbox,
            } => {
                let session = Session::new(session, minor, outbox);
                let hold = hold.map(|hold| *hold);
                self.online(node, session, (&hello, hold)).await;
            }
            Input::Heard {
                node,
                session,
                message,
            } => {
                if self.is_current(&node, session) {
                    self.heard(&node, message).await;
                }
            }
            Input::NotSent { of, why } => self.not_sent(&of, why),
            Input::Offline { node, session } => {
                if self.is_current(&node, session) {
                    self.is_gone(&node).await;
                    self.offline(node);
                }
            }
            Input::Enrolled { node } => {
                self.nodes.entry(node.clone()).or_default();
                self.machine
                    .handle(Event::Enrolled { node }, Instant::now());
            }
            Input::Removed { node } => {
                self.is_gone(&node).await;
                self.nodes.remove(&node);
                self.machine.handle(Event::Removed { node }, Instant::now());
            }
            Input::Freeze { frozen, done } => {
                self.freeze(frozen);
                return Some(done);
            }
            Input::Thaw { by, why, done } => {
                self.thaw(&by, &why);
                return Some(done);
            }
            Input::Behind { node, lost, done } => {
                return self.behind(&node, lost).await.then_some(done);
            }
            Input::Retry { release, by, done } => {
                let line = Line::new(action::RETRY).volume(&self.volume).actor(&by);
                self.journal.record(line.release(Some(release)).event());
                self.machine
                    .handle(Event::Retry { release }, Instant::now());
                return Some(done);
            }
            Input::Verify { depth, only, asker } => {
                self.verify(depth, only.as_ref(), asker).await;
            }
            Input::Soon => self.soon(),
            // Whoever asked may be gone by now; then nobody misses the answer.
            Input::Status { reply } => drop(reply.send(self.status())),
            Input::Ping { node, reply } => self.ping(&node, reply),
            Input::Order { node, order, reply } => self.order(node, order, reply).await,
            Input::Settled { release, reply } => drop(reply.send(self.settled(release))),
        }
        None
    }

    /// Tells the agents that a push may follow. One with a full outbox has more to do than to wait for it.
    fn soon(&self) {
        for session in self
            .nodes
            .values()
            .filter_map(|known| known.session.as_ref())
        {
            let volume = self.volume.clone();
            let say = SessionCommand::Say(FromSource::Soon { volume });
            if session.outbox.try_send(say).is_err() {
                debug!(volume = %self.volume, "a node is not told that a release may come");
            }
        }
    }

    pub(super) fn freeze(&mut self, frozen: Frozen) {
        let line = Line::new(action::FREEZE).volume(&self.volume);
        let line = line.actor(&frozen.by).detail(frozen.why.as_str());
        self.journal.record(line.event());
        self.machine.handle(Event::Freeze(frozen), Instant::now());
    }

    fn thaw(&mut self, by: &Text, why: &Text) {
        let line = Line::new(action::THAW).volume(&self.volume).actor(by);
        self.journal.record(line.why(why).event());
        self.machine.handle(Event::Thaw, Instant::now());
    }

    pub(super) fn is_current(&self, node: &NodeName, session: SessionId) -> bool {
        let known = self.nodes.get(node);
        known.is_some_and(|known| known.is_session(session))
    }

    fn published(&mut self, release: ReleaseId, intent: Intent) {
        let Some(seq) = self.seq(release) else { return };
        self.bus
            .tell_event(self.bus.event(EventKind::ReleasePublished, Some(seq), None));
        self.machine.handle(
            Event::Published {
                release,
                seq,
                intent,
            },
            Instant::now(),
        );
    }

    /// A connection that ended took along what was asked on it.
    async fn is_gone(&mut self, node: &NodeName) {
        self.will_not_answer(node).await;
        self.will_not_obey(node);
    }

    async fn online(
        &mut self,
        node: NodeName,
        session: Session,
        (hello, hold): (&VolumeHello, Option<HoldReport>),
    ) {
        // There may have been a connection before this one.
        self.is_gone(&node).await;
        let outbox = session.outbox.clone();
        self.nodes
            .entry(node.clone())
            .or_default()
            .greet(session, hello, now());
        self.tell_live_to(&outbox).await;
        self.bus.tell_event(
            self.bus
                .event(EventKind::NodeOnline, None, Some(node.clone())),
        );
        let active = hello.active.as_ref();
        let release = active.map(|active| active.release);
        let line = Line::new(action::ONLINE).release(release).node(&node);
        let line = match self.nodes.get(&node).and_then(|known| known.evidence) {
            Some(evidence) => line.evidence(evidence),
            None => line,
        };
        self.journal.record(line.volume(&self.volume).event());
        self.greets(&node, hold);
        let stands = standing(active.and_then(|active| active.verification.as_ref()));
        if let Some(release) = release {
            let history = &self.history;
            self.machine
                .take_in(&node, (release, stands), |release| history.seq(release));
        }
        let event = Event::Online {
            node,
            held: hello.held.clone(),
            active: release,
            standing: stands,
        };
        self.machine.handle(event, Instant::now());
    }

    fn offline(&mut self, node: NodeName) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.session = None;
            known.last_seen_at = Some(now());
        }
        let line = Line::new(action::OFFLINE).node(&node);
        self.journal.record(line.volume(&self.volume).event());
        self.bus.tell_event(
            self.bus
                .event(EventKind::NodeOffline, None, Some(node.clone())),
        );
        self.machine.handle(Event::Offline { node }, Instant::now());
    }

    pub(super) fn seq(&self, release: ReleaseId) -> Option<Seq> {
        self.history.seq(release)
    }
}
