//! Putting back what drifts, where the volume is configured so: when, how often, and what is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::limits::MISSING_MAX;
use codevol_protocol::message::{DRIFT_MINOR, FromAgent};
use codevol_protocol::name::Text;
use codevol_protocol::status::DriftKind;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::look::{self, PutBack, lock};
use super::watch::Hint;
use super::{AGAIN, DriftTask, Ended, ORDER_TIMEOUT, QUIET};
use crate::config::DriftMode;
use crate::task::Order;
use crate::volume::{Drift, Found, Look, Pace, Progress};

/// What is put back and drifts again within this time is put back less and less soon.
const CALM: Duration = Duration::from_secs(60);

/// The putting back.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    pub(super) running: bool,
    pub(super) due: Option<Instant>,
    delay: Duration,
    last: Option<Instant>,
    /// What it could not do; not tried again before `again`.
    tried: BTreeSet<(ReleaseId, Drift)>,
    pub(super) again: Option<Instant>,
    /// How much was put back since that was told.
    pub(super) done: u64,
}

impl DriftTask {
    /// Forgets what was tried.
    pub(super) fn try_again(&mut self) {
        self.restore.again = None;
        self.restore.tried.clear();
        self.plan_to_put_back();
    }

    pub(super) fn plan_to_put_back(&mut self) {
        let untried = self.untried().next().is_some();
        let wanted = self.parts.mode == DriftMode::Restore && untried;
        if !wanted || self.restore.running || self.restore.due.is_some() {
            return;
        }
        // Somebody or something that changes it again and again is not raced.
        let calm = self.restore.last.is_none_or(|last| last.elapsed() > CALM);
        self.restore.delay = if calm {
            Duration::ZERO
        } else {
            (self.restore.delay * 2).clamp(QUIET, CALM)
        };
        self.restore.due = Some(Instant::now() + self.restore.delay);
    }

    /// What is to be put back and was not tried of late. A release that is gone as a whole is not built
    /// anew where `current` may name it.
    fn untried(&self) -> impl Iterator<Item = (Option<ReleaseId>, Drift)> {
        let of_releases = self.standing.releases().flat_map(move |(id, found)| {
            let wanted = found.drift.iter().filter(move |drift| {
                let gone = drift.path == "." && drift.kind == DriftKind::Missing;
                !gone && !self.restore.tried.contains(&(id, (*drift).clone()))
            });
            wanted.map(move |drift| (Some(id), drift.clone()))
        });
        let current = self.standing.is_flipped().then(|| {
            let (path, kind) = ("current".to_owned(), DriftKind::Flipped);
            (None, Drift { path, kind })
        });
        let is_tried = self.restore.again.is_some();
        current.filter(|_| !is_tried).into_iter().chain(of_releases)
    }

    pub(super) async fn put_back(&mut self) {
        self.restore.due = None;
        if self.parts.mode != DriftMode::Restore {
            return;
        }
        self.restore.last = Some(Instant::now());
        if self.standing.is_flipped() {
            self.put_current_back().await;
        }
        let wanted: BTreeSet<ReleaseId> = self.untried().filter_map(|(id, _)| id).collect();
        let wanted: Vec<(Look, Found)> = {
            let mut root = lock(&self.parts.root);
            let found = self.standing.releases();
            found
                .filter(|(id, _)| wanted.contains(id))
                .filter_map(|(id, found)| Some((root.look(id)?, found.clone())))
                .collect()
        };
        if wanted.is_empty() {
            return;
        }
        self.restore.running = true;
        let root = Arc::clone(&self.parts.root);
        let mut pace = Pace::fast(self.stop.clone(), Progress::default());
        self.jobs
            .spawn_blocking(move || Ended::PutBack(look::put_back(&root, wanted, &mut pace)));
    }

    async fn put_current_back(&mut self) {
        let restored = lock(&self.parts.root).restore_current();
        match restored {
            Ok(true) => {
                self.restore.done += 1;
                self.order(Order::Restored).await;
            }
            Ok(false) => {}
            Err(cause) => self.failed("putting `current` back", &cause),
        }
        self.check_current();
        if self.standing.is_flipped() {
            self.restore.again = Some(Instant::now() + AGAIN);
        }
        self.settle().await;
    }

    pub(super) async fn was_put_back(&mut self, all: Vec<PutBack>) {
        let active = lock(&self.parts.root).active();
        // A directory that was made anew is not watched yet.
        self.hint(Hint::Current);
        for PutBack { release, restored } in &all {
            self.standing.restored(*release, &restored.done);
            let rest = self.standing.releases().find(|(id, _)| id == release);
            if rest.is_some_and(|(_, rest)| rest.more > 0 && rest.drift.is_empty()) {
                // There was more than is kept of one look.
                self.scrub_soon(*release);
            }
            self.restore.done += restored.done.len() as u64;
            let (failed, lacking) = look::left(restored);
            for (drift, why) in failed {
                warn!(
                    volume = %self.parts.volume, release = %release.short(),
                    path = %Text::cut(drift.path.as_str()), error = %why, "cannot put back what drifted"
                );
                self.restore.tried.insert((*release, drift.clone()));
                self.restore.again = Some(Instant::now() + AGAIN);
            }
            if !lacking.is_empty() {
                self.ask_for(*release, lacking).await;
            }
            let is_code = |drift: &Drift| drift.kind != DriftKind::Foreign;
            if active == Some(*release) && restored.done.iter().any(is_code) {
                // A code server may have loaded what stood there.
                self.order(Order::Restored).await;
            }
        }
    }

    /// Asks for bytes that no held release has any more; what waits for them is not tried before they
    /// can have come.
    async fn ask_for(&mut self, release: ReleaseId, lacking: &BTreeSet<BlobId>) {
        let left = self.standing.releases().find(|(id, _)| *id == release);
        let left: Vec<Drift> = left.map_or_else(Vec::new, |(_, found)| found.drift.clone());
        let tried = left.into_iter().map(|drift| (release, drift));
        self.restore.tried.extend(tried);
        self.restore.again = Some(Instant::now() + AGAIN);
        if self.minor < DRIFT_MINOR {
            return;
        }
        let blobs: Vec<BlobId> = lacking.iter().take(MISSING_MAX).copied().collect();
        info!(volume = %self.parts.volume, release = %release.short(), blobs = blobs.len(), "bytes are fetched again");
        let volume = self.parts.volume.clone();
        let missing = FromAgent::Missing {
            volume,
            release,
            blobs,
        };
        self.parts.speaker.say(missing).await;
    }

    async fn order(&self, order: Order) {
        let sent = timeout(ORDER_TIMEOUT, self.parts.orders.send(order)).await;
        if !matches!(sent, Ok(Ok(()))) {
            warn!(volume = %self.parts.volume, "the volume's task takes no order");
        }
    }
}
