//! Hot-fixes that are live and not in git yet: they are shown until somebody commits them, or until what
//! they changed is live no more.

use std::sync::Arc;

use codevol_protocol::chain::Chain;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Origin;
use codevol_protocol::status::NotInGit;
use tokio::task::block_in_place;
use tracing::warn;

use super::task::PublisherTask;
use super::write_through::blob_at;
use crate::git::Silent;
use crate::history::{HistoryError, Published};

/// How many of the newest releases are looked at.
const RELEASES_MAX: usize = 20;
/// What is in none of so many releases before a hot-fix came by it.
const BEFORE_MAX: usize = 3;
/// How many paths of one are asked for.
const PATHS_MAX: usize = 20;

/// A hot-fix, and those of its files that are live.
struct LiveFix {
    fix: Arc<Published>,
    files: Vec<(RelPath, Entry)>,
}

impl PublisherTask {
    /// Finds out which hot-fixes are not in git. Where that cannot be told, what was shown stays.
    pub(super) async fn look_for_fixes(&mut self) {
        self.fixes_due = false;
        let mut found = Vec::new();
        let live = match block_in_place(|| self.live_fixes()) {
            Ok(live) => live,
            Err(cause) => {
                let volume = &self.config.name;
                warn!(%volume, error = %Chain(&cause), "cannot tell which hot-fixes are not in git");
                return;
            }
        };
        for LiveFix { fix, files } in live {
            let mut unkept = Vec::new();
            for (path, entry) in files {
                match self.is_in_git(&path, &entry).await {
                    Ok(true) => {}
                    Ok(false) => unkept.push(path),
                    // It was said there; the next look asks again.
                    Err(Silent) => return,
                }
            }
            if !unkept.is_empty() {
                found.push(NotInGit {
                    release: fix.seq(),
                    paths: unkept,
                    git: fix.release().git.clone(),
                });
            }
        }
        let is_new = self.view.send_if_modified(|view| {
            let is_new = view.not_in_git != found;
            view.not_in_git = found;
            is_new
        });
        if is_new {
            self.changes.tell();
        }
    }

    /// Returns the hot-fixes of which something is live that was not in git when they were made, the
    /// oldest first.
    fn live_fixes(&self) -> Result<Vec<LiveFix>, HistoryError> {
        let live = self.fleet.view().live;
        let Some(live) = live.and_then(|live| self.history.by_id(live)) else {
            return Ok(Vec::new());
        };
        let releases = self.history.releases();
        let upto = releases
            .iter()
            .filter(|release| release.seq() <= live.seq());
        let upto: Vec<&Arc<Published>> = upto.collect();
        let first = upto.len().saturating_sub(RELEASES_MAX);
        let recent = upto.iter().enumerate().skip(first);
        let fixes = recent.filter(|(_, release)| self.may_be_unkept(release));
        let mut found = Vec::new();
        for (at, fix) in fixes {
            let before = upto.get(at.saturating_sub(BEFORE_MAX)..at);
            let files = self.changed_by(fix, before.unwrap_or_default(), &live)?;
            if !files.is_empty() {
                let fix = (*fix).clone();
                found.push(LiveFix { fix, files });
            }
        }
        Ok(found)
    }

    /// Whether a release is a hot-fix that was made of files that git did not hold. Where there is no git
    /// nobody asks for it.
    fn may_be_unkept(&self, release: &Published) -> bool {
        let record = release.release();
        let expects_git = record.git.is_some() || self.git_dir.is_some();
        let was_clean = record.git.as_ref().is_some_and(|git| !git.dirty);
        record.origin == Origin::HotFix && expects_git && !was_clean
    }

    /// Returns the files that came by a hot-fix and are live; nothing where a manifest is not kept.
    fn changed_by(
        &self,
        fix: &Published,
        before: &[&Arc<Published>],
        live: &Published,
    ) -> Result<Vec<(RelPath, Entry)>, HistoryError> {
        let manifest = |release: &Published| {
            let kept = self.history.manifest(release.release().manifest);
            match kept {
                Err(error) if error.is_not_found() => Ok(None),
                kept => kept.map(Some),
            }
        };
        let (Some(fixed), Some(live)) = (manifest(fix)?, manifest(live)?) else {
            return Ok(Vec::new());
        };
        let mut kept: Vec<Arc<Manifest>> = Vec::new();
        for release in before {
            kept.extend(manifest(release)?);
        }
        let entries = fixed.entries().iter();
        let came = entries.filter(|(path, entry)| {
            let stood = || kept.iter().any(|before| before.entry(path) == Some(entry));
            entry.blob().is_some() && live.entry(path) == Some(entry) && !stood()
        });
        Ok(came.take(PATHS_MAX).cloned().collect())
    }

    /// Whether git holds a file as it is released. What the tree does not hold, its git does not.
    async fn is_in_git(&mut self, path: &RelPath, entry: &Entry) -> Result<bool, Silent> {
        let stands = block_in_place(|| blob_at(&self.scanner, path));
        if !stands.is_ok_and(|stands| stands == entry.blob()) {
            return Ok(false);
        }
        let file = self.config.path.join(path.as_str());
        let described = self.git.describe_file(&file).await?;
        Ok(described.is_some_and(|git| !git.dirty))
    }
}
