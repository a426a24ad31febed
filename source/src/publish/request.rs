//! What operators ask of the publisher, and the push.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::call::{CallFailure, Change, ChangeKind, FailureSort, Push, PushPlan};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::Text;
use codevol_protocol::release::Origin;
use codevol_protocol::rollout::Intent;
use codevol_protocol::status::ReleaseStatus;
use codevol_protocol::story::action;
use tokio::task::block_in_place;

use super::append::PublishError;
use super::guard;
use super::handle::Request;
use super::plan::{changes, overlay};
use super::release::Asked;
use super::task::PublisherTask;
use crate::config::PublishMode;
use crate::history::Published;
use crate::lines;
use crate::scan::ScanError;
use crate::watch::Watcher;

/// How long an operator waits for the end of a rollout, in milliseconds.
pub const ROLLOUT_TIMEOUT_MS: u64 = 300_000;
pub(super) fn refused(kind: &str, message: impl Into<String>) -> CallFailure {
    CallFailure::new(FailureSort::Refused, kind, message)
}

/// The fleet's task has ended, or could not make durable what was asked.
pub(super) fn stopping() -> CallFailure {
    CallFailure::new(
        FailureSort::Unavailable,
        "stopping",
        "the source is stopping",
    )
}

pub(super) fn failed(error: &PublishError) -> CallFailure {
    let failure = CallFailure::new(FailureSort::Failed, "publish", "nothing was published");
    failure.caused_by(error)
}

/// Looks for a blast, which a person may mean all the same.
pub(super) fn guarded(base: Option<&Manifest>, tree: &Manifest) -> Result<(), CallFailure> {
    guard::check(base, tree).map_err(|blast| {
        refused("blast-guard", format!("{blast}: nothing was published"))
            .hint("is the source tree mounted? `codevol push --yes` publishes it all the same")
    })
}

impl PublisherTask {
    pub(super) async fn requested(&mut self, request: Request, watcher: &Watcher) {
        // Whoever asked may have gone; what was published is in the log all the same.
        match request {
            Request::Push {
                push,
                author,
                reply,
            } => drop(reply.send(self.push_what_stands_there(push, author, watcher).await)),
            Request::MayDeliver {
                delivery,
                role,
                reply,
            } => drop(reply.send(self.may_deliver(&delivery, role))),
            Request::Deliver {
                delivered,
                author,
                reply,
            } => drop(reply.send(self.deliver(*delivered, author, watcher).await)),
            Request::Rollback {
                to,
                author,
                message,
                reply,
            } => drop(reply.send(self.rollback(to, author, message).await)),
            Request::Diff { from, reply } => drop(reply.send(self.diff(from.as_ref(), watcher))),
            Request::Ignored { why, reply } => drop(reply.send(self.ignored(why, watcher))),
            Request::Mend {
                release,
                suspected,
                reply,
            } => drop(reply.send(self.mend(release, &suspected))),
            Request::Collect { dry_run, reply } => drop(reply.send(self.collect_now(dry_run))),
        }
    }

    /// Pushes, also where another tree stands in the place of the watched one: a person says so. It is
    /// the watched one from then on, if all of it was pushed.
    async fn push_what_stands_there(
        &mut self,
        push: Push,
        author: Text,
        watcher: &Watcher,
    ) -> Result<PushPlan, CallFailure> {
        let opened = self.look_at_what_stands_there();
        let watched = opened.map_err(|error| failed(&error))?;
        let is_whole = !push.dry_run && push.paths.is_empty();
        let pushed = self.push(push, author, watcher).await;
        if let Some(watched) = watched
            && !(is_whole && pushed.is_ok())
        {
            self.scanner = watched;
            let replaced = ScanError::RootReplaced(self.config.path.clone());
            self.hold_back(&replaced.into(), watcher);
        }
        pushed
    }

    async fn push(
        &mut self,
        push: Push,
        author: Text,
        watcher: &Watcher,
    ) -> Result<PushPlan, CallFailure> {
        self.may_push(&push)?;
        let asked_at = Instant::now();
        let looked = self.look_when_quiet(watcher).await;
        let mut seen = looked.map_err(|error| failed(&error))?;
        let hot_fix = !push.paths.is_empty();
        let base = self.base(hot_fix);
        let base_manifest = if hot_fix {
            self.manifest_of(base.as_ref())
        } else {
            self.kept_manifest_of(base.as_ref())
        };
        let base_manifest = base_manifest.map_err(|error| failed(&error))?;
        if hot_fix {
            let overlaid = overlay(base_manifest.as_deref(), &seen.scan.manifest, &push.paths)?;
            seen.scan.manifest = overlaid;
        }
        let unchanged = base_manifest.as_deref() == Some(&seen.scan.manifest);
        let mut plan = self.plan(&seen.scan.manifest, base.as_ref(), base_manifest.as_deref());
        plan.skipped = seen.skipped();
        plan.hashed_ms = u64::try_from(seen.elapsed.as_millis()).unwrap_or(u64::MAX);
        plan.unchanged = unchanged;
        if push.dry_run {
            let trees = (base_manifest.as_deref(), &seen.scan.manifest);
            let count = || lines::of_tree((&self.history, &self.scanner), &plan, trees);
            plan.lines = block_in_place(count);
            return Ok(plan);
        }
        if !push.yes && !unchanged {
            guarded(base_manifest.as_deref(), &seen.scan.manifest)?;
        }
        if push.thaw {
            self.lift_freeze(&push, &author).await?;
        }
        if unchanged {
            let release = base.ok_or_else(|| refused("empty", "the tree is empty"))?;
            // Nothing is stored anew: what was lost since would stay lost.
            self.mend(release.id(), &BTreeSet::new())?;
            self.follow(&release, author, push.message).await?;
            return self.plan_of_release(plan, &release, &seen.scan.manifest);
        }
        let origin = if hot_fix {
            Origin::HotFix
        } else {
            Origin::Push
        };
        let asked = Asked {
            origin,
            author,
            message: push.message,
            intent: Intent::Wanted,
            written: Some(self.written_before(asked_at)),
        };
        let release = self
            .publish(seen.scan, asked)
            .await
            .map_err(|error| failed(&error))?;
        plan.release = Some(self.shown(&release));
        Ok(plan)
    }

