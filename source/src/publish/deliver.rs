//! Publishing what a caller has delivered: a whole tree, where the tree of this host is not watched, or
//! a hot-fix on top of what is live. One of a watched tree is written through to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::call::delivery::Delivery;
use codevol_protocol::call::{CallFailure, FailureSort, PushPlan};
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::{Origin, Seq};
use codevol_protocol::role::Role;
use codevol_protocol::rollout::Intent;
use codevol_store::landing::Landing;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::block_in_place;

use super::append::Draft;
use super::intent::{Write, WriteIntent};
use super::plan::overlay;
use super::request::{failed, guarded, refused, stopping};
use super::task::PublisherTask;
use super::write_through::Fix;
use crate::config::PublishMode;
use crate::fingerprint::fingerprints;
use crate::history::{History, Published};
use crate::lines;
use crate::watch::Watcher;

/// What a caller has delivered.
#[derive(Debug)]
pub struct Delivered {
    /// What it is for.
    pub delivery: Delivery,
    /// The tree, or the part of one.
    pub manifest: Manifest,
    /// The ignore rules of a whole tree.
    pub rules: Vec<u8>,
    /// The files that the source did not hold.
    pub landing: Landing,
    /// Which those are.
    pub landing_blobs: BTreeSet<BlobId>,
    /// What the caller may do.
    pub role: Role,
    /// Kept until it is published: few may be in memory at once.
    pub turn: Option<OwnedSemaphorePermit>,
}

/// A release that may come of it.
struct Candidate {
    base: Option<Arc<Published>>,
    base_manifest: Option<Arc<Manifest>>,
    manifest: Manifest,
    rules: Vec<u8>,
    /// What is to be written to the tree first, where that is watched.
    writes: Option<Vec<Write>>,
}

impl PublisherTask {
    /// Says whether it might be published now.
    pub(super) fn may_deliver(&self, delivery: &Delivery, role: Role) -> Result<(), CallFailure> {
        let hot_fix = !delivery.whole;
        let name = &self.config.name;
        let is_watched = self.config.publish == PublishMode::Auto;
        if delivery.whole && is_watched {
            let message =
                format!("volume `{name}` is watched: it is what stands on the source's host");
            return Err(refused("watched", message).hint(
                "`publish = \"manual\"` in the source's configuration lets whole trees come from elsewhere",
            ));
        }
        if hot_fix && is_watched && role != Role::Operator {
            let message = format!("volume `{name}` is watched, and a {role} writes to no tree");
            return Err(
                CallFailure::new(FailureSort::Denied, "not-permitted", message)
                    .hint("an operator may: `codevol push --as TREE_PATH FILE`"),
            );
        }
        self.may_go_live(&delivery.push, hot_fix)
    }

    /// Publishes it, or shows what would be.
    pub(super) async fn deliver(
        &mut self,
        delivered: Delivered,
        author: Text,
        watcher: &Watcher,
    ) -> Result<PushPlan, CallFailure> {
        self.may_deliver(&delivered.delivery, delivered.role)?;
        let asked_at = Instant::now();
        let candidate = self.candidate(&delivered, watcher).await?;
        let push = &delivered.delivery.push;
        let tree = (candidate.base_manifest.as_deref(), &candidate.manifest);
        let mut plan = self.plan(tree.1, candidate.base.as_ref(), tree.0);
        plan.unchanged = tree.0 == Some(tree.1);
        if push.dry_run {
            let count = || lines::of_delivered(&self.history, &plan, tree);
            plan.lines = block_in_place(count);
            return Ok(plan);
        }
        if !push.yes && !plan.unchanged {
            guarded(tree.0, tree.1)?;
        }
        if push.thaw {
            let thawed = self.fleet.thaw(author.clone(), push.message.clone());
            thawed.await.ok_or_else(stopping)?;
        }
        if plan.unchanged {
            let release = candidate
                .base
                .ok_or_else(|| refused("empty", "the tree is empty"))?;
            let message = delivered.delivery.push.message;
            if let Some(writes) = candidate.writes {
                self.put_back(writes, delivered.landing)?;
            }
            self.follow(&release, author, message).await?;
            return self.plan_of_release(plan, &release, &candidate.manifest);
        }
        block_in_place(|| complete(&self.history, tree.1, &delivered.landing_blobs))?;
        let release = self.go(delivered, candidate, (author, asked_at)).await?;
        plan.release = Some(self.shown(&release));
        Ok(plan)
    }

