//! One connection of one agent: judges what it says, hands it to the fleets of its volumes, and
//! says and sends what they ask for.

mod lost;
mod ping;
mod running;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::delta::Position;
use codevol_protocol::hold::HoldReport;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::key::PublicKey;
use codevol_protocol::message::{
    AgentHello, FromAgent, FromSource, HOLD_MINOR, MINOR, Partial, SourceHello,
};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::session::SourceSession;
use codevol_protocol::trust::{SignedTrust, Trust};
use codevol_protocol::violation::Violation;
use codevol_transport::{CloseCode, CloseReason, FrameError, Link, LinkReader, LinkWriter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::ping::Pings;
pub(crate) use self::running::REVOKED;
pub use self::running::{Entered, Sessions};
use crate::fleet::{FleetHandle, SessionCommand, SessionId};
use crate::join::Door;
use crate::push::{self, PushError, Pushed, Wanted};
use crate::volume::Volume;

/// How long a peer may take to open its control stream and say hello, or to take a message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message may wait for a peer that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How many commands may wait for a session.
const OUTBOX_MAX: usize = 256;

/// What every session needs of the daemon.
#[derive(Debug, Clone)]
pub struct SessionContext {
    /// The volumes, by name.
    pub volumes: Arc<BTreeMap<VolumeName, Volume>>,
    /// What is said first besides hello: the newest trust record.
    pub trust: SignedTrust,
    /// What it says.
    pub believed: Arc<Trust>,
    /// Our build, for people.
    pub build: Text,
    /// Who belongs to the fleet, and by which keys.
    pub door: Door,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The peer broke a rule.
    #[error("peer broke the protocol")]
    Violation(#[from] Violation),
    /// A frame could not be read or written.
    #[error("control stream failed")]
    Frame(#[from] FrameError),
    /// The link ended.
    #[error("link ended")]
    Closed(#[from] CloseReason),
    /// The peer did not say hello, or does not take what is said.
    #[error("peer does not answer within {0:?}")]
    Silent(Duration),
    /// An agent made a call.
    #[error("an agent may make no calls")]
    Calls,
    /// The fleet takes no message.
    #[error("fleet takes no message within {0:?}")]
    Busy(Duration),
}

impl SessionError {
    /// Returns the code that tells the peer, where it is at fault.
    #[must_use]
    pub fn violation(&self) -> Option<CloseCode> {
        match self {
            Self::Violation(_) | Self::Silent(_) => Some(CloseCode::Violation),
            Self::Calls => Some(CloseCode::NotPermitted),
            Self::Frame(error) => error.violation(),
            Self::Closed(_) | Self::Busy(_) => None,
        }
    }
}

/// Runs a session until its link ends or `stop` is cancelled.
///
/// # Errors
/// When the peer broke a rule or the link failed.
pub async fn run(
    context: SessionContext,
    link: Link,
    (node, id, key): (NodeName, SessionId, PublicKey),
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let opening = timeout(HELLO_TIMEOUT, open(&context, (&link, key), &node));
    let (mut session, writer, reader) = opening
        .await
        .or(Err(SessionError::Silent(HELLO_TIMEOUT)))??;
    let (outbox, commands) = mpsc::channel(OUTBOX_MAX);
    session.outbox = Some(outbox.clone());
    let minor = session.hello.minor;
    for hello in std::mem::take(&mut session.hello.volumes) {
        session
            .partial
            .extend(hello.partial.map(|partial| (hello.volume.clone(), partial)));
        if let Some(volume) = context.volumes.get(&hello.volume) {
            session
                .fleets
                .insert(hello.volume.clone(), volume.fleet.clone());
            let hold = session
                .holds
                .iter()
                .find(|hold| hold.volume == hello.volume);
            let hello = (hello, hold.cloned());
            volume
                .fleet
                .online(node.clone(), (id, minor), hello, outbox.clone())
                .await;
        }
    }
    info!(%node, remote = %link.remote_address(), "node connected");
    let ended = session
        .serve((writer, reader), commands, (&node, id), stop)
        .await;
    for fleet in session.fleets.values() {
        fleet.offline(node.clone(), id).await;
    }
    match &ended {
        Ok(()) => info!(%node, "node disconnected"),
        Err(error) => info!(%node, error = %Chain(error), "node disconnected"),
    }
    ended
}

struct Session {
    context: SessionContext,
    link: Link,
    hello: AgentHello,
    holds: Vec<HoldReport>,
    /// What was said while the log took in what it lacked.
    early: Vec<FromAgent>,
    judge: SourceSession,
    fleets: BTreeMap<VolumeName, FleetHandle>,
    partial: BTreeMap<VolumeName, Partial>,
    pushes: JoinSet<(Pushed, Result<(), PushError>)>,
    pushing: BTreeMap<VolumeName, (ReleaseId, tokio::task::AbortHandle)>,
    pings: Pings,
    /// The key that opened the link.
    key: PublicKey,
    /// By which this session says something itself.
    outbox: Option<mpsc::Sender<SessionCommand>>,
}

async fn open(
    context: &SessionContext,
    (link, key): (&Link, PublicKey),
    node: &NodeName,
) -> Result<(Session, LinkWriter, LinkReader), SessionError> {
    let (mut writer, mut reader) = link.accept_control().await?;
    let message: Option<FromAgent> = reader.read().await?;
    let Some(message) = message else {
        return Err(Violation::NotGreeted.into());
    };
    let mut judge = SourceSession::default();
    judge.handle(&message)?;
    let FromAgent::Hello(hello) = message else {
        return Err(Violation::NotGreeted.into());
    };
    let greeting = SourceHello {
        minor: MINOR,
        build: context.build.clone(),
        node: node.clone(),
    };
    writer.write(&FromSource::Hello(greeting)).await?;
    if hello.trust_epoch < context.believed.epoch {
        writer
            .write(&FromSource::Trust(context.trust.clone()))
            .await?;
    }
    let holds = if hello.minor >= HOLD_MINOR {
        hear_holds(&mut reader, &mut judge).await?
    } else {
        Vec::new()
    };
    let channel = (&mut writer, &mut reader);
    let early = lost::take_in(context, (&hello, node), channel, &mut judge).await?;
    let session = Session {
        context: context.clone(),
        link: link.clone(),
        hello,
        holds,
        early,
        judge,
        fleets: BTreeMap::new(),
        partial: BTreeMap::new(),
        pushes: JoinSet::new(),
        pushing: BTreeMap::new(),
        pings: Pings::default(),
        key,
        outbox: None,
    };
    Ok((session, writer, reader))
}

/// Before a node is asked for anything it must be known whether a person holds it: that is its second
/// word.
async fn hear_holds(
    reader: &mut LinkReader,
    judge: &mut SourceSession,
) -> Result<Vec<HoldReport>, SessionError> {
    let message: Option<FromAgent> = reader.read().await?;
    let Some(message) = message else {
        return Err(Violation::HoldsUnsaid.into());
    };
    judge.handle(&message)?;
    match message {
        FromAgent::Holds(holds) => Ok(holds),
        _ => Err(Violation::HoldsUnsaid.into()),
    }
}

impl Session {
    async fn serve(
        &mut self,
        (mut writer, mut reader): (LinkWriter, LinkReader),
        mut commands: mpsc::Receiver<SessionCommand>,
        (node, id): (&NodeName, SessionId),
        stop: CancellationToken,
    ) -> Result<(), SessionError> {
        for message in std::mem::take(&mut self.early) {
            self.hear(message, (node, id)).await?;
        }
        loop {
            // Cancel-safe: `read`, `recv` and `join_next` keep what they have when dropped; a
            // write happens behind the select, and is never dropped. What the fleet says goes
            // first: a peer that talks without end must not fill the queue that it waits for.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = commands.recv() => match command {
                    Some(command) => {
                        if let Some(say) = self.command(command) {
                            let written = timeout(WRITE_TIMEOUT, writer.write(&say)).await;
                            written.or(Err(SessionError::Silent(WRITE_TIMEOUT)))??;
                        }
                    }
                    None => return Ok(()),
                },
                Some(ended) = self.pushes.join_next() => {
                    match ended {
                        Ok((pushed, result)) => self.pushed(&pushed, result, (node, id)).await?,
                        // A newer push took its place.
                        Err(ended) if ended.is_cancelled() => {}
                        Err(ended) => error!(%node, error = %ended, "a push was broken off"),
                    }
                }
                // Its one control stream is open: another is a call.
                stream = self.link.accept_control() => {
                    stream?;
                    return Err(SessionError::Calls);
                }
                message = reader.read::<FromAgent>() => match message? {
                    Some(message) => self.hear(message, (node, id)).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn hear(
        &mut self,
        message: FromAgent,
        (node, id): (&NodeName, SessionId),
    ) -> Result<(), SessionError> {
        self.judge.handle(&message)?;
        let volume = match &message {
            FromAgent::Hello(_) => return Ok(()),
            FromAgent::Holds(_) => return Err(Violation::HoldsUnsaid.into()),
            // It was asked for before the session began.
            FromAgent::Records { .. } => return Err(Violation::RecordsUnsaid.into()),
            FromAgent::Pong { nonce } => {
                self.pings.answered(*nonce, self.link.remote_address());
                return Ok(());
            }
            FromAgent::Rotate { key } => {
                self.announced(node, *key);
                return Ok(());
            }
            FromAgent::Held { volume, .. }
            | FromAgent::Refused { volume, .. }
            | FromAgent::Missing { volume, .. }
            | FromAgent::Looked { volume, .. }
            | FromAgent::Rules { volume, .. }
            | FromAgent::Environments { volume, .. }
            | FromAgent::Dependencies { volume, .. }
            | FromAgent::HoldAnswer { volume, .. } => volume,
            FromAgent::Hold(report) => &report.volume,
            FromAgent::Report(report) => &report.volume,
            FromAgent::Drift(report) => &report.volume,
        };
        if let Some(fleet) = self.fleets.get(volume) {
            // The fleet may itself wait for room in this session's outbox.
            let heard = timeout(WRITE_TIMEOUT, fleet.heard(node.clone(), id, message)).await;
            heard.or(Err(SessionError::Busy(WRITE_TIMEOUT)))?;
        }
        Ok(())
    }

    /// Takes in the key that the node is to have, and says whether it may.
    fn announced(&self, node: &NodeName, next: PublicKey) {
        let refused = self.context.door.announce(node, &self.key, next).err();
        let answer = FromSource::Rotating {
            key: next,
            refused: refused.map(Text::cut),
        };
        // Where there is no room, the node hears nothing, and announces it once more.
        if let Some(outbox) = &self.outbox
            && outbox.try_send(SessionCommand::Say(answer)).is_err()
        {
            debug!(%node, "a node is not told of its key");
        }
    }

    /// Starts or ends a push, and returns what is to be said.
    fn command(&mut self, command: SessionCommand) -> Option<FromSource> {
        match command {
            // An older agent would take it for a breach.
            SessionCommand::Say(message) => {
                (message.since() <= self.hello.minor).then_some(message)
            }
            SessionCommand::Ping(reply) => self.ping(reply),
            SessionCommand::Cancel { volume, release } => {
                if self
                    .pushing
                    .get(&volume)
                    .is_some_and(|(current, _)| *current == release)
                    && let Some((_, push)) = self.pushing.remove(&volume)
                {
                    push.abort();
                }
                Some(FromSource::Cancel { volume, release })
            }
            SessionCommand::Push {
                volume,
                release,
                held,
                missing,
            } => {
                self.push(Wanted {
                    volume,
                    release,
                    held,
                    missing,
                    start: Position::default(),
                });
                None
            }
        }
    }

    /// A newer push of a volume resets the stream of the one before it.
    fn push(&mut self, mut wanted: Wanted) {
        let Some(volume) = self.context.volumes.get(&wanted.volume) else {
            return;
        };
        // What is mended of one release waits for another that is on its way: it is asked for again.
        let on_its_way = self.pushing.get(&wanted.volume);
        if !wanted.missing.is_empty()
            && on_its_way.is_some_and(|(release, _)| *release != wanted.release)
        {
            return;
        }
        if let Some((_, before)) = self.pushing.remove(&wanted.volume) {
            before.abort();
        }
        // What the agent has in part is known from its hello, and true until the first push.
        if let Some(partial) = self.partial.remove(&wanted.volume)
            && partial.release == wanted.release
            && wanted.missing.is_empty()
        {
            wanted.start = partial.next;
        }
        self.judge.pushed(wanted.release);
        let (release, name) = (wanted.release, wanted.volume.clone());
        let (link, volume) = (self.link.clone(), volume.clone());
        let task = self.pushes.spawn(async move {
            let pushed = Pushed {
                volume: wanted.volume.clone(),
                release: wanted.release,
            };
            let result = push::send_or_mend(&link, &volume, wanted).await;
            (pushed, result)
        });
        self.pushing.insert(name, (release, task));
    }

    async fn pushed(
        &mut self,
        pushed: &Pushed,
        result: Result<(), PushError>,
        (node, id): (&NodeName, SessionId),
    ) -> Result<(), SessionError> {
        let Pushed { volume, release } = pushed;
        if self
            .pushing
            .get(volume)
            .is_some_and(|(current, _)| current == release)
        {
            self.pushing.remove(volume);
        }
        let error = match result {
            Ok(()) => {
                debug!(%volume, %node, release = %release.short(), "release was sent");
                return Ok(());
            }
            Err(error) => error,
        };
        match (error.failure(), self.fleets.get(volume)) {
            (Some(failure), Some(fleet)) => {
                let told = fleet.not_sent(node.clone(), id, (*release, failure));
                let told = timeout(WRITE_TIMEOUT, told).await;
                told.or(Err(SessionError::Busy(WRITE_TIMEOUT)))?;
            }
            // The rollout machine asks again when the step does not move on.
            _ => {
                warn!(%volume, %node, release = %release.short(), error = %Chain(&error), "push failed");
            }
        }
        Ok(())
    }
}
