//! The pages of the metrics listener: what was counted, and how the volumes stand.

use codevol_metrics::family::{
    BUILD_INFO, DRIFTED_FILES, PHASE_DURATION, QUIC_RTT, RECEIVED_BYTES, RELEASE_INFO, RELEASE_LAG,
    RELOAD_FAILURES, SENT_BYTES, STORE_BYTES,
};
use codevol_metrics::{Exposition, Pages, process};
use codevol_protocol::call::CallFailure;
use codevol_protocol::status::{NodeStatus, Status};

use super::Desk;

impl Pages for Desk {
    async fn metrics(&self) -> Result<String, String> {
        let status = self.status().await.map_err(message)?;
        let mut text = Exposition::default();
        let labels = [("version", self.build.as_str()), ("role", "agent")];
        text.family(&BUILD_INFO).count(&labels, 1);
        standing(&mut text, &status);
        self.counted(&mut text);
        self.carried(&mut text);
        process::write(&mut text);
        Ok(text.finish())
    }

    async fn health(&self, ready: bool) -> Result<(), String> {
        Self::health(self, ready).await.map(drop).map_err(message)
    }
}

fn message(failure: CallFailure) -> String {
    failure.message.into()
}

/// Writes how this node stands in each volume.
fn standing(text: &mut Exposition, status: &Status) {
    let nodes = || {
        let volumes = status.volumes.iter();
        volumes.flat_map(|volume| volume.nodes.iter().map(|node| (volume.name.as_str(), node)))
    };
    let mut info = text.family(&RELEASE_INFO);
    for (volume, node) in nodes() {
        if let Some(release) = node.release {
            let release = release.to_string();
            info.count(&[("volume", volume), ("release", release.as_str())], 1);
        }
    }
    let mut lag = text.family(&RELEASE_LAG);
    for (
        volume,
        NodeStatus {
            name, lag: behind, ..
        },
    ) in nodes()
    {
        lag.count(&[("volume", volume), ("node", name.as_str())], *behind);
    }
    let mut drifted = text.family(&DRIFTED_FILES);
    for (volume, node) in nodes() {
        let files = node.drift.len() as u64 + node.drift_more;
        drifted.count(&[("volume", volume)], files);
    }
}

impl Desk {
    fn counted(&self, text: &mut Exposition) {
        let mut duration = text.family(&PHASE_DURATION);
        for (phase, histogram) in self.metrics.phases() {
            duration.histogram(&[("phase", phase)], histogram);
        }
        let mut failures = text.family(&RELOAD_FAILURES);
        for (reason, count) in self.metrics.reload_failures() {
            failures.count(&[("reason", reason)], count);
        }
        let mut store = text.family(&STORE_BYTES);
        for (volume, linked) in self.volumes.iter() {
            if let Some(bytes) = linked.receiver.usage.bytes() {
                store.count(&[("volume", volume.as_str())], bytes);
            }
        }
    }

    fn carried(&self, text: &mut Exposition) {
        let carried = self.metrics.traffic.total();
        text.family(&SENT_BYTES).count(&[], carried.sent);
        text.family(&RECEIVED_BYTES).count(&[], carried.received);
        let mut rtt = text.family(&QUIC_RTT);
        if let Some(link) = self.metrics.traffic.newest() {
            rtt.value(&[("peer", "source")], link.rtt().as_secs_f64());
        }
    }
}
