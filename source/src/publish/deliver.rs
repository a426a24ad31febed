//! Publishing what a caller has delivered: a whole tree, where the tree of this host is not watched, or
//! a hot-fix on top of what is live.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use codevol_protocol::call::delivery::Delivery;
use codevol_protocol::call::{CallFailure, FailureSort, PushPlan};
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Origin;
use codevol_protocol::rollout::Intent;
use codevol_store::landing::Landing;
use tokio::task::block_in_place;

use super::append::Draft;
use super::plan::overlay;
use super::request::{failed, guarded, refused, stopping};
use super::task::PublisherTask;
use crate::config::PublishMode;
use crate::fingerprint::fingerprints;
use crate::history::{History, Published};
use crate::lines;

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
}

impl PublisherTask {
    /// Says whether it might be published now.
    pub(super) fn may_deliver(&self, delivery: &Delivery) -> Result<(), CallFailure> {
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
        self.may_go_live(&delivery.push, hot_fix)?;
        if is_watched && self.fleet.view().frozen.is_none() {
            let message = format!("volume `{name}` is watched: each save is published whole");
            return Err(refused("watched", message).hint(
                "save the file on the source's host; named paths need `publish = \"manual\"` or a frozen volume",
            ));
        }
        Ok(())
    }

    /// Publishes it, or shows what would be.
    pub(super) async fn deliver(
        &mut self,
        delivered: Delivered,
        author: Text,
    ) -> Result<PushPlan, CallFailure> {
        self.may_deliver(&delivered.delivery)?;
        let asked_at = Instant::now();
        let Delivered {
            delivery,
            manifest: offered,
            rules,
            landing,
            landing_blobs,
        } = delivered;
        let push = delivery.push;
        let base = self.base(!delivery.whole);
        let base_manifest = self.manifest_of(base.as_ref());
        let base_manifest = base_manifest.map_err(|error| failed(&error))?;
        let (manifest, rules) = if delivery.whole {
            (offered, rules)
        } else {
            let overlaid = overlay(base_manifest.as_deref(), &offered, &paths_of(&offered))?;
            (overlaid, self.rules_of(base.as_ref())?)
        };
        let unchanged = base_manifest.as_deref() == Some(&manifest);
        let mut plan = self.plan(&manifest, base.as_ref(), base_manifest.as_deref());
        plan.unchanged = unchanged;
        if push.dry_run {
            let trees = (base_manifest.as_deref(), &manifest);
            let count = || lines::of_delivered(&self.history, &plan, trees);
            plan.lines = block_in_place(count);
            return Ok(plan);
        }
        if !push.yes && !unchanged {
            guarded(base_manifest.as_deref(), &manifest)?;
        }
        if push.thaw {
            let thawed = self.fleet.thaw(author.clone(), push.message.clone());
            thawed.await.ok_or_else(stopping)?;
        }
        if unchanged {
            let release = base.ok_or_else(|| refused("empty", "the tree is empty"))?;
            self.follow(&release, author, push.message).await?;
            return self.plan_of_release(plan, &release, &manifest);
        }
        block_in_place(|| complete(&self.history, &manifest, &landing_blobs))?;
        let draft = Draft {
            fingerprints: fingerprints(&manifest),
            manifest: Arc::new(manifest),
            rules,
            origin: if delivery.whole {
                Origin::Push
            } else {
                Origin::HotFix
            },
            author,
            host: delivery.host,
            message: push.message,
            git: delivery.git,
        };
        let release = self.append(draft, landing, (Intent::Wanted, Some(asked_at)));
        let release = release.await.map_err(|error| failed(&error))?;
        plan.release = Some(self.shown(&release));
        Ok(plan)
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
