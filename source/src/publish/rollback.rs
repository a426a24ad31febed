//! Rolling back: an older tree is published as a new release, and the volume is frozen, so that the
//! next save does not bring the bad edit back.

use std::sync::Arc;

use codevol_protocol::call::{CallFailure, FailureSort, PushPlan, ReleaseRef};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::release::Origin;
use codevol_protocol::rollout::{Frozen, Intent};
use codevol_protocol::story::action;
use codevol_store::landing::Landing;
use tokio::task::block_in_place;

use super::append::{self, Draft};
use super::plan::changes;
use super::request::{failed, refused, stopping};
use super::task::PublisherTask;
use crate::bus::now;
use crate::fleet::FleetView;
use crate::history::Published;

impl PublisherTask {
    pub(super) async fn rollback(
        &self,
        to: Option<ReleaseRef>,
        author: Text,
        message: Text,
    ) -> Result<PushPlan, CallFailure> {
        let view = self.fleet.view();
        let (target, manifest) = self.target(&view, to.as_ref())?;
        let live = view.live.and_then(|live| self.history.by_id(live));
        let from = live
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), |live| live.seq().to_string());
        let why = Text::cut(format!("rolled back from {from} to {}", target.seq()));
        let live_manifest = self
            .kept_manifest_of(live.as_ref())
            .map_err(|error| failed(&error))?;
        let (changes, changes_more) = changes(live_manifest.as_deref(), &manifest);
        let record = target.release();
        let rules = self.history.ignore_rules(record.ignore_rules);
        let draft = Draft {
            manifest,
            rules: rules.map_err(|error| failed(&error.into()))?,
            fingerprints: record.fingerprints.clone(),
            origin: Origin::Rollback,
            author: author.clone(),
            host: self.signer.host.clone(),
            message: if message.is_empty() {
                why.clone()
            } else {
                message
            },
            git: record.git.clone(),
        };
        // Frozen first: between the two, a save must not come in.
        let line = self.line(action::ROLLBACK).actor(&author);
        let line = line.release(live.as_ref().map(|live| live.id()));
        self.journal.record(line.detail(why.as_str()).event());
        let (by, at) = (author.clone(), now());
        self.fleet
            .freeze(Frozen {
                why,
                by,
                at,
                by_rollback: true,
            })
            .await
            .ok_or_else(stopping)?;
        // Its files are those of a release that is kept.
        let none = Landing::default();
        let append = || append::append(&self.history, &self.config.name, &self.signer, draft, none);
        let release = block_in_place(append).map_err(|error| failed(&error))?;
        self.announce(&release, author, Intent::Wanted).await;
        Ok(PushPlan {
            release: Some(self.shown(&release)),
            base: live.map(|live| live.seq()),
            changes,
            changes_more,
            ..self.empty_plan()
        })
    }

    /// Returns the release to go back to: the named one, else the one that was live before.
    fn target(
        &self,
        view: &FleetView,
        to: Option<&ReleaseRef>,
    ) -> Result<(Arc<Published>, Arc<Manifest>), CallFailure> {
        let found = match to {
            Some(named) => self.history.find(named),
            None => view
                .previous
                .and_then(|previous| self.history.by_id(previous)),
        };
        let target = found.ok_or_else(|| {
            let what = to.map_or_else(
                || "no other release was live before".to_owned(),
                |named| format!("there is no release {named}"),
            );
            CallFailure::new(FailureSort::Refused, "not-found", what)
                .hint("`codevol log` lists the releases")
        })?;
        let seq = target.seq();
        if view.quarantined.contains(&target.id()) {
            return Err(refused("quarantined", format!("{seq} was found broken"))
                .hint(format!("`codevol retry {seq}` tries it once more")));
        }
        let manifest = self
            .history
            .manifest(target.release().manifest)
            .map_err(|error| {
                if error.is_not_found() {
                    refused(
                        "not-kept",
                        format!("the files of {seq} are not kept any more"),
                    )
                    .hint("`keep` in the source's configuration says how many releases are kept")
                } else {
                    failed(&error.into())
                }
            })?;
        Ok((target, manifest))
    }
}
