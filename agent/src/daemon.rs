//! The agent daemon, put together: what starts in which order, and how it stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_metrics::{MetricsListener, Usage};
use codevol_protocol::message::Partial;
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::status::LinkState;
use codevol_store::register::Register;
use codevol_store::state::StateError;
use codevol_store::state_dir::{StateDir, StateDirError};
use codevol_transport::{Changes, ControlError, ControlListener};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::code_server::CodeServer;
use crate::config::{AgentConfig, VolumeConfig};
use crate::control::Desk;
use crate::dependencies::Checker;
use crate::drift::{DriftParts, DriftTask};
use crate::evidence::PROVEN_SCHEMA;
use crate::hold::HOLD_SCHEMA;
use crate::identity::{Identity, IdentityError};
use crate::link::{LinkTask, LinkView, Linked};
use crate::metrics::AgentMetrics;
use crate::receive::Receiver;
use crate::rotate::{ASKERS_MAX, Rotation};
use crate::speaker::Speaker;
use crate::task::{VolumeParts, VolumeTask};
use crate::volume::{Root, RootError, store_of};

const PROVEN: &str = "proven";
const HOLD: &str = "hold";
/// How long tasks may take to end once they are told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// STATE cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The enrolment is missing or damaged.
    #[error("cannot open the agent's identity")]
    Identity(#[from] IdentityError),
    /// A volume's state is damaged.
    #[error("cannot read what is known of volume `{volume}`")]
    State {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: StateError,
    },
    /// A volume's root cannot be used.
    #[error("cannot open the root of volume `{volume}`")]
    Root {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: RootError,
    },
    /// The control socket cannot be bound.
    #[error("cannot listen for operators")]
    Control(#[from] ControlError),
    /// The TCP port of the metrics is taken.
    #[error(transparent)]
    Metrics(#[from] codevol_metrics::BindError),
}

impl StartError {
    /// Whether it may pass by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Control(_) | Self::Metrics(_) => true,
            Self::StateDir(error) => error.is_retryable(),
            Self::Identity(_) | Self::State { .. } | Self::Root { .. } => false,
        }
    }
}

/// A daemon that has started and waits to be run.
#[derive(Debug)]
pub struct Daemon {
    control: ControlListener,
    metrics: Option<MetricsListener>,
    desk: Desk,
    link: LinkTask,
    volumes: Vec<(VolumeTask, DriftTask)>,
    shutdown: CancellationToken,
    state: StateDir,
}

impl Daemon {
    /// Opens everything; recovery has run when this returns.
    ///
    /// # Errors
    /// When something cannot be opened.
    pub fn start(config: AgentConfig, build: &str) -> Result<Self, StartError> {
        let state = StateDir::open(&config.state_dir)?;
        let identity = Identity::open(&config.state_dir)?;
        let speaker = Speaker::default();
        let metrics = Arc::new(AgentMetrics::default());
        let changes = Changes::default();
        let mut linked = BTreeMap::new();
        let mut tasks = Vec::new();
        for volume in &config.volumes {
            let (task, link) = open(&config, volume, (&state, &speaker, (&metrics, &changes)))?;
            tasks.push(task);
            linked.insert(volume.name.clone(), link);
        }
        let address = config.source.first().cloned().unwrap_or_default();
        let (view, seen) = watch::channel(LinkView {
            address,
            state: LinkState::Connecting,
        });
        let control = ControlListener::bind(&config.control_socket)?;
        let listener = config.metrics.map(MetricsListener::bind).transpose()?;
        if let Some(listener) = &listener {
            info!(address = %listener.address(), "metrics are served");
        }
        let enrolment = identity.enrolment.get();
        let shutdown = CancellationToken::new();
        let (rotations, asks) = mpsc::channel(ASKERS_MAX);
        let desk = Desk {
            rotations,
            fleet: enrolment.fleet,
            node: enrolment.node.clone(),
            volumes: Arc::new(linked.clone()),
            link: seen,
            metrics: metrics.clone(),
            changes: changes.clone(),
            shutdown: shutdown.clone(),
            build: Text::cut(build),
        };
        let link = LinkTask {
            asks,
            rotation: Rotation::default(),
            source: config.source,
            identity,
            volumes: linked,
            speaker,
            build: Text::cut(build),
            journal: state.journal().clone(),
            view,
            metrics,
            changes,
        };
        Ok(Self {
            control,
            metrics: listener,
            desk,
            link,
            volumes: tasks,
            shutdown,
            state,
        })
    }

