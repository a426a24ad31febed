//! How the volume stands and how a release fared, for people.

use codevol_protocol::dependency::EnvironmentStatus;
use codevol_protocol::drift::Drifted;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::DRIFT_BYTES_MAX;
use codevol_protocol::name::NodeName;
use codevol_protocol::release::Seq;
use codevol_protocol::rollout;
use codevol_protocol::status::{
    CodeServerStatus, FrozenStatus, HoldStatus, NodeError, NodeStatus, Outcome, OutcomeKind,
    Quarantined, RolloutStatus, VolumeStatus,
};

use super::handle::FleetView;
use super::known::{Failed, Known};
use super::task::FleetTask;
use crate::bus::now;

impl FleetTask {
    /// Returns how the volume stands; what only the publisher knows is left empty.
    pub(super) fn status(&self) -> VolumeStatus {
        let view = self.machine.view();
        let live = view.live.and_then(|live| self.history.by_id(live));
        let head = self.history.head();
        let shown = live.as_ref().or(head.as_ref());
        let live_seq = live.as_ref().map(|live| live.seq());
        let mut drift_bytes_left = DRIFT_BYTES_MAX;
        let nodes = self.nodes.iter().filter_map(|(name, known)| {
            let node = view.nodes.get(name)?;
            let seq = node.active.and_then(|id| self.seq(id));
            let mut status = self.node_status(name, node, (known, seq, live_seq));
            // All nodes fit into one answer, however much drifts on them.
            let Drifted { paths, more } = known.drifted.clone();
            let listed = Drifted::cut_to(paths, more, &mut drift_bytes_left);
            (status.drift, status.drift_more) = (listed.paths, listed.more);
            Some(status)
        });
        let rollout = view.rollout.and_then(|rollout| {
            Some(RolloutStatus {
                release: self.seq(rollout.release)?,
                phase: rollout.phase,
                wave: counted(rollout.wave)?,
                waves: counted(rollout.waves)?,
                started_at: self.kept.get().started_at.unwrap_or_default(),
            })
        });
        let mut quarantined: Vec<Quarantined> = view
            .quarantined
            .iter()
            .filter_map(|entry| {
                let release = self.seq(entry.release)?;
                let error = self
                    .error_of(&entry.node)
                    .filter(|error| error.release == release);
                let message = error.map(|error| error.message).unwrap_or_default();
                Some(Quarantined {
                    release,
                    node: entry.node.clone(),
                    message,
                })
            })
            .collect();
        quarantined.sort_by_key(|entry| entry.release);
        VolumeStatus {
            name: self.volume.clone(),
            head: head.as_ref().map(|head| head.seq()),
            live: live_seq,
            frozen: view.frozen.clone().map(FrozenStatus::from),
            rollout,
            waits_for: view.waits_for,
            quarantined,
            skipped: Vec::new(),
            watch: None,
            release: shown.map(|release| self.history.status(release)),
            skew: self.skew(),
            nodes: nodes.collect(),
            not_in_git: Vec::new(),
        }
    }

    fn node_status(
        &self,
        name: &NodeName,
        view: &rollout::NodeView,
        (known, active, live): (&Known, Option<Seq>, Option<Seq>),
    ) -> NodeStatus {
        let mut staged: Vec<Seq> = view.staged.iter().filter_map(|id| self.seq(*id)).collect();
        staged.sort_by_key(|seq| std::cmp::Reverse(*seq));
        let lag = live.map_or(0, |live| {
            live.0.saturating_sub(active.map_or(0, |seq| seq.0))
        });
        NodeStatus {
            name: name.clone(),
            state: view.state,
            release: active,
            staged,
            lag,
            evidence: known.evidence.filter(|_| known.session.is_some()),
            last_seen_at: if known.session.is_some() {
                Some(now())
            } else {
                known.last_seen_at
            },
            held: view.hold.as_ref().map(HoldStatus::from),
            drift: Vec::new(),
            drift_more: 0,
            environments: known
                .environments
                .iter()
                .map(|environment| EnvironmentStatus::from(&**environment))
                .collect(),
            dependencies: self.dependency_status(known, view),
            code_servers: known
                .code_servers
                .iter()
                .map(CodeServerStatus::from)
                .collect(),
            error: self.error_of(name),
        }
    }

    /// Returns how a release fared, where nothing more happens to it by itself.
    pub(super) fn settled(&self, release: ReleaseId) -> Option<Outcome> {
        let view = self.machine.view();
        let waits = view
            .waiting
            .iter()
            .any(|waiting| waiting.release == release)
            && view.frozen.is_none();
        let runs = view
            .rollout
            .is_some_and(|rollout| rollout.release == release);
        if waits || runs {
            return None;
        }
        let quarantined = view
            .quarantined
            .iter()
            .find(|entry| entry.release == release);
        self.outcome(&rollout::Outcome {
            release,
            live: view.live == Some(release),
            broken_on: quarantined.map(|entry| entry.node.clone()),
            returned: quarantined.is_some()
                && view.nodes.values().all(|node| node.active != Some(release)),
            wave: 0,
            waves: 0,
            nodes: view
                .nodes
                .iter()
                .map(|(name, node)| (name.clone(), node.state))
                .collect(),
        })
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
            wave: counted(ended.wave),
            waves: counted(ended.waves),
            nodes: ended.nodes.clone(),
            held: self.machine.saved().holds.keys().cloned().collect(),
            warnings: self.warnings(ended.release),
            error: error.or_else(|| {
                let failed = self.nodes.keys().filter_map(|node| self.error_of(node));
                failed
                    .into_iter()
                    .find(|error| !ended.live && self.seq(ended.release) == Some(error.release))
            }),
        })
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

    pub(super) fn show(&self) {
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

/// Returns the number of a wave; nothing where it is none.
pub(super) fn counted(wave: usize) -> Option<u32> {
    u32::try_from(wave).ok().filter(|wave| *wave > 0)
}
