//! The pages of the metrics listener: what was counted, and how everything stands.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use codevol_metrics::family::{
    BUILD_INFO, FROZEN, NODES, PHASE_DURATION, PROPAGATION, QUIC_RTT, RECEIVED_BYTES, RELEASE_INFO,
    RELEASE_LAG, RESCANS, ROLLOUTS, SENT_BYTES, STORE_BYTES, WATCH_OVERFLOWS,
};
use codevol_metrics::{Exposition, Pages, process};
use codevol_protocol::call::CallFailure;
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::status::{NodeState, VolumeStatus};
use tokio::time::timeout;

use super::Desk;
use crate::volume::Volume;

/// How long a volume's task may take to say how it stands.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
const STATES: [NodeState; 8] = [
    NodeState::Joining,
    NodeState::Offline,
    NodeState::Behind,
    NodeState::Staged,
    NodeState::Activating,
    NodeState::Live,
    NodeState::Unverified,
    NodeState::Failed,
];

impl Pages for Desk {
    async fn metrics(&self) -> Result<String, String> {
        let mut stand = BTreeMap::new();
        for (name, volume) in self.volumes.iter() {
            let status = timeout(STATUS_TIMEOUT, volume.status()).await;
            let status = status.ok().flatten();
            let silent = || format!("volume `{name}` does not answer");
            stand.insert(name, status.ok_or_else(silent)?);
        }
        let rtts = self
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rtts();
        let mut text = Exposition::default();
        let labels = [("version", self.build.as_str()), ("role", "source")];
        text.family(&BUILD_INFO).count(&labels, 1);
        standing(&mut text, &stand);
        counted(&mut text, &self.volumes);
        self.timed(&mut text);
        self.carried(&mut text, &rtts);
        process::write(&mut text);
        Ok(text.finish())
    }

    async fn health(&self, ready: bool) -> Result<(), String> {
        let healthy = Self::health(self, ready);
        healthy
            .map(drop)
            .map_err(|failure: CallFailure| failure.message.into())
    }
}

/// Writes how the volumes and their nodes stand.
fn standing(text: &mut Exposition, stand: &BTreeMap<&VolumeName, VolumeStatus>) {
    let mut info = text.family(&RELEASE_INFO);
    for (name, status) in stand {
        if let Some(live) = status.live {
            let live = live.to_string();
            let labels = [("volume", name.as_str()), ("release", live.as_str())];
            info.count(&labels, 1);
        }
    }
    let mut nodes = text.family(&NODES);
    for (name, status) in stand {
        for state in STATES {
            let so = status.nodes.iter().filter(|node| node.state == state);
            let state = state.to_string();
            let labels = [("volume", name.as_str()), ("state", state.as_str())];
            nodes.count(&labels, so.count() as u64);
        }
    }
    let mut lag = text.family(&RELEASE_LAG);
    for (name, status) in stand {
        for node in &status.nodes {
            let labels = [("volume", name.as_str()), ("node", node.name.as_str())];
            lag.count(&labels, node.lag);
        }
    }
    let mut frozen = text.family(&FROZEN);
    for (name, status) in stand {
        let is_frozen = u64::from(status.frozen.is_some());
        frozen.count(&[("volume", name.as_str())], is_frozen);
    }
}

/// Writes what was counted of each volume.
fn counted(text: &mut Exposition, volumes: &BTreeMap<VolumeName, Volume>) {
    let volumes = || {
        volumes
            .iter()
            .map(|(name, volume)| (name.as_str(), &volume.metrics))
    };
    let mut rollouts = text.family(&ROLLOUTS);
    for (name, counted) in volumes() {
        let (done, failed) = (&counted.rollouts_done, &counted.rollouts_failed);
        for (result, count) in [("done", done), ("failed", failed)] {
            rollouts.count(&[("volume", name), ("result", result)], count.get());
        }
    }
    let mut propagation = text.family(&PROPAGATION);
    for (name, counted) in volumes() {
        propagation.histogram(&[("volume", name)], &counted.propagation);
    }
    let mut overflows = text.family(&WATCH_OVERFLOWS);
    for (name, counted) in volumes() {
        overflows.count(&[("volume", name)], counted.overflows.get());
    }
    let mut rescans = text.family(&RESCANS);
    for (name, counted) in volumes() {
        rescans.count(&[("volume", name)], counted.rescans.get());
    }
    let mut store = text.family(&STORE_BYTES);
    for (name, counted) in volumes() {
        if let Some(bytes) = counted.usage.bytes() {
            store.count(&[("volume", name)], bytes);
        }
    }
}

impl Desk {
    fn timed(&self, text: &mut Exposition) {
        let phases = [
            ("settle", &self.phases.settle),
            ("scan", &self.phases.scan),
            ("publish", &self.phases.publish),
            ("rollout", &self.phases.rollout),
        ];
        let mut duration = text.family(&PHASE_DURATION);
        for (phase, histogram) in phases {
            duration.histogram(&[("phase", phase)], histogram);
        }
    }

    fn carried(&self, text: &mut Exposition, rtts: &BTreeMap<NodeName, Duration>) {
        let carried = self.traffic.total();
        text.family(&SENT_BYTES).count(&[], carried.sent);
        text.family(&RECEIVED_BYTES).count(&[], carried.received);
        let mut rtt = text.family(&QUIC_RTT);
        for (node, took) in rtts {
            rtt.value(&[("peer", node.as_str())], took.as_secs_f64());
        }
    }
}
