//! What the watcher brings about by itself: its hints move the settle machine, and a tree that is
//! quiet is published, unless something speaks against it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::release::Origin;
use codevol_protocol::rollout::Intent;
use codevol_protocol::settle::Input;
use codevol_protocol::story::action;
use tracing::{error, warn};

use super::append::PublishError;
use super::guard::{self, Blast};
use super::look::{Dirty, Seen};
use super::release::Asked;
use super::task::PublisherTask;
use crate::config::PublishMode;
use crate::history::Published;
use crate::scan::{Scan, ScanError, SkipReason};
use crate::watch::{Hint, UnsureReason, Watcher};

/// How long after a scan that failed the tree is looked at again.
const RETRY: Duration = Duration::from_secs(2);
/// How long after agents were told of a release that did not come they are told of another.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// The changes that a look at the tree takes in, and when it began.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
    looked_at: Instant,
}

impl PublisherTask {
    pub(super) fn hinted(&mut self, hint: Hint) {
        let now = Instant::now();
        if let Some(input) = hint.input() {
            let is_first = self.settle.burst().is_none();
            self.settle.handle(input, now);
            if is_first && self.settle.burst().is_some() {
                self.warn_fleet(now);
            }
        }
        match hint {
            Hint::Dirty { path, .. } => {
                if let Dirty::Paths(paths) = &mut self.dirty {
                    paths.insert(path);
                }
            }
            Hint::Unsure {
                reason: UnsureReason::Poll,
            } => self.look_at_everything(),
            Hint::Unsure { reason } => {
                if matches!(reason, UnsureReason::Overflow | UnsureReason::QueueFull) {
                    self.metrics.overflows.increment();
                }
                if reason != UnsureReason::Started {
                    warn!(volume = %self.config.name, ?reason, "watcher may have missed changes");
                    self.show_unsure();
                }
                self.look_at_everything();
            }
            Hint::Git => {
                self.dirty = Dirty::Everything;
                self.fixes_due = true;
            }
        }
        self.ask_git();
    }

    /// Has the agents get ready while the tree settles, at the first sign of a change. What changes all
    /// the time and is never published, as a log in the tree, does not keep them busy.
    fn warn_fleet(&mut self, now: Instant) {
        let is_due = self.warned.is_none_or(|at| now >= at + WARN_AGAIN);
        if is_due && self.publishes() {
            self.warned = Some(now);
            self.fleet.soon();
        }
    }

    fn publishes(&self) -> bool {
        self.config.publish == PublishMode::Auto && self.fleet.view().frozen.is_none()
    }

    /// Finds out whether git is at work. Once it was, hints of what it wrote may still be on their
    /// way when it is done: the whole tree is looked at then.
    pub(super) fn ask_git(&mut self) -> bool {
        let Some(git_dir) = &self.git_dir else {
            return false;
        };
        let is_busy = git_dir.busy();
        let input = if is_busy {
            self.dirty = Dirty::Everything;
            Input::GitBusy
        } else {
            Input::GitIdle
        };
        self.settle.handle(input, Instant::now());
        is_busy
    }

    /// The tree is quiet: publishes what is new in it, where the watcher is to do that.
    pub(super) async fn settled(&mut self, watcher: &Watcher) {
        let first = !self.view.borrow().scanned;
        let publishes = self.publishes();
        let burst = self.settle.burst();
        self.settle.begin();
        if !publishes && !first {
            return;
        }
        // What stands there when the daemon starts was not written now.
        let looked_at = Instant::now();
        let burst = burst.filter(|_| !first).map(|(first, last)| Burst {
            first,
            last,
            looked_at,
        });
        let seen = match self.look(watcher) {
            Ok(seen) => seen,
            Err(cause) => return self.hold_back(&cause, watcher),
        };
        // The look may have met one file from before a change and one from after it: the tree waits
        // for quiet once more. One that is never quiet is published all the same.
        if seen.moved {
            let now = Instant::now();
            let since = *self.moving_since.get_or_insert(now);
            if now < since + self.config.watch.settle_max {
                // Where only git's locks came and went, nothing else has begun that wait.
                self.settle.handle(Input::Changed, now);
                return;
            }
        }
        self.moving_since = None;
        if publishes && let Err(cause) = self.publish_watched(seen, burst).await {
            self.hold_back(&cause, watcher);
        }
    }

    /// Says once why the tree is not published, and looks at it again later. A tree in the place of
    /// the watched one stays unpublished until a person pushes it, or the watched one is back.
    pub(super) fn hold_back(&mut self, cause: &PublishError, watcher: &Watcher) {
        let mut why = Chain(cause).to_string();
        if matches!(cause, PublishError::Scan(ScanError::RootReplaced(_))) {
            why.push_str("; `codevol push` publishes what stands there");
        }
        if self.blocked.as_deref() != Some(&why) {
            error!(volume = %self.config.name, why, "tree is not published");
            self.held_back(&why);
        }
        self.dirty = Dirty::Everything;
        self.show_held_back(&why, watcher);
        // `settle` counts from the change; one that lies in the future is a wait.
        self.settle.handle(Input::Changed, Instant::now() + RETRY);
    }

    async fn publish_watched(
        &mut self,
        seen: Seen,
        burst: Option<Burst>,
    ) -> Result<(), PublishError> {
        let head = self.history.head();
        let head_manifest = self.kept_manifest_of(head.as_ref())?;
        if head_manifest.as_deref() == Some(&seen.scan.manifest) {
            self.blocked = None;
            return Ok(());
        }
        if let Err(blast) = guard::check(head_manifest.as_deref(), &seen.scan.manifest) {
            self.guarded(blast, &seen.scan);
            return Ok(());
        }
        let intent = if self.is_broken(&seen.scan.manifest) {
            Intent::Held
        } else {
            Intent::Watched
        };
        let asked = Asked {
            origin: Origin::Watch,
            author: Text::cut("codevol"),
            message: Text::default(),
            intent,
            written: burst.map(|burst| burst.last),
        };
        self.publish(seen.scan, asked).await?;
        if let Some(burst) = burst {
            let settled = burst.looked_at.saturating_duration_since(burst.first);
            self.metrics.phases.settle.observe(settled);
        }
        self.blocked = None;
        Ok(())
    }

    /// Whether a release with this tree was found broken.
    fn is_broken(&self, tree: &Manifest) -> bool {
        let quarantined = self.fleet.view().quarantined;
        if quarantined.is_empty() {
            return false;
        }
        let manifest = tree.id();
        let is_broken = |release: &Arc<Published>| {
            release.release().manifest == manifest && quarantined.contains(&release.id())
        };
        self.history.releases().iter().any(is_broken)
    }

    fn guarded(&mut self, blast: Blast, scan: &Scan) {
        let unreadable = scan.skipped.iter();
        let unreadable = unreadable.filter(|skipped| skipped.why == SkipReason::Unreadable);
        let why = match unreadable.count() {
            0 => format!("{blast}: is the source unmounted?"),
            count => format!("{blast}: this daemon's user may not read {count} of its paths"),
        };
        if self.blocked.as_deref() != Some(&why) {
            error!(
                volume = %self.config.name, why,
                "tree is not published; `codevol push --yes` publishes it all the same"
            );
            self.held_back(&why);
        }
    }

    fn held_back(&mut self, why: &str) {
        let line = self.line(action::PUBLISH).outcome("held back").detail(why);
        self.journal.record(line.event());
        self.blocked = Some(why.to_owned());
    }
}
