//! Hot-fixes from elsewhere on a watched volume: they are written through to the tree, so that the next
//! save does not undo them.
//!
//! ```text
//!   blobs durable -> intent durable -> each file in its place -> record appended -> intent gone
//! ```
//! A process that dies on this way is followed by one that goes it to the end, before it first looks at
//! the tree. A file that somebody saved meanwhile is left as it is.

use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::call::{CallFailure, FailureSort};
use codevol_protocol::chain::Chain;
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Origin;
use codevol_protocol::rollout::Intent;
use codevol_protocol::story::action;
use codevol_store::blobs::BlobError;
use codevol_store::landing::Landing;
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use super::append::{Draft, PublishError};
use super::intent::{Write, WriteIntent};
use super::plan::overlay;
use super::request::{failed, refused};
use super::task::PublisherTask;
use crate::fingerprint::fingerprints;
use crate::history::{History, Published};
use crate::rules::Verdict;
use crate::scan::{ScanError, Scanner};

/// How many of the newest releases are asked whether a file of the tree was published.
const RELEASES_MAX: usize = 50;

/// What is to be written through.
pub(super) struct Fix<'a> {
    /// The files, alone.
    pub(super) offered: &'a Manifest,
    /// The tree as it stands.
    pub(super) tree: &'a Manifest,
    /// Whether an edit that is not published gives way.
    pub(super) force: bool,
}

impl PublisherTask {
    /// Returns what is to be written, if nothing in the tree speaks against it.
    pub(super) fn writes(&self, fix: &Fix<'_>) -> Result<Vec<Write>, CallFailure> {
        let rules = self.scanner.rules();
        let mut writes = Vec::new();
        for (path, entry) in fix.offered.entries() {
            if matches!(rules.verdict(path, false), Verdict::Ignored { .. }) {
                return Err(refused(
                    "ignored",
                    format!("`{path}` is left out of the tree by a rule"),
                )
                .hint(format!("`codevol ignored --why {path}` says which")));
            }
            let before = self.standing(path, fix.tree)?;
            let is_edit = before
                .as_ref()
                .is_some_and(|before| before != entry && !self.was_published(path, before));
            if is_edit && !fix.force {
                let message = format!(
                    "`{path}` was edited in the source's tree, and that edit is not published"
                );
                return Err(refused("conflict", message).hint(
                    "`codevol diff` shows it; publish it on the source's host, or `--force` overwrites it",
                ));
            }
            writes.push(Write {
                path: path.clone(),
                entry: entry.clone(),
                before,
            });
        }
        Ok(writes)
    }

    /// Returns the file at a path; a hot-fix replaces nothing else.
    fn standing(&self, path: &RelPath, tree: &Manifest) -> Result<Option<Entry>, CallFailure> {
        match tree.entry(path) {
            Some(entry @ Entry::File { .. }) => Ok(Some(entry.clone())),
            None if self.scanner.is_free(path) => Ok(None),
            Some(Entry::Symlink { .. } | Entry::Dir) | None => {
                let message =
                    format!("something else than a file stands at `{path}` in the source's tree");
                Err(refused("conflict", message).hint(
                    "a link, a folder, or what cannot be carried: change it on the source's host",
                ))
            }
        }
    }

    /// Whether what stands in the tree is in the history: then nothing is lost with it.
    fn was_published(&self, path: &RelPath, entry: &Entry) -> bool {
        let releases = self.history.releases();
        releases.iter().rev().take(RELEASES_MAX).any(|release| {
            let manifest = self.history.manifest(release.release().manifest);
            // The files of an old one are not kept.
            manifest.is_ok_and(|manifest| manifest.entry(path) == Some(entry))
        })
    }

    /// Writes a hot-fix through to the tree, and publishes it.
    pub(super) async fn write_through(
        &mut self,
        intent: WriteIntent,
        landing: Landing,
    ) -> Result<Arc<Published>, CallFailure> {
        // What an earlier failure left undone comes first.
        self.complete_intent()
            .await
            .map_err(|error| failed(&error))?;
        block_in_place(|| {
            let committed = landing.commit(None).map_err(BlobError::from);
            let _created = committed.map_err(|error| failed(&error.into()))?;
            self.intents
                .begin(intent.clone())
                .map_err(|error| failed(&error.into()))
        })?;
        if let Err(cause) = block_in_place(|| place(&intent.writes, (&self.history, &self.scanner)))
        {
            // Nothing of it is in the tree, or the watcher publishes what is.
            block_in_place(|| self.intents.end()).map_err(|error| failed(&error.into()))?;
            return Err(not_written(&cause));
        }
        let published = self.publish_intent(&intent).await;
        let release = published.map_err(|error| failed(&error))?;
        block_in_place(|| self.intents.end()).map_err(|error| failed(&error.into()))?;
        Ok(release)
    }

    /// Writes to the tree what is released already: after a rollback it may hold something else there.
    /// Nothing is published by it, and nothing is to be completed: a file is in its place, or is not.
    pub(super) fn put_back(&self, writes: Vec<Write>, landing: Landing) -> Result<(), CallFailure> {
        block_in_place(|| {
            let committed = landing.commit(None).map_err(BlobError::from);
            let _created = committed.map_err(|error| failed(&error.into()))?;
            let placed = place(&writes, (&self.history, &self.scanner));
            placed.map_err(|cause| not_written(&cause))
        })
    }

