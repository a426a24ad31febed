//! The source daemon, put together: what starts in which order, and how it stops.

mod visitor;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_metrics::MetricsListener;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_store::state::StateError;
use codevol_store::state_dir::{StateDir, StateDirError};
use codevol_transport::{BindError, Changes, ControlError, ControlListener, Listener, Traffic};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::visitor::Visitor;
use self::volume::Opened;
use crate::callers::Places;
use crate::chronicle::Chronicle;
use crate::config::SourceConfig;
use crate::control::{Desk, Turns};
use crate::history::HistoryError;
use crate::identity::{Identity, IdentityError};
use crate::join::{Door, DoorFacts};
use crate::metrics::Phases;
use crate::publish::{PublishError, Signer};
use crate::session::{SessionContext, Sessions};
use crate::volume::Volume;

/// How long tasks may take to end once they are told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// STATE cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Keys or tables are missing or damaged.
    #[error("cannot open the source's identity")]
    Identity(#[from] IdentityError),
    /// A volume's state is damaged.
    #[error("cannot read the state of volume `{volume}`")]
    State {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: StateError,
    },
    /// A volume's history is damaged.
    #[error("cannot open the history of volume `{volume}`")]
    History {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: HistoryError,
    },
    /// A volume's tree cannot be opened.
    #[error("cannot open the tree of volume `{volume}`")]
    Tree {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: Box<PublishError>,
    },
    /// The UDP port is taken.
    #[error("cannot listen for agents")]
    Listen(#[from] BindError),
    /// The control socket cannot be bound.
    #[error("cannot listen for operators")]
    Control(#[from] ControlError),
    /// The TCP port of the metrics is taken.
    #[error(transparent)]
    Metrics(#[from] codevol_metrics::BindError),
    /// The system does not say where it listens.
    #[error("cannot find out where the source listens")]
    Address(#[source] std::io::Error),
}

impl StartError {
    /// Whether it may pass by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Listen(_) | Self::Control(_) | Self::Metrics(_) | Self::Address(_) => true,
            Self::StateDir(error) => error.is_retryable(),
            Self::Identity(_) | Self::State { .. } | Self::History { .. } | Self::Tree { .. } => {
                false
            }
        }
    }
}

/// A daemon that has started and waits to be run.
#[derive(Debug)]
pub struct Daemon {
    listener: Listener,
    desk: Desk,
    control: ControlListener,
    metrics: Option<MetricsListener>,
    context: SessionContext,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    state: StateDir,
}

impl Daemon {
    /// Opens everything, and starts the volumes' tasks. When this returns, the ports are bound.
    ///
    /// # Errors
    /// When something cannot be opened or bound; nothing is left running then.
    pub fn start(config: SourceConfig, build: &str) -> Result<Self, StartError> {
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let started = start(config, build, (&tasks, &shutdown));
        if started.is_err() {
            shutdown.cancel();
        }
        started
    }

    /// Returns where agents reach it.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn listen(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns where metrics are served, if they are.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsListener::address)
    }

    /// Returns what stops the daemon when it is cancelled, by the caller or by a fatal fault.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Serves until the stopper is cancelled; then ends all sessions and waits for the tasks.
    pub async fn run(self) {
        let Self {
            listener,
            desk,
            control,
            metrics,
            context,
            tasks,
            shutdown,
            state: _held,
        } = self;
        let calls = desk.clone();
        let answer = move |call, caller| calls.clone().answer(call, caller);
        tasks.spawn(control.serve(tasks.clone(), shutdown.clone(), answer));
        if let Some(metrics) = metrics {
            for volume in desk.volumes.values() {
                tasks.spawn(volume.metrics.usage.clone().keep(shutdown.clone()));
            }
            tasks.spawn(metrics.serve(tasks.clone(), shutdown.clone(), desk.clone()));
        }
        loop {
            // Cancel-safe: `accept` takes a peer only when it returns one.
            let pending = tokio::select! {
                () = shutdown.cancelled() => break,
                pending = listener.accept() => pending,
            };
            let Some(pending) = pending else { break };
            let visitor = Visitor {
                desk: desk.clone(),
                context: context.clone(),
            };
            tasks.spawn(visitor.serve(pending, shutdown.clone()));
        }
        shutdown.cancel();
        listener.close().await;
        tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, tasks.wait())
            .await
            .is_err()
        {
            warn!("some tasks did not end in time");
        }
        info!("source stopped");
    }
}

