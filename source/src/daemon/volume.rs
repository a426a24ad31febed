//! One volume, opened: its history is read and verified, and its tasks run.

use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::name::NodeName;
use codevol_protocol::trust::Trust;
use codevol_store::register::Register;
use codevol_store::state_dir::StateDir;
use codevol_transport::Changes;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::config::VolumeConfig;
use crate::encode::Deltas;
use crate::fleet::{FleetParts, FleetTask, ROLLOUT, ROLLOUT_SCHEMA};
use crate::history::History;
use crate::metrics::{Phases, VolumeMetrics};
use crate::publish::{PublisherParts, PublisherTask, Signer};
use crate::volume::Volume;

const SCAN_CACHE: &str = "scan-cache";

/// What opening a volume needs.
pub(super) struct Opened<'a> {
    pub(super) state: &'a StateDir,
    pub(super) signer: &'a Signer,
    pub(super) trust: &'a Trust,
    pub(super) phases: &'a Arc<Phases>,
    pub(super) changes: &'a Changes,
}

impl Opened<'_> {
    pub(super) fn open(
        &self,
        volume: &VolumeConfig,
        enrolled: BTreeSet<NodeName>,
        (tasks, shutdown): (&TaskTracker, &CancellationToken),
    ) -> Result<Volume, StartError> {
        let name = volume.name.clone();
        let dir = self.state.volume(&name)?;
        let history = History::open(&dir);
        let verified = history.and_then(|history| {
            history.verify(self.trust, &name)?;
            Ok(history)
        });
        let history = verified.map_err(|source| StartError::History {
            volume: name.clone(),
            source,
        })?;
        let history = Arc::new(history);
        let state = |source| StartError::State {
            volume: name.clone(),
            source,
        };
        let folder = self.state.volume_path(&name);
        let metrics = Arc::new(VolumeMetrics::new(self.phases.clone(), folder));
        let kept = Register::open_or_create(&dir, ROLLOUT, ROLLOUT_SCHEMA).map_err(state)?;
        let (fleet_task, fleet) = FleetTask::new(FleetParts {
            volume: name.clone(),
            history: history.clone(),
            kept,
            journal: self.state.journal().clone(),
            enrolled,
            policy: volume.rollout,
            failed: shutdown.clone(),
            metrics: metrics.clone(),
            changes: self.changes.clone(),
        });
        let (publisher_task, publisher) = PublisherTask::new(PublisherParts {
            config: volume.clone(),
            cache_file: self.state.volume_path(&name).join(SCAN_CACHE),
            history: history.clone(),
            fleet: fleet.clone(),
            signer: self.signer.clone(),
            journal: self.state.journal().clone(),
            metrics: metrics.clone(),
            changes: self.changes.clone(),
            state: dir,
        })
        .map_err(|source| StartError::Tree {
            volume: name,
            source: Box::new(source),
        })?;
        on_own_thread(tasks, fleet_task.run(shutdown.clone()));
        on_own_thread(tasks, publisher_task.run(shutdown.clone()));
        Ok(Volume {
            history,
            deltas: Arc::new(Deltas::default()),
            fleet,
            publisher,
            metrics,
        })
    }
}

/// Runs a task that waits for the disk often on a thread of its own. On one of the runtime's it would
/// have to hand that thread's other work over, and take it back, each time.
fn on_own_thread(tasks: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
    let runtime = Handle::current();
    tasks.spawn_blocking(move || runtime.block_on(task));
}
