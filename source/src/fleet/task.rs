//! The task that owns a volume's rollout machine.
//!
//! ```text
//!   publisher, sessions, operators --Input--> task --Event--> machine
//!   sessions <--SessionCommand-- task <--Output-- machine
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::FromSource;
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::release::{Origin, Seq, UnixMillis};
use codevol_protocol::rollout::{self, Command, Event, Intent, Machine, Output, Saved};
use codevol_protocol::status::{EventKind, NodeError, NodeState, Outcome, OutcomeKind};
use codevol_store::recorder::Recorder;
use codevol_store::register::Register;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::handle::{FleetHandle, FleetView, Input, SessionCommand};
use super::known::{Failed, Known, Session, standing};
use codevol_protocol::chain::Chain;

use crate::bus::{Bus, Notice, now};
use crate::history::History;
use crate::journal::Line;

/// How many inputs may wait for the task.
const INBOX_MAX: usize = 1_024;
/// How long a node may take for a verdict, its own `verify_timeout` and a way back included.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(90);

/// What the task is made of.
#[derive(Debug)]
pub struct FleetParts {
    /// The volume.
    pub volume: VolumeName,
    /// The volume's releases.
    pub history: Arc<History>,
    /// Where the machine's state is kept.
    pub saved: Register<Saved>,
    /// The source's journal.
    pub journal: Recorder,
    /// The members.
    pub enrolled: BTreeSet<NodeName>,
    /// Stops the daemon.
    pub failed: CancellationToken,
}

/// The task: [`Self::run`] it.
#[derive(Debug)]
pub struct FleetTask {
    pub(super) volume: VolumeName,
    pub(super) history: Arc<History>,
    saved: Register<Saved>,
    pub(super) journal: Recorder,
    pub(super) machine: Machine,
    pub(super) nodes: BTreeMap<NodeName, Known>,
    pub(super) started_at: Option<UnixMillis>,
    pub(super) bus: Bus,
    inbox: mpsc::Receiver<Input>,
    /// Cancelled where going on would be worse than stopping.
    failed: CancellationToken,
    view: watch::Sender<FleetView>,
}

