//! How others speak with the fleet's task.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use codevol_protocol::drift::Depth;
use codevol_protocol::hold::{HoldAnswer, HoldOrder, HoldReport};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::message::{Failure, FromAgent, VolumeHello};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::{Seq, SignedRelease};
use codevol_protocol::rollout::{Frozen, Intent};
use codevol_protocol::status::{Outcome, VolumeStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::drift::Heard;
use crate::bus::Bus;
use crate::history::Published;

/// How many words of nodes may wait for who asked them.
const HEARD_MAX: usize = 256;

/// Tells two connections of one node apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What a session is to do.
#[derive(Debug)]
pub enum SessionCommand {
    /// Send a release, from the best base that the node holds.
    Push {
        /// The volume.
        volume: VolumeName,
        /// The release.
        release: ReleaseId,
        /// What the node holds.
        held: Vec<ReleaseId>,
        /// Blobs that it lost.
        missing: BTreeSet<BlobId>,
    },
    /// Stop sending a release, and say so.
    Cancel {
        /// The volume.
        volume: VolumeName,
        /// The release.
        release: ReleaseId,
    },
    /// Say this.
    Say(codevol_protocol::message::FromSource),
    /// Ask for a sign of life, and tell when it comes.
    Ping(oneshot::Sender<Pinged>),
}

/// What came of a ping to a node that is connected. Where nothing is told the link has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinged {
    /// Its agent answered.
    Answered {
        /// From where.
        address: SocketAddr,
        /// After how long.
        rtt: Duration,
    },
    /// Its agent is older than pings are.
    TooOld,
    /// As many as may be wait for its answer.
    Busy,
}

/// What the fleet's task takes in.
#[derive(Debug)]
pub(super) enum Input {
    Published {
        release: ReleaseId,
        intent: Intent,
    },
    Online {
        node: NodeName,
        session: SessionId,
        minor: u16,
        hello: VolumeHello,
        hold: Option<Box<HoldReport>>,
        outbox: mpsc::Sender<SessionCommand>,
    },
    Heard {
        node: NodeName,
        session: SessionId,
        message: FromAgent,
    },
    /// The release cannot be sent to the node: its files are not here.
    NotSent {
        of: (NodeName, SessionId),
        why: (ReleaseId, Failure),
    },
    Offline {
        node: NodeName,
        session: SessionId,
    },
    Enrolled {
        node: NodeName,
    },
    Removed {
        node: NodeName,
    },
    Freeze {
        frozen: Frozen,
        done: oneshot::Sender<()>,
    },
    Thaw {
        by: Text,
        why: Text,
        done: oneshot::Sender<()>,
    },
    Retry {
        release: ReleaseId,
        by: Text,
        done: oneshot::Sender<()>,
    },
    Status {
        reply: oneshot::Sender<VolumeStatus>,
    },
    Verify {
        depth: Depth,
        only: Option<NodeName>,
        asker: mpsc::Sender<Heard>,
    },
    Settled {
        release: ReleaseId,
        reply: oneshot::Sender<Option<Outcome>>,
    },
    Ping {
        node: NodeName,
        reply: oneshot::Sender<Pinged>,
    },
    Order {
        node: NodeName,
        order: HoldOrder,
        reply: oneshot::Sender<HoldAnswer>,
    },
    Behind {
        node: NodeName,
        lost: Lost,
        done: oneshot::Sender<()>,
    },
    Soon,
}

/// What the log of a restored source lacks, and a node knows. All of it was verified.
#[derive(Debug)]
pub struct Lost {
    /// The newest release that the node knows.
    pub newest: Seq,
    /// The records that it has, oldest first.
    pub records: Vec<SignedRelease>,
}

impl Input {
    /// Whether it may change how the volume stands: a question does not.
    pub(super) const fn is_news(&self) -> bool {
        match self {
            Self::Soon
            | Self::Status { .. }
            | Self::Verify { .. }
            | Self::Settled { .. }
            | Self::Ping { .. }
            | Self::Order { .. } => false,
            Self::Published { .. }
            | Self::Behind { .. }
            | Self::Online { .. }
            | Self::Heard { .. }
            | Self::NotSent { .. }
            | Self::Offline { .. }
            | Self::Enrolled { .. }
            | Self::Removed { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::Retry { .. } => true,
        }
    }
}

/// What others may see of the fleet at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetView {
    /// The release that the fleet is to run.
    pub live: Option<ReleaseId>,
    /// The one that was live before.
    pub previous: Option<ReleaseId>,
    /// Why nothing new goes live.
    pub frozen: Option<Frozen>,
    /// Releases that were found broken.
    pub quarantined: BTreeSet<ReleaseId>,
    /// Releases that are or were live, or wait to be: what must be kept whole.
    pub needed: BTreeSet<ReleaseId>,
}