fn start(
    config: SourceConfig,
    build: &str,
    (tasks, shutdown): (&TaskTracker, &CancellationToken),
) -> Result<Daemon, StartError> {
    let state = StateDir::open(&config.state_dir)?;
    let identity = Identity::open(&config.state_dir)?;
    let listener = Listener::bind(config.listen, &identity.node, &identity.reset_key)?;
    let listen = listener.local_addr().map_err(StartError::Address)?;
    let control = ControlListener::bind(&config.control_socket)?;
    let metrics = config.metrics.map(MetricsListener::bind).transpose()?;

    let phases = Arc::new(Phases::default());
    let changes = Changes::default();
    let facts = (&state, &identity, (&phases, &changes));
    let volumes = open_volumes(&config, facts, (tasks, shutdown))?;
    let volumes = Arc::new(volumes);
    let facts = DoorFacts {
        advertise: advertise(&config, listen),
        source_key: identity.node.public(),
        operator: identity.operator,
        trust: identity.signed_trust.clone(),
        fleet: identity.trust.fleet,
        volumes: volumes.keys().cloned().collect(),
    };
    let desk = Desk {
        volumes: volumes.clone(),
        chronicle: Chronicle::open(&state).map_err(StateDirError::from)?,
        door: Door::new(identity.roster, state.journal().clone(), facts),
        sessions: Arc::new(Mutex::new(Sessions::default())),
        places: Places::default(),
        turns: Turns::default(),
        fleet: identity.trust.fleet,
        listen: Text::cut(listen.to_string()),
        traffic: Traffic::default(),
        phases,
        changes,
        build: Text::cut(build),
        shutdown: shutdown.clone(),
    };
    let context = SessionContext {
        door: desk.door.clone(),
        volumes,
        trust: identity.signed_trust,
        believed: Arc::new(identity.trust),
        build: Text::cut(build),
    };
    info!(%listen, control = %config.control_socket.display(), "source is listening");
    if let Some(metrics) = &metrics {
        info!(address = %metrics.address(), "metrics are served");
    }
    let (tasks, shutdown) = (tasks.clone(), shutdown.clone());
    Ok(Daemon {
        listener,
        desk,
        control,
        metrics,
        context,
        tasks,
        shutdown,
        state,
    })
}

/// Opens the volumes, and starts their tasks.
fn open_volumes(
    config: &SourceConfig,
    (state, identity, (phases, changes)): (&StateDir, &Identity, (&Arc<Phases>, &Changes)),
    (tasks, shutdown): (&TaskTracker, &CancellationToken),
) -> Result<BTreeMap<VolumeName, Volume>, StartError> {
    let enrolled: BTreeSet<NodeName> = identity.roster.get().agents().cloned().collect();
    let signer = Signer {
        fleet: identity.trust.fleet,
        epoch: identity.trust.epoch,
        key: identity.publisher.clone(),
        host: Text::cut(host_name()),
    };
    let mut volumes = BTreeMap::new();
    for volume in &config.volumes {
        let opened = Opened {
            state,
            signer: &signer,
            trust: &identity.trust,
            phases,
            changes,
        };
        let handles = opened.open(volume, enrolled.clone(), (tasks, shutdown))?;
        volumes.insert(volume.name.clone(), handles);
    }
    Ok(volumes)
}

/// Returns what tokens tell agents to dial; nothing where the bound address does not say it.
fn advertise(config: &SourceConfig, listen: SocketAddr) -> Option<String> {
    let bound = (!listen.ip().is_unspecified()).then(|| listen.to_string());
    config.advertise.clone().or(bound)
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