    async fn lift_freeze(&self, push: &Push, author: &Text) -> Result<(), CallFailure> {
        let thawed = self.fleet.thaw(author.clone(), push.message.clone());
        thawed.await.ok_or_else(stopping)
    }

    /// Returns when what a push publishes was written, as far as that was seen. Where nothing was saved
    /// of late its way begins with the push: nobody waited for it before.
    fn written_before(&self, asked_at: Instant) -> Instant {
        let burst = self.settle.burst();
        burst.map_or(asked_at, |(_, last)| last.min(asked_at))
    }

    /// Shows what the release changed, not that the tree does not.
    pub(super) fn plan_of_release(
        &self,
        mut plan: PushPlan,
        release: &Published,
        tree: &Manifest,
    ) -> Result<PushPlan, CallFailure> {
        let parent = release.release().parent;
        let parent = parent.and_then(|parent| self.history.by_id(parent));
        let before = self.kept_manifest_of(parent.as_ref());
        let before = before.map_err(|error| failed(&error))?;
        plan.base = parent.map(|parent| parent.seq());
        (plan.changes, plan.changes_more) = changes(before.as_deref(), tree);
        plan.release = Some(self.shown(release));
        Ok(plan)
    }

    /// Returns the release that a push is based on: what is live, for a hot-fix, else the newest.
    pub(super) fn base(&self, hot_fix: bool) -> Option<Arc<Published>> {
        let live = self.fleet.view().live.filter(|_| hot_fix);
        let live = live.and_then(|live| self.history.by_id(live));
        live.or_else(|| self.history.head())
    }

    fn may_push(&self, push: &Push) -> Result<(), CallFailure> {
        let hot_fix = !push.paths.is_empty();
        self.may_go_live(push, hot_fix)?;
        if hot_fix && self.config.publish == PublishMode::Auto && self.fleet.view().frozen.is_none()
        {
            return Err(refused(
                "watched",
                format!(
                    "volume `{}` is watched: each save is published whole",
                    self.config.name
                ),
            )
            .hint("save the file; named paths need `publish = \"manual\"` or a frozen volume"));
        }
        Ok(())
    }

    /// Checks that no freeze speaks against it.
    pub(super) fn may_go_live(&self, push: &Push, hot_fix: bool) -> Result<(), CallFailure> {
        let frozen = self.fleet.view().frozen;
        if let Some(frozen) = frozen.as_ref().filter(|_| !push.thaw && !push.dry_run)
            && !(hot_fix && frozen.by_rollback)
        {
            return Err(refused(
                "frozen",
                format!(
                    "volume `{}` is frozen by {}: {}",
                    self.config.name, frozen.by, frozen.why
                ),
            )
            .hint("`codevol thaw` ends that; `codevol push --thaw` ends it and publishes"));
        }
        Ok(())
    }

    /// The tree is the release already: what is asked for is that it goes live.
    pub(super) async fn follow(
        &self,
        release: &Arc<Published>,
        author: Text,
        message: Text,
    ) -> Result<(), CallFailure> {
        let view = self.fleet.view();
        if view.quarantined.contains(&release.id()) {
            let seq = release.seq();
            return Err(refused(
                "quarantined",
                format!("{seq} was found broken, and the tree is still the same"),
            )
            .hint(format!(
                "mend the tree, or try it once more: `codevol retry {seq}`"
            )));
        }
        if !message.is_empty() {
            let line = self
                .line(action::NOTE)
                .actor(&author)
                .release(Some(release.id()));
            self.journal.record(line.detail(message.as_str()).event());
        }
        if view.live != Some(release.id()) {
            self.fleet
                .retry(release.id(), author)
                .await
                .ok_or_else(stopping)?;
        }
        Ok(())
    }

    /// Returns what a push of this tree would change, all else left to the caller.
    pub(super) fn plan(
        &self,
        tree: &Manifest,
        base: Option<&Arc<Published>>,
        base_manifest: Option<&Manifest>,
    ) -> PushPlan {
        let (changes, changes_more) = changes(base_manifest, tree);
        let hashed = changes
            .iter()
            .filter(|change| change.kind != ChangeKind::Removed);
        let bytes = |change: &Change| tree.entry(&change.path).map_or(0, Entry::size);
        PushPlan {
            base: base.map(|base| base.seq()),
            hashed_files: hashed.clone().count() as u64,
            hashed_bytes: hashed.map(bytes).sum(),
            changes,
            changes_more,
            ..self.empty_plan()
        }
    }

    pub(super) fn empty_plan(&self) -> PushPlan {
        PushPlan::new(self.config.name.clone(), ROLLOUT_TIMEOUT_MS)
    }

    pub(super) fn shown(&self, release: &Published) -> ReleaseStatus {
        self.history.status(release)
    }
}