/// Speaks with the fleet's task. Where that has ended, nothing is done and nothing answered.
#[derive(Debug, Clone)]
pub struct FleetHandle {
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) view: watch::Receiver<FleetView>,
    pub(super) bus: Bus,
}

impl FleetHandle {
    /// Returns what is to be seen now.
    #[must_use]
    pub fn view(&self) -> FleetView {
        self.view.borrow().clone()
    }

    /// Returns what tells each change of the view.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<FleetView> {
        self.view.clone()
    }

    /// Returns where the volume's events are told.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Tells that a release is durable in the log.
    pub async fn published(&self, release: &Published, intent: Intent) {
        self.send(Input::Published {
            release: release.id(),
            intent,
        })
        .await;
    }

    /// Tells that the tree is being changed, so that agents are ready when a release comes. Where that
    /// finds no room, they are not.
    pub fn soon(&self) {
        if self.inbox.try_send(Input::Soon).is_err() {
            debug!("agents are not told that a release may come");
        }
    }

    /// Tells that a node is connected, which minor version it speaks, and whether it is held; of one
    /// that does not say so nothing.
    pub async fn online(
        &self,
        node: NodeName,
        (session, minor): (SessionId, u16),
        (hello, hold): (VolumeHello, Option<HoldReport>),
        outbox: mpsc::Sender<SessionCommand>,
    ) {
        self.send(Input::Online {
            node,
            session,
            minor,
            hello,
            hold: hold.map(Box::new),
            outbox,
        })
        .await;
    }

    /// Has the log take in what it lacks and a node knows, before that node is led; nothing where the
    /// daemon is stopping.
    pub async fn behind(&self, node: NodeName, lost: Lost) -> Option<()> {
        self.ask(|done| Input::Behind { node, lost, done }).await
    }

    /// Hands on what a node said.
    pub async fn heard(&self, node: NodeName, session: SessionId, message: FromAgent) {
        self.send(Input::Heard {
            node,
            session,
            message,
        })
        .await;
    }

    /// Tells that a release cannot be sent to a node, as its files are not here.
    pub async fn not_sent(&self, node: NodeName, session: SessionId, why: (ReleaseId, Failure)) {
        let of = (node, session);
        self.send(Input::NotSent { of, why }).await;
    }

    /// Tells that a connection ended.
    pub async fn offline(&self, node: NodeName, session: SessionId) {
        self.send(Input::Offline { node, session }).await;
    }

    /// Tells that a node is a member now; it will connect.
    pub async fn enrolled(&self, node: NodeName) {
        self.send(Input::Enrolled { node }).await;
    }

    /// Tells that a node is a member no more.
    pub async fn removed(&self, node: NodeName) {
        self.send(Input::Removed { node }).await;
    }

    /// Freezes the volume; durable when this returns.
    pub async fn freeze(&self, frozen: Frozen) -> Option<()> {
        self.ask(|done| Input::Freeze { frozen, done }).await
    }

    /// Thaws the volume; durable when this returns.
    pub async fn thaw(&self, by: Text, why: Text) -> Option<()> {
        self.ask(|done| Input::Thaw { by, why, done }).await
    }

    /// Takes a release out of quarantine and rolls it out.
    pub async fn retry(&self, release: ReleaseId, by: Text) -> Option<()> {
        self.ask(|done| Input::Retry { release, by, done }).await
    }

    /// Returns how the volume stands, as far as the fleet knows: the publisher adds the rest.
    pub async fn status(&self) -> Option<VolumeStatus> {
        self.ask(|reply| Input::Status { reply }).await
    }

    /// Has nodes look at their disks: this one, or every one. The channel ends when each of them has
    /// answered or will not.
    pub async fn verify(&self, depth: Depth, only: Option<NodeName>) -> mpsc::Receiver<Heard> {
        let (asker, heard) = mpsc::channel(HEARD_MAX);
        self.send(Input::Verify { depth, only, asker }).await;
        heard
    }

    /// Returns how a release fared, where nothing more will happen to it by itself.
    pub async fn settled(&self, release: ReleaseId) -> Option<Option<Outcome>> {
        self.ask(|reply| Input::Settled { release, reply }).await
    }

    /// Asks a node for a sign of life; nothing where it is not connected. The caller says how long it
    /// waits.
    pub async fn ping(&self, node: NodeName) -> Option<Pinged> {
        self.ask(|reply| Input::Ping { node, reply }).await
    }

    /// Has a node do as a person wants, and returns what it answers; nothing where too many wait already.
    /// The caller says how long it waits.
    pub async fn order(&self, node: NodeName, order: HoldOrder) -> Option<HoldAnswer> {
        self.ask(|reply| Input::Order { node, order, reply }).await
    }

    async fn send(&self, input: Input) {
        // The task ends only when the daemon does: then nobody waits for this any more.
        self.inbox.send(input).await.unwrap_or_default();
    }

    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(input(reply)).await;
        answer.await.ok()
    }
}