    /// Returns where metrics are served, if they are.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsListener::address)
    }

    /// Returns what its calls are answered from.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Returns what stops the daemon when it is cancelled.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs until the stopper is cancelled; then closes the link and waits for the tasks.
    pub async fn run(self) {
        let Self {
            control,
            metrics,
            desk,
            link,
            volumes,
            shutdown,
            state: _held,
        } = self;
        let tasks = TaskTracker::new();
        for (volume, drift) in volumes {
            // They wait for the disk often: on one of the runtime's threads they would have to hand that
            // thread's other work over, and take it back, each time.
            let (runtime, volume) = (Handle::current(), volume.run(shutdown.clone()));
            tasks.spawn_blocking(move || runtime.block_on(volume));
            let (runtime, drift) = (Handle::current(), drift.run(shutdown.clone()));
            tasks.spawn_blocking(move || runtime.block_on(drift));
        }
        if let Some(metrics) = metrics {
            for linked in desk.volumes.values() {
                tasks.spawn(linked.receiver.usage.clone().keep(shutdown.clone()));
            }
            tasks.spawn(metrics.serve(tasks.clone(), shutdown.clone(), desk.clone()));
        }
        let answer = move |call, caller| desk.clone().answer(call, caller);
        tasks.spawn(control.serve(tasks.clone(), shutdown.clone(), answer));
        tasks.spawn(link.run(shutdown.clone()));
        shutdown.cancelled().await;
        tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, tasks.wait())
            .await
            .is_err()
        {
            warn!("some tasks did not end in time");
        }
        info!("agent stopped");
    }
}

fn open(
    config: &AgentConfig,
    volume: &VolumeConfig,
    (state, speaker, (metrics, changes)): (&StateDir, &Speaker, (&Arc<AgentMetrics>, &Changes)),
) -> Result<((VolumeTask, DriftTask), Linked), StartError> {
    let name = volume.name.clone();
    let opened = Root::open(&volume.root, &config.state_dir, &name, volume.keep);
    let (root, recovered) = opened.map_err(|source| StartError::Root {
        volume: name.clone(),
        source,
    })?;
    if let Some(unknown) = &recovered.unknown_current {
        warn!(volume = %name, current = unknown, "`current` names a directory without a record");
    }
    let unread = |source| StartError::State {
        volume: name.clone(),
        source,
    };
    let dir = state.volume(&name)?;
    let proven = Register::open_or_create(&dir, PROVEN, PROVEN_SCHEMA).map_err(unread)?;
    let kept = Register::open_or_create(&dir, HOLD, HOLD_SCHEMA).map_err(unread)?;
    let root = Arc::new(Mutex::new(root));
    let partial = recovered
        .partial
        .map(|(release, next)| Partial { release, next });
    let dependencies = Checker::new(volume, root.clone(), speaker.clone());
    let journal = state.journal();
    let servers = volume.code_servers.iter().cloned().map(CodeServer::new);
    let (task, orders) = VolumeTask::new(VolumeParts {
        volume: name.clone(),
        root: root.clone(),
        servers: servers.collect(),
        proven,
        kept,
        dependencies: dependencies.clone(),
        speaker: speaker.clone(),
        journal: journal.clone(),
        metrics: metrics.clone(),
        changes: changes.clone(),
    });
    let (drifting, drift) = DriftTask::new(DriftParts {
        volume: name.clone(),
        path: volume.root.clone(),
        root: root.clone(),
        mode: volume.drift,
        scrub: volume.scrub,
        orders: orders.clone(),
        speaker: speaker.clone(),
        journal: journal.clone(),
        changes: changes.clone(),
    });
    let receiver = Receiver {
        volume: name,
        root,
        dependencies,
        partial: Arc::new(tokio::sync::Mutex::new(partial)),
        looking: Arc::default(),
        speaker: speaker.clone(),
        journal: journal.clone(),
        drift: drift.clone(),
        metrics: metrics.clone(),
        usage: Arc::new(Usage::new(store_of(&volume.root).into())),
    };
    let linked = Linked {
        orders,
        receiver,
        drift,
    };
    Ok(((task, drifting), linked))
}