impl FleetTask {
    /// Makes the task and the handle to it. Releases that the machine was not told of before the
    /// last stop are told to it now.
    #[must_use]
    pub fn new(parts: FleetParts) -> (Self, FleetHandle) {
        let FleetParts {
            volume,
            history,
            saved,
            journal,
            enrolled,
            failed,
        } = parts;
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let nodes = enrolled
            .iter()
            .map(|node| (node.clone(), Known::default()))
            .collect();
        let machine = Machine::restore(
            saved.get().clone(),
            enrolled,
            VERIFY_TIMEOUT,
            Instant::now(),
        );
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
            saved,
            journal,
            machine,
            nodes,
            started_at: None,
            bus,
            inbox,
            failed,
            view,
        };
        task.show();
        (task, handle)
    }

    /// Runs until the daemon stops.
    pub async fn run(mut self, shutdown: CancellationToken) {
        for release in self.history.releases() {
            // One that the machine was not told of before the last stop: what made it says who
            // wanted it.
            let seq = release.seq();
            let intent = match release.release().origin {
                Origin::Watch => Intent::Watched,
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
            // Cancel-safe: each arm loses nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = due => self.machine.handle_timeout(Instant::now()),
                input = self.inbox.recv() => match input {
                    Some(input) => self.take(input).await,
                    None => break,
                },
            }
            if !self.carry_out().await {
                return;
            }
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Published { release, intent } => self.published(release, intent),
            Input::Online {
                node,
                session,
                hello,
                outbox,
            } => {
                let session = Session {
                    id: session,
                    outbox,
                };
                self.online(node, session, &hello).await;
            }
            Input::Heard {
                node,
                session,
                message,
            } => {
                if self
                    .nodes
                    .get(&node)
                    .is_some_and(|known| known.is_session(session))
                {
                    self.heard(&node, message).await;
                }
            }
            Input::Offline { node, session } => {
                if self
                    .nodes
                    .get(&node)
                    .is_some_and(|known| known.is_session(session))
                {
                    self.offline(node);
                }
            }
            Input::Enrolled { node } => {
                self.nodes.entry(node).or_default();
            }
            Input::Removed { node } => {
                self.nodes.remove(&node);
                self.machine.handle(Event::Removed { node }, Instant::now());
            }
            Input::Freeze { frozen, done } => {
                self.machine.handle(Event::Freeze(frozen), Instant::now());
                // Not durable, not done: whoever asked is told that the daemon stops.
                if self.carry_out().await {
                    done.send(()).unwrap_or_default();
                }
            }
            Input::Thaw { done } => {
                self.machine.handle(Event::Thaw, Instant::now());
                // Not durable, not done: whoever asked is told that the daemon stops.
                if self.carry_out().await {
                    done.send(()).unwrap_or_default();
                }
            }
            Input::Retry { release, done } => {
                self.machine
                    .handle(Event::Retry { release }, Instant::now());
                // Not durable, not done: whoever asked is told that the daemon stops.
                if self.carry_out().await {
                    done.send(()).unwrap_or_default();
                }
            }
            // Whoever asked may be gone by now; then nobody misses the answer.
            Input::Status { reply } => drop(reply.send(self.status())),
            Input::Settled { release, reply } => drop(reply.send(self.settled(release))),
        }
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

    async fn online(
        &mut self,
        node: NodeName,
        session: Session,
        hello: &codevol_protocol::message::VolumeHello,
    ) {
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
        let event = Event::Online {
            node,
            held: hello.held.clone(),
            active: active.map(|active| active.release),
            standing: standing(active.and_then(|active| active.verification.as_ref())),
        };
        self.machine.handle(event, Instant::now());
    }

    fn offline(&mut self, node: NodeName) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.session = None;
            known.last_seen_at = Some(now());
        }
        self.bus.tell_event(
            self.bus
                .event(EventKind::NodeOffline, None, Some(node.clone())),
        );
        self.machine.handle(Event::Offline { node }, Instant::now());
    }

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
                    if !self.save(saved) {
                        return false;
                    }
                }
                Output::Ask { node, command } => self.ask(&node, command).await,
                Output::Started(release) => {
                    self.started_at = Some(now());
                    info!(volume = %self.volume, release = %self.named(release), "rollout began");
                }
                Output::Quarantined { release, node } => {
                    warn!(volume = %self.volume, release = %self.named(release), %node, "release is broken");
                    let line = Line::new("quarantined").release(Some(release)).node(&node);
                    self.journal.record(line.volume(&self.volume).event());
                }
                Output::HeldBack(release) => {
                    info!(volume = %self.volume, release = %self.named(release), "release waits for a person");
                    let line = Line::new("held")
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
        let saved = tokio::task::block_in_place(|| self.saved.replace(saved));
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
        let seq = release.and_then(|release| self.seq(release));
        info!(volume = %self.volume, live = seq.map(|seq| seq.to_string()), "live moved");
        let line = Line::new("live").release(release).volume(&self.volume);
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

    async fn tell_live_to(&self, outbox: &mpsc::Sender<SessionCommand>) {
        let live = self.machine.live().and_then(|id| Some((self.seq(id)?, id)));
        let head = self.history.head().map(|head| head.seq());
        let say = FromSource::Live {
            volume: self.volume.clone(),
            live,
            head,
        };
        send(outbox, SessionCommand::Say(say)).await;
    }

    fn ended(&mut self, ended: &rollout::Outcome) {
        self.started_at = None;
        let Some(outcome) = self.outcome(ended) else {
            return;
        };
        let word = if ended.live { "done" } else { "failed" };
        info!(volume = %self.volume, release = %outcome.release, returned = ended.returned, "rollout {word}");
        let line = Line::new("rollout")
            .release(Some(ended.release))
            .outcome(word);
        self.journal.record(line.volume(&self.volume).event());
        self.show();
        self.bus.tell(Notice::Outcome(Box::new(outcome)));
    }

    pub(super) fn outcome(&self, ended: &rollout::Outcome) -> Option<Outcome> {
        let error = ended
            .broken_on
            .as_ref()
            .and_then(|node| self.error_of(node));
        Some(Outcome {
            event: if ended.live {
                OutcomeKind::Done
            } else {
                OutcomeKind::Failed
            },
            at: now(),
            volume: self.volume.clone(),
            release: self.seq(ended.release)?,
            live: self.machine.live().and_then(|live| self.seq(live)),
            returned: ended.returned,
            nodes: self.with_joining(ended.nodes.clone()),
            error: error.or_else(|| {
                let failed = self.nodes.keys().filter_map(|node| self.error_of(node));
                failed
                    .into_iter()
                    .find(|error| !ended.live && self.seq(ended.release) == Some(error.release))
            }),
        })
    }

    /// Adds the members that the machine has not met: they never connected.
    fn with_joining(
        &self,
        mut nodes: BTreeMap<NodeName, NodeState>,
    ) -> BTreeMap<NodeName, NodeState> {
        for name in self.nodes.keys() {
            nodes.entry(name.clone()).or_insert(NodeState::Joining);
        }
        nodes
    }

    pub(super) fn error_of(&self, node: &NodeName) -> Option<NodeError> {
        let Failed {
            release,
            step,
            failure,
        } = self.nodes.get(node)?.error.as_ref()?;
        Some(NodeError::new(
            node.clone(),
            self.seq(*release)?,
            step,
            failure,
        ))
    }

    pub(super) fn seq(&self, release: ReleaseId) -> Option<Seq> {
        self.history.by_id(release).map(|release| release.seq())
    }

    fn named(&self, release: ReleaseId) -> String {
        self.seq(release)
            .map_or_else(|| release.short(), |seq| seq.to_string())
    }

    fn show(&self) {
        let view = self.machine.view();
        let saved = self.machine.saved();
        let lived = saved.lived.iter().map(|lived| lived.release);
        let waiting = saved.waiting.iter().map(|waiting| waiting.release);
        let running = saved.rollout.iter().map(|rollout| rollout.target.release);
        let shown = FleetView {
            needed: lived.chain(waiting).chain(running).collect(),
            live: view.live,
            previous: view.previous,
            frozen: view.frozen,
            quarantined: view.quarantined.iter().map(|entry| entry.release).collect(),
        };
        self.view.send_if_modified(|seen| {
            let changed = *seen != shown;
            *seen = shown;
            changed
        });
    }
}

pub(super) async fn send(outbox: &mpsc::Sender<SessionCommand>, command: SessionCommand) {
    // A session that is gone has told so, or will: the machine then knows what to do.
    outbox.send(command).await.unwrap_or_default();
}
