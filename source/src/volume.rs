//! What the rest of the daemon needs of one volume.

use std::sync::Arc;

use codevol_protocol::call::{LogEntry, ReleaseResult};
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::status::VolumeStatus;

use crate::encode::Deltas;
use crate::fleet::FleetHandle;
use crate::history::{History, Published};
use crate::metrics::VolumeMetrics;
use crate::publish::PublisherHandle;

/// How much text of releases one answer carries: it must fit into a frame.
const LOG_TEXT_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX / 2;
/// How many releases one answer lists.
const LOG_MAX: usize = 1_000;

/// The handles to one volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its releases.
    pub history: Arc<History>,
    /// Its encoded deltas.
    pub deltas: Arc<Deltas>,
    /// Its fleet.
    pub fleet: FleetHandle,
    /// Its publisher.
    pub publisher: PublisherHandle,
    /// What is counted of it.
    pub metrics: Arc<VolumeMetrics>,
}

impl Volume {
    /// Returns how the volume stands; nothing while the daemon stops.
    pub async fn status(&self) -> Option<VolumeStatus> {
        let mut status = self.fleet.status().await?;
        let view = self.publisher.view();
        status.skipped = view.skipped;
        status.watch = view.watch;
        status.not_in_git = view.not_in_git;
        Some(status)
    }

    /// Returns the newest releases and what came of them, newest first, as many as one answer may
    /// carry.
    #[must_use]
    pub fn log(&self, count: usize) -> Vec<LogEntry> {
        let releases = self.history.releases();
        let result_of = self.results();
        let mut text = 0;
        releases
            .iter()
            .rev()
            .take(count.min(LOG_MAX))
            .take_while(|release| {
                let record = release.release();
                text += record.message.as_str().len() + record.author.as_str().len();
                text <= LOG_TEXT_BYTES_MAX
            })
            .map(|release| LogEntry {
                release: self.history.status(release),
                result: result_of(release),
            })
            .collect()
    }

    /// Returns what came of a release.
    #[must_use]
    pub fn result_of(&self, release: &Published) -> ReleaseResult {
        self.results()(release)
    }

    /// Returns what tells of each release what came of it, as things stand.
    fn results(&self) -> impl Fn(&Published) -> ReleaseResult {
        let view = self.fleet.view();
        let live = view.live.and_then(|live| self.history.by_id(live));
        let live = live.map(|live| live.seq());
        move |release| {
            if view.quarantined.contains(&release.id()) {
                ReleaseResult::Broken
            } else if view.live == Some(release.id()) {
                ReleaseResult::Live
            } else if live.is_none_or(|live| release.seq() > live) {
                ReleaseResult::Held
            } else {
                ReleaseResult::Superseded
            }
        }
    }
}