    /// Returns the release that it would be.
    async fn candidate(
        &mut self,
        delivered: &Delivered,
        watcher: &Watcher,
    ) -> Result<Candidate, CallFailure> {
        let Delivered {
            delivery, manifest, ..
        } = delivered;
        // What a watched tree does not hold, its next save would undo.
        let is_through = !delivery.whole && self.config.publish == PublishMode::Auto;
        let base = if is_through {
            self.base_of_watched()
        } else {
            self.base(!delivery.whole)
        };
        let base_manifest = if delivery.whole {
            self.kept_manifest_of(base.as_ref())
        } else {
            self.manifest_of(base.as_ref())
        };
        let base_manifest = base_manifest.map_err(|error| failed(&error))?;
        let writes = if is_through {
            let looked = self.look_when_quiet(watcher).await;
            let seen = looked.map_err(|error| failed(&error))?;
            let writes = self.writes(&Fix {
                offered: manifest,
                tree: &seen.scan.manifest,
                force: delivery.force,
            })?;
            Some(writes)
        } else {
            None
        };
        let (manifest, rules) = if delivery.whole {
            (manifest.clone(), delivered.rules.clone())
        } else {
            let overlaid = overlay(base_manifest.as_deref(), manifest, &paths_of(manifest))?;
            (overlaid, self.rules_of(base.as_ref())?)
        };
        Ok(Candidate {
            base,
            base_manifest,
            manifest,
            rules,
            writes,
        })
    }

    /// Has it go live.
    async fn go(
        &mut self,
        delivered: Delivered,
        candidate: Candidate,
        (author, asked_at): (Text, Instant),
    ) -> Result<Arc<Published>, CallFailure> {
        let Delivered {
            delivery, landing, ..
        } = delivered;
        if let Some(writes) = candidate.writes {
            let intent = WriteIntent {
                seq: Seq(self.history.head().map_or(1, |head| head.seq().0 + 1)),
                base: candidate.base.map(|base| base.id()),
                writes,
                author,
                host: delivery.host,
                message: delivery.push.message,
                git: delivery.git,
            };
            return self.write_through(intent, landing).await;
        }
        let draft = Draft {
            fingerprints: fingerprints(&candidate.manifest),
            manifest: Arc::new(candidate.manifest),
            rules: candidate.rules,
            origin: if delivery.whole {
                Origin::Push
            } else {
                Origin::HotFix
            },
            author,
            host: delivery.host,
            message: delivery.push.message,
            git: delivery.git,
        };
        let release = self.append(draft, landing, (Intent::Wanted, Some(asked_at)));
        release.await.map_err(|error| failed(&error))
    }

    /// Returns what a hot-fix of a watched tree is laid over: what stands in the tree, which is live or on
    /// its way to be; what is live, where that was found broken.
    fn base_of_watched(&self) -> Option<Arc<Published>> {
        let head = self.history.head()?;
        let quarantined = self.fleet.view().quarantined;
        let manifest = head.release().manifest;
        let is_broken = |release: &Arc<Published>| {
            release.release().manifest == manifest && quarantined.contains(&release.id())
        };
        if self.history.releases().iter().any(is_broken) {
            return self.base(true);
        }
        Some(head)
    }

    /// Returns the ignore rules that a hot-fix takes over.
    fn rules_of(&self, base: Option<&Arc<Published>>) -> Result<Vec<u8>, CallFailure> {
        let Some(base) = base else {
            return Ok(Vec::new());
        };
        let rules = self.history.ignore_rules(base.release().ignore_rules);
        rules.map_err(|error| failed(&error.into()))
    }
}

fn paths_of(manifest: &Manifest) -> Vec<RelPath> {
    let entries = manifest.entries().iter();
    entries.map(|(path, _)| path.clone()).collect()
}

/// Checks that all files are there: between the look at what is lacked and now, old releases may have
/// been collected, and with them files that were not sent since they were held then.
fn complete(
    history: &History,
    tree: &Manifest,
    landing: &BTreeSet<BlobId>,
) -> Result<(), CallFailure> {
    for (path, blob) in tree
        .entries()
        .iter()
        .filter_map(|(path, entry)| Some((path, entry.blob()?)))
    {
        let has = || history.blobs().has(blob);
        if !landing.contains(&blob) && !has().map_err(|error| failed(&error.into()))? {
            let message = format!("`{path}` was removed from the source's store meanwhile");
            return Err(
                CallFailure::new(FailureSort::Failed, "not-kept", message).hint("push again")
            );
        }
    }
    Ok(())
}
