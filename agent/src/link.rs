//! The link to the source: dials, says hello, hands orders to the volumes' tasks and pushes to
//! their receivers; dials again when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::hold::HoldReport;
use codevol_protocol::message::{
    AgentHello, FromAgent, FromSource, HOLD_MINOR, MINOR, PushHead, SourceHello,
};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::session::AgentSession;
use codevol_protocol::status::LinkState;
use codevol_protocol::trust::Trust;
use codevol_protocol::violation::Violation;
use codevol_store::journal::Event;
use codevol_store::recorder::Recorder;
use codevol_transport::{
    Alpn, Backoff, Changes, CloseCode, CloseReason, DialError, Dialer, FrameError, Link,
    LinkReader, LinkWriter,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::drift::{Asker, DriftHandle, DriftOrder};
use crate::identity::Identity;
use crate::metrics::AgentMetrics;
use crate::receive::{ReceiveError, Receiver};
use crate::rotate::{RotateAsker, Rotation};
use crate::speaker::Speaker;
use crate::task::{Order, ReplyTo};

/// How long one dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the source may take to say hello, or to take a message.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the source may take to hear the last of what is said.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many messages may wait for the link.
const OUTBOX_MAX: usize = 256;
/// How many pushes may arrive at once: one a volume, and those that were just reset.
const PUSHES_MAX: usize = 64;

/// The link's state, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// What was dialled last.
    pub address: String,
    /// How it stands.
    pub state: LinkState,
}

/// One volume, as the link sees it.
#[derive(Debug, Clone)]
pub struct Linked {
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
    /// Takes pushes.
    pub receiver: Receiver,
    /// Looks for drift.
    pub drift: DriftHandle,
}