    /// Does what an earlier process, or an earlier try, began and did not live to end.
    pub(super) async fn complete_intent(&mut self) -> Result<(), PublishError> {
        block_in_place(|| self.scanner.remove_unplaced())?;
        let Some(intent) = block_in_place(|| self.intents.pending())? else {
            return Ok(());
        };
        let (volume, release) = (&self.config.name, intent.seq);
        info!(%volume, %release, "completing a hot-fix that was begun");
        let is_appended = |head: Arc<Published>| head.seq() >= intent.seq;
        if self.history.head().is_some_and(is_appended) {
            // All that was left to do is to forget it.
        } else if !block_in_place(|| is_whole(&intent, &self.history))? {
            // Who pushed it was told that it failed, and it was not tried again since.
            error!(%volume, %release, "a hot-fix that was begun is given up: its files are not kept any more");
            let line = self.line(action::PUBLISH).actor(&intent.author);
            let line = line.outcome("given up");
            self.journal.record(
                line.detail("the files of the hot-fix are not kept any more")
                    .event(),
            );
        } else {
            if let Err(cause) =
                block_in_place(|| place(&intent.writes, (&self.history, &self.scanner)))
            {
                // It is published all the same; the tree's own file follows with the next look.
                warn!(%volume, %release, error = %Chain(&cause), "a hot-fix is not written to the tree");
            }
            self.publish_intent(&intent).await?;
        }
        block_in_place(|| self.intents.end())?;
        Ok(())
    }

    pub(super) async fn publish_intent(
        &mut self,
        intent: &WriteIntent,
    ) -> Result<Arc<Published>, PublishError> {
        let base = intent.base.and_then(|base| self.history.by_id(base));
        let base_manifest = self.manifest_of(base.as_ref())?;
        let offered = intent.writes.iter();
        let offered = offered.map(|write| (write.path.clone(), write.entry.clone()));
        let paths: Vec<RelPath> = intent
            .writes
            .iter()
            .map(|write| write.path.clone())
            .collect();
        let offered = Manifest::new(offered.collect()).map_err(ScanError::from)?;
        let manifest = overlay(base_manifest.as_deref(), &offered, &paths);
        let manifest = manifest.map_err(|failure| PublishError::Overlay(Box::new(failure)))?;
        let rules = match &base {
            Some(base) => self.history.ignore_rules(base.release().ignore_rules)?,
            None => Vec::new(),
        };
        let draft = Draft {
            fingerprints: fingerprints(&manifest),
            manifest: Arc::new(manifest),
            rules,
            origin: Origin::HotFix,
            author: intent.author.clone(),
            host: intent.host.clone(),
            message: intent.message.clone(),
            git: intent.git.clone(),
        };
        let timed = (Intent::Wanted, Some(Instant::now()));
        self.append(draft, Landing::default(), timed).await
    }
}

/// Whether the history holds all files of a hot-fix.
fn is_whole(intent: &WriteIntent, history: &History) -> Result<bool, PublishError> {
    for blob in intent.writes.iter().filter_map(|write| write.entry.blob()) {
        if !history.blobs().has(blob)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts each file in its place that is not there yet. All are written before the first one is placed.
pub(super) fn place(
    writes: &[Write],
    (history, scanner): (&History, &Scanner),
) -> Result<(), PublishError> {
    let mut written = Vec::new();
    for write in writes {
        let Entry::File {
            blob, executable, ..
        } = write.entry
        else {
            continue;
        };
        let stands = blob_at(scanner, &write.path)?;
        if stands == Some(blob) {
            continue;
        }
        if stands != write.before.as_ref().and_then(Entry::blob) {
            return Err(ScanError::Changed(write.path.clone()).into());
        }
        let mut bytes = history.blobs().open_file(blob)?;
        written.push(scanner.write(&write.path, executable, &mut bytes)?);
    }
    for file in written {
        file.place()?;
    }
    Ok(())
}

/// Returns the blob of the file that stands at a path.
pub(super) fn blob_at(scanner: &Scanner, path: &RelPath) -> Result<Option<BlobId>, ScanError> {
    if scanner.is_free(path) {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let hashed = hasher.update_reader(scanner.open_file(path)?);
    hashed.map_err(|source| ScanError::Io {
        action: "read",
        path: path.to_string(),
        source,
    })?;
    Ok(Some(BlobId::from(hasher.finalize())))
}

fn not_written(cause: &PublishError) -> CallFailure {
    match cause {
        PublishError::Scan(ScanError::Changed(path)) => refused(
            "conflict",
            format!("`{path}` was saved in the source's tree meanwhile"),
        )
        .hint("`codevol diff` shows it; push again once it is published"),
        cause => {
            error!(error = %Chain(cause), "a hot-fix cannot be written to the tree");
            let message = "the source cannot write to its tree: nothing was published";
            let failure = CallFailure::new(FailureSort::Configuration, "tree", message);
            let failure = match cause {
                // It was no scan that failed.
                PublishError::Scan(cause) => failure.caused_by(cause),
                cause => failure.caused_by(cause),
            };
            failure.hint(
                "let the user that runs the source write there, or save the file on that host",
            )
        }
    }
}
