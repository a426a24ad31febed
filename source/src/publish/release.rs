//! From a scanned tree to a release of which the fleet and the journal know.

use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::name::Text;
use codevol_protocol::release::{Git, Origin};
use codevol_protocol::rollout::Intent;
use codevol_protocol::story::{action, outcome};
use codevol_store::landing::Landing;
use tokio::task::block_in_place;
use tracing::info;

use super::append::{self, Draft, PublishError};
use super::look::Dirty;
use super::task::PublisherTask;
use crate::git;
use crate::history::Published;
use crate::scan::Scan;

/// Who wants a release, and why.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) author: Text,
    pub(super) message: Text,
    pub(super) intent: Intent,
    /// When the last change that is in it was seen.
    pub(super) written: Option<Instant>,
}

impl PublisherTask {
    /// Publishes a scanned tree whatever the head is.
    pub(super) async fn publish(
        &mut self,
        scan: Scan,
        asked: Asked,
    ) -> Result<Arc<Published>, PublishError> {
        let began = Instant::now();
        let head = self.history.head();
        let known = self.kept_manifest_of(head.as_ref())?;
        let manifest = Arc::new(scan.manifest);
        let draft = Draft {
            manifest: manifest.clone(),
            rules: scan.rules_blob,
            fingerprints: scan.fingerprints,
            origin: asked.origin,
            author: asked.author,
            host: self.signer.host.clone(),
            message: asked.message,
            git: self.describe().await,
        };
        let stored = block_in_place(|| {
            append::store(&self.history, &self.scanner, &manifest, known.as_deref())
        });
        let landing = match stored {
            Ok(landing) => landing,
            Err(cause) => {
                self.dirty = Dirty::Everything;
                return Err(cause);
            }
        };
        let release = self
            .append(draft, landing, (asked.intent, asked.written))
            .await?;
        self.metrics.phases.publish.observe(began.elapsed());
        Ok(release)
    }

    /// Appends a release with the files that are to land with it, and tells of it.
    pub(super) async fn append(
        &mut self,
        draft: Draft,
        landing: Landing,
        (intent, written): (Intent, Option<Instant>),
    ) -> Result<Arc<Published>, PublishError> {
        let author = draft.author.clone();
        let (history, volume) = (&self.history, &self.config.name);
        let append = || append::append(history, volume, &self.signer, draft, landing);
        let release = match block_in_place(append) {
            Ok(release) => release,
            Err(cause) => {
                self.dirty = Dirty::Everything;
                return Err(cause);
            }
        };
        // One that is held goes live when a person asks, which times nothing of ours.
        let goes_by_itself = intent != Intent::Held;
        if let Some(at) = written.filter(|_| goes_by_itself) {
            self.metrics.written(release.id(), at);
        }
        self.announce(&release, author, intent).await;
        self.metrics.usage.changed();
        self.uncollected += 1;
        self.warned = None;
        Ok(release)
    }

    /// Asks git where the tree stands. Where no repository can be, that is known without running it:
    /// one that was made since the start is found all the same.
    async fn describe(&mut self) -> Option<Git> {
        if self.git_dir.is_none() && !git::is_expected(&self.config.path) {
            return None;
        }
        // One that does not answer has said so: a release does not wait for it.
        let described = self.git.describe(&self.config.path).await;
        described.ok().flatten()
    }

    /// Tells the fleet and the journal of a release that is in the log.
    pub(super) async fn announce(&self, release: &Arc<Published>, author: Text, intent: Intent) {
        let record = release.release();
        info!(
            volume = %self.config.name, release = %record.seq, origin = %record.origin,
            entries = record.entries, "release published"
        );
        let line = self
            .line(action::PUBLISH)
            .actor(&author)
            .release(Some(release.id()));
        let ended = if intent == Intent::Held {
            outcome::HELD
        } else {
            "published"
        };
        self.journal
            .record(line.outcome(ended).detail(record.message.as_str()).event());
        self.fleet.published(release, intent).await;
    }
}