/// What the link needs.
#[derive(Debug)]
pub struct LinkTask {
    /// Where the source is reached, tried in order.
    pub source: Vec<String>,
    /// This node's key and whom it believes.
    pub identity: Identity,
    /// The volumes.
    pub volumes: BTreeMap<VolumeName, Linked>,
    /// How the tasks speak.
    pub speaker: Speaker,
    /// Our build, for people.
    pub build: Text,
    /// Where breaches are noted.
    pub journal: Recorder,
    /// Where the state is shown.
    pub view: watch::Sender<LinkView>,
    /// Where bytes are counted.
    pub metrics: Arc<AgentMetrics>,
    /// Who asks for another key.
    pub(crate) asks: mpsc::Receiver<RotateAsker>,
    /// How far that is.
    pub(crate) rotation: Rotation,
    /// Whom to tell when something has changed.
    pub changes: Changes,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot reach the source")]
    Dial(#[from] DialError),
    #[error("the source ended the connection")]
    Closed(#[from] CloseReason),
    #[error("control stream failed")]
    Frame(#[from] FrameError),
    #[error("the source broke the protocol")]
    Violation(#[from] Violation),
    #[error("a push broke the protocol")]
    Push(#[source] ReceiveError),
    #[error("the source does not answer within {0:?}")]
    Silent(Duration),
    #[error("a volume's task does not answer within {0:?}")]
    Busy(Duration),
    #[error("a volume's task has ended")]
    Stopping,
    #[error("this node dials by another key now")]
    Rotating,
}

impl LinkError {
    fn closed(&self) -> Option<CloseCode> {
        match self {
            Self::Closed(reason)
            | Self::Frame(FrameError::Closed(reason))
            | Self::Dial(DialError::Closed { source: reason, .. }) => reason.code(),
            Self::Dial(_)
            | Self::Frame(_)
            | Self::Violation(_)
            | Self::Push(_)
            | Self::Silent(_)
            | Self::Busy(_)
            | Self::Rotating
            | Self::Stopping => None,
        }
    }

    fn violation(&self) -> Option<CloseCode> {
        match self {
            Self::Violation(_) | Self::Push(_) => Some(CloseCode::Violation),
            Self::Frame(error) => error.violation(),
            Self::Dial(_)
            | Self::Closed(_)
            | Self::Silent(_)
            | Self::Busy(_)
            | Self::Rotating
            | Self::Stopping => None,
        }
    }

    /// Whether a silent source was waited for: that was pause enough, and while a dial lasts it finds
    /// a source that comes back.
    fn has_waited(&self) -> bool {
        matches!(self, Self::Dial(DialError::TimedOut { .. }))
    }

    /// Whether a new link would end as this one did: one side thinks that the other broke a rule,
    /// or another host holds the same key.
    fn is_quarrel(&self) -> bool {
        let quarrels = [CloseCode::Violation, CloseCode::Replaced];
        self.violation().is_some() || self.closed().is_some_and(|code| quarrels.contains(&code))
    }
}

impl LinkTask {
    /// Keeps the link up until the daemon stops.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without this task the daemon is of no use: however it ends, by a panic too, all end.
        let _stop = shutdown.clone().drop_guard();
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            for address in self.source.clone() {
                let dialer = Dialer::new(self.rotation.key(&self.identity));
                let ended = self.link(&dialer, &address, &shutdown).await;
                self.speaker.set(None);
                let was_up = self.view.borrow().state == LinkState::Connected;
                if was_up && !ended.as_ref().is_err_and(LinkError::is_quarrel)
                    || ended.as_ref().is_err_and(LinkError::has_waited)
                {
                    backoff.reset();
                }
                if shutdown.is_cancelled() {
                    return;
                }
                if self.has_other_key(&ended) {
                    backoff.reset();
                    self.show(&address, LinkState::Connecting);
                } else {
                    self.ended(&address, &ended);
                }
            }
            let mut random = [0; 8];
            // Without randomness all agents would come back at once: a nuisance, not a fault.
            getrandom::fill(&mut random).unwrap_or_default();
            let delay = backoff.next(u64::from_le_bytes(random));
            tokio::select! {
                // Cancel-safe: both only wait.
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Whether the link ended because there is another key to dial by.
    fn has_other_key(&mut self, ended: &Result<(), LinkError>) -> bool {
        let Err(error) = ended else { return false };
        match error {
            LinkError::Rotating => true,
            error if error.closed() == Some(CloseCode::NotEnrolled) => {
                self.rotation.unknown(&self.identity)
            }
            _ => false,
        }
    }

    fn ended(&self, address: &str, ended: &Result<(), LinkError>) {
        let refused = [CloseCode::NotEnrolled, CloseCode::Revoked];
        let error = match ended {
            Ok(()) => return self.show(address, LinkState::Connecting),
            Err(error) => error,
        };
        if error.closed().is_some_and(|code| refused.contains(&code)) {
            if self.view.borrow().state != LinkState::Refused {
                error!(source = address, error = %Chain(error), "the source does not know this node: join again");
            }
            self.show(address, LinkState::Refused);
        } else {
            if self.view.borrow().state == LinkState::Connected {
                warn!(source = address, error = %Chain(error), "lost the source");
            } else {
                debug!(source = address, error = %Chain(error), "no link");
            }
            self.show(address, LinkState::Connecting);
        }
    }

    fn show(&self, address: &str, state: LinkState) {
        self.view.send_replace(LinkView {
            address: address.to_owned(),
            state,
        });
        self.changes.tell();
    }

    async fn link(
        &mut self,
        dialer: &Dialer,
        address: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), LinkError> {
        let pinned = self.identity.enrolment.get().source_key;
        let link = tokio::select! {
            // Cancel-safe: a dial that is dropped is given up.
            () = shutdown.cancelled() => return Ok(()),
            link = dialer.dial(address, Alpn::Node, &pinned, DIAL_TIMEOUT) => link?,
        };
        let _counted = self.metrics.traffic.enter(&link);
        let ended = self.serve(&link, address, shutdown).await;
        match &ended {
            Err(error) if error.violation().is_some() => {
                error!(source = address, error = %Chain(error), "closing the link");
                self.record("close", "violation", error);
                link.close(CloseCode::Violation, "protocol violation");
            }
            Err(_) | Ok(()) => link.close(CloseCode::Shutdown, ""),
        }
        link.drained().await;
        ended
    }

    async fn serve(
        &mut self,
        link: &Link,
        address: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), LinkError> {
        let (mut writer, mut reader) = link.open_control().await?;
        let (outbox, mut said) = mpsc::channel(OUTBOX_MAX);
        // Before `Hello` is made up: what happens between the two is said after it, and not lost.
        self.speaker.set(Some(outbox));
        let mut judge = AgentSession::new(self.volumes.keys().cloned().collect());
        let minor = self.greet((&mut writer, &mut reader), &mut judge).await?;
        self.show(address, LinkState::Connected);
        info!(source = address, "connected");
        let mut pushes: JoinSet<Result<(), ReceiveError>> = JoinSet::new();
        loop {
            // Cancel-safe: `read`, `recv`, `accept_push` and `join_next` keep what they have when
            // dropped; a write happens behind the select, and is never dropped. Answers go first: a
            // source that orders without end must not fill the queue that the tasks answer into.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    take_leave(link, (writer, minor), &mut said).await;
                    return Ok(());
                }
                Some(message) = said.recv() => say_known(&mut writer, Some(message), minor).await?,
                Some(received) = pushes.join_next() => match received {
                    Ok(Err(error)) if error.is_violation() => return Err(LinkError::Push(error)),
                    Ok(Err(error)) => warn!(error = %Chain(&error), "push failed"),
                    Ok(Ok(())) => {}
                    // The source sees no progress, and goes on without this node.
                    Err(ended) => error!(error = %ended, "receiving a push was broken off"),
                },
                message = reader.read::<FromSource>() => match message? {
                    Some(message) => {
                        judge.handle(&message)?;
                        let answer = self.hear(message).await?;
                        say_known(&mut writer, answer, minor).await?;
                    }
                    None => return Ok(()),
                },
                Some(asker) = self.asks.recv() => {
                    let message = self.rotation.asked(asker, minor, &mut self.identity);
                    say_known(&mut writer, message, minor).await?;
                }
                stream = link.accept_push(), if pushes.len() < PUSHES_MAX => {
                    let volumes = judge.volumes().clone();
                    pushes.spawn(self.receive(stream?, volumes));
                }
            }
        }
    }

    /// Says hello, and returns the minor version that the source speaks.
    async fn greet(
        &mut self,
        (writer, reader): (&mut LinkWriter, &mut LinkReader),
        judge: &mut AgentSession,
    ) -> Result<u16, LinkError> {
        // The task may itself wait for room to speak: nobody reads what it says before `Hello`.
        let hello = timeout(ANSWER_TIMEOUT, self.hello()).await;
        let hello = hello.or(Err(LinkError::Busy(ANSWER_TIMEOUT)))??;
        writer.write(&FromAgent::Hello(hello)).await?;
        let greeting = timeout(ANSWER_TIMEOUT, reader.read::<FromSource>()).await;
        let greeting = greeting.or(Err(LinkError::Silent(ANSWER_TIMEOUT)))??;
        let greeting = greeting.ok_or(Violation::NotGreeted)?;
        judge.handle(&greeting)?;
        let FromSource::Hello(SourceHello { minor, .. }) = greeting else {
            return Err(Violation::NotGreeted.into());
        };
        self.speaker.greeted(minor);
        for linked in self.volumes.values() {
            linked.drift.tell(DriftOrder::Greeted { minor });
        }
        self.say_holds(writer, minor).await?;
        let message = self.rotation.greeted(&mut self.identity);
        say_known(writer, message, minor).await?;
        Ok(minor)
    }

    fn record(&self, action: &'static str, outcome: &'static str, why: &dyn std::error::Error) {
        self.journal.record(Event {
            actor: Text::cut("source"),
            action: action.into(),
            volume: None,
            release: None,
            node: None,
            evidence: None,
            outcome: outcome.into(),
            detail: Some(Text::cut(Chain(why).to_string())),
        });
    }

    async fn hello(&self) -> Result<AgentHello, LinkError> {
        let mut volumes = Vec::new();
        for linked in self.volumes.values() {
            let (reply, described) = oneshot::channel();
            let sent = linked.orders.send(Order::Describe(reply)).await;
            sent.map_err(|_closed| LinkError::Stopping)?;
            let mut hello = described.await.map_err(|_dropped| LinkError::Stopping)?;
            hello.partial = linked.receiver.partial().await;
            volumes.push(hello);
        }
        let trust_epoch = self.identity.trust.epoch;
        Ok(AgentHello {
            minor: MINOR,
            build: self.build.clone(),
            trust_epoch,
            volumes,
        })
    }

    /// Says where a person holds this node, to a source that waits for that.
    async fn say_holds(&self, writer: &mut LinkWriter, minor: u16) -> Result<(), LinkError> {
        if minor < HOLD_MINOR {
            return Ok(());
        }
        let holds = timeout(ANSWER_TIMEOUT, self.holds()).await;
        let holds = holds.or(Err(LinkError::Busy(ANSWER_TIMEOUT)))??;
        say(writer, &FromAgent::Holds(holds)).await
    }

    /// Returns where a person holds this node. What changes from here on is said behind it.
    async fn holds(&self) -> Result<Vec<HoldReport>, LinkError> {
        let mut holds = Vec::new();
        for linked in self.volumes.values() {
            let (reply, held) = oneshot::channel();
            let sent = linked.orders.send(Order::Held(reply)).await;
            sent.map_err(|_closed| LinkError::Stopping)?;
            holds.push(held.await.map_err(|_dropped| LinkError::Stopping)?);
        }
        Ok(holds)
    }

    /// Takes in what the source says, and returns what is to be answered at once.
    async fn hear(&mut self, message: FromSource) -> Result<Option<FromAgent>, LinkError> {
        let (volume, order) = match message {
            FromSource::Hello(_) => return Ok(None),
            FromSource::Trust(trust) => {
                if let Err(error) = tokio::task::block_in_place(|| self.identity.believe(trust)) {
                    error!(error = %Chain(&error), "trust record is not taken");
                    self.record("trust", "refused", &error);
                }
                return Ok(None);
            }
            // A push that is not wanted any more ends with its stream.
            FromSource::Cancel { .. } => return Ok(None),
            FromSource::Ping { nonce } => return Ok(Some(FromAgent::Pong { nonce })),
            FromSource::Soon { volume } => {
                if let Some(linked) = self.volumes.get(&volume) {
                    linked.receiver.get_ready();
                }
                return Ok(None);
            }
            FromSource::Records { volume, above } => return Ok(self.records(volume, above)),
            FromSource::Rotating { key, refused } => {
                let identity = &mut self.identity;
                return if self.rotation.answered(key, refused.as_ref(), identity) {
                    Err(LinkError::Rotating)
                } else {
                    Ok(None)
                };
            }
            FromSource::Activate { volume, release } => (volume, Order::Activate(release)),
            FromSource::Return { volume, release } => (volume, Order::Return(release)),
            FromSource::Live { volume, live, .. } => (volume, Order::Live(live)),
            FromSource::Hold { volume, ask, order } => {
                (volume, Order::Hold(order, ReplyTo::Source(ask)))
            }
            FromSource::Verify { volume, ask, depth } => {
                let asker = Asker::Source(ask);
                self.look(&volume, DriftOrder::Look { depth, asker });
                return Ok(None);
            }
            FromSource::Rules { volume, rules } => {
                self.look(&volume, DriftOrder::Rules(rules));
                return Ok(None);
            }
        };
        let Some(linked) = self.volumes.get(&volume) else {
            return Ok(None);
        };
        // The task may itself wait for room to answer: without an end, each would wait for the other.
        let sent = timeout(ANSWER_TIMEOUT, linked.orders.send(order)).await;
        sent.or(Err(LinkError::Busy(ANSWER_TIMEOUT)))?
            .map_err(|_closed| LinkError::Stopping)?;
        Ok(None)
    }

    /// Hands out what a source that was restored from a backup has lost.
    fn records(&self, volume: VolumeName, above: Seq) -> Option<FromAgent> {
        let root = &self.volumes.get(&volume)?.receiver.root;
        let records = tokio::task::block_in_place(|| {
            let root = root.lock().unwrap_or_else(PoisonError::into_inner);
            root.records_above(above)
        });
        Some(FromAgent::Records { volume, records })
    }

    /// Hands an order to the task that looks for drift. One that it does not take is asked for again,
    /// or not answered: that is said.
    fn look(&self, volume: &VolumeName, order: DriftOrder) {
        if let Some(linked) = self.volumes.get(volume) {
            linked.drift.tell(order);
        }
    }

    fn receive(
        &self,
        mut stream: LinkReader,
        volumes: BTreeSet<VolumeName>,
    ) -> impl Future<Output = Result<(), ReceiveError>> + Send + 'static {
        let trust: Trust = self.identity.trust.clone();
        let linked: BTreeMap<VolumeName, (Receiver, mpsc::Sender<Order>)> = self
            .volumes
            .iter()
            .map(|(name, linked)| {
                let (receiver, orders) = (linked.receiver.clone(), linked.orders.clone());
                (name.clone(), (receiver, orders))
            })
            .collect();
        async move {
            let head = timeout(ANSWER_TIMEOUT, stream.read::<PushHead>()).await;
            let head = head.map_err(|_elapsed| FrameError::Slow)??;
            let head = head.ok_or(Violation::PushLength("less"))?;
            let unknown = || Violation::UnknownVolume(head.volume.clone());
            if !volumes.contains(&head.volume) {
                return Err(unknown().into());
            }
            let (receiver, orders) = linked.get(&head.volume).ok_or_else(unknown)?;
            let received = receiver.receive(head, stream, &trust).await?;
            if received.is_some() && orders.try_send(Order::Tidy).is_err() {
                debug!(volume = %receiver.volume, "tidied with the next release");
            }
            Ok(())
        }
    }
}

/// Says what is left to say, and waits until the source has heard it: it then ends the link. From one
/// that does not listen it hears how things stand in the next `Hello`.
async fn take_leave(
    link: &Link,
    (mut writer, minor): (LinkWriter, u16),
    said: &mut mpsc::Receiver<FromAgent>,
) {
    let heard = async {
        while let Ok(message) = said.try_recv() {
            if message.since() <= minor {
                writer.write(&message).await?;
            }
        }
        writer.finish().await?;
        link.closed().await;
        Ok::<_, FrameError>(())
    };
    if !matches!(timeout(LEAVE_TIMEOUT, heard).await, Ok(Ok(()))) {
        debug!("the source may not have heard all");
    }
}

/// Says a message, if there is one that the source knows: an older one would take it for a breach.
async fn say_known(
    writer: &mut LinkWriter,
    message: Option<FromAgent>,
    minor: u16,
) -> Result<(), LinkError> {
    match message.filter(|message| message.since() <= minor) {
        Some(message) => say(writer, &message).await,
        None => Ok(()),
    }
}

async fn say(writer: &mut LinkWriter, message: &FromAgent) -> Result<(), LinkError> {
    let written = timeout(ANSWER_TIMEOUT, writer.write(message)).await;
    Ok(written.or(Err(LinkError::Silent(ANSWER_TIMEOUT)))??)
}

#[cfg(test)]
mod tests;
