//! The task that owns a volume's scanner: what it is made of, and what wakes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::settle::{Input, Settle, SettleConfig};
use codevol_store::dir::Dir;
use codevol_store::recorder::Recorder;
use codevol_transport::Changes;
use tokio::sync::{mpsc, watch as watched};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::append::{PublishError, Signer};
use super::collect;
use super::handle::{PublisherHandle, Request, SourceView};
use super::intent::Intents;
use super::look::Dirty;
use crate::config::VolumeConfig;
use crate::fleet::{FleetHandle, FleetView};
use crate::git::{self, Asker, GitDir};
use crate::history::{History, Published};
use crate::journal::Line;
use crate::metrics::VolumeMetrics;
use crate::scan::Scanner;
use crate::watch::{Hint, Watcher};

/// How many requests may wait for the task.
const INBOX_MAX: usize = 64;
/// How much later than asked the runtime may wake a task that sleeps.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// What the task is made of.
#[derive(Debug)]
pub struct PublisherParts {
    /// The volume.
    pub config: VolumeConfig,
    /// Where the scanner keeps what it knows of the files.
    pub cache_file: PathBuf,
    /// The volume's releases.
    pub history: Arc<History>,
    /// The volume's fleet.
    pub fleet: FleetHandle,
    /// Who signs.
    pub signer: Signer,
    /// The journal.
    pub journal: Recorder,
    /// Where looks and releases are counted.
    pub metrics: Arc<VolumeMetrics>,
    /// Whom to tell when something has changed.
    pub changes: Changes,
    /// The volume's directory of STATE.
    pub state: Dir,
}

/// What of the fleet bears on what is looked at.
#[derive(Debug, Clone, Copy)]
struct Standing {
    is_frozen: bool,
    live: Option<ReleaseId>,
}

impl Standing {
    fn of(view: &FleetView) -> Self {
        Self {
            is_frozen: view.frozen.is_some(),
            live: view.live,
        }
    }
}

/// The task: [`Self::run`] it.
#[derive(Debug)]
pub struct PublisherTask {
    pub(super) config: VolumeConfig,
    pub(super) scanner: Scanner,
    pub(super) history: Arc<History>,
    pub(super) fleet: FleetHandle,
    pub(super) signer: Signer,
    pub(super) journal: Recorder,
    pub(super) cache_file: PathBuf,
    pub(super) git_dir: Option<GitDir>,
    pub(super) git: Asker,
    pub(super) settle: Settle,
    pub(super) dirty: Dirty,
    /// Why the watcher holds back, said once.
    pub(super) blocked: Option<String>,
    /// How many releases were published since the last collection.
    pub(super) uncollected: usize,
    /// When agents were told last of a release to come, until one does.
    pub(super) warned: Option<Instant>,
    /// Since when the tree moved under each look at it.
    pub(super) moving_since: Option<Instant>,
    pub(super) hints: mpsc::Receiver<Hint>,
    inbox: mpsc::Receiver<Request>,
    pub(super) view: watched::Sender<SourceView>,
    pub(super) metrics: Arc<VolumeMetrics>,
    pub(super) changes: Changes,
    pub(super) intents: Intents,
    /// Whether hot-fixes may have come into git, or gone live, since that was looked at.
    pub(super) fixes_due: bool,
}

impl PublisherTask {
    /// Opens the tree, and makes the task and the handle to it.
    ///
    /// # Errors
    /// When the tree cannot be opened.
    pub fn new(parts: PublisherParts) -> Result<(Self, PublisherHandle), PublishError> {
        let PublisherParts {
            config,
            cache_file,
            history,
            fleet,
            signer,
            journal,
            metrics,
            changes,
            state,
        } = parts;
        let scanner = Scanner::open(&config.path, &config.ignore, Some(&cache_file))?;
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let (view, seen) = watched::channel(SourceView::default());
        let settle = Settle::new(SettleConfig {
            settle: config.watch.settle,
            settle_max: config.watch.settle_max,
        });
        let handle = PublisherHandle {
            inbox: sender,
            view: seen,
        };
        let task = Self {
            config,
            scanner,
            history,
            fleet,
            signer,
            journal,
            cache_file,
            git_dir: None,
            git: Asker::default(),
            settle,
            dirty: Dirty::Everything,
            blocked: None,
            uncollected: collect::INTERVAL,
            warned: None,
            moving_since: None,
            // Nobody hints before it runs.
            hints: mpsc::channel(1).1,
            inbox,
            view,
            metrics,
            changes,
            intents: Intents::new(state),
            fixes_due: true,
        };
        Ok((task, handle))
    }

    /// Runs until the daemon stops, and stops it where the tree cannot be watched.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without this task the daemon is of no use: however it ends, by a panic too, all end.
        let _stop = shutdown.clone().drop_guard();
        self.git_dir = self.find_git().await;
        let watcher = Watcher::start(
            &self.config.path,
            self.config.watch.mode,
            self.git_dir.as_ref(),
        );
        let watcher = match watcher {
            Ok((watcher, hints)) => {
                self.hints = hints;
                watcher
            }
            Err(cause) => {
                error!(volume = %self.config.name, error = %Chain(&cause), "cannot watch the tree");
                return;
            }
        };
        let mut fleet = self.fleet.watch();
        let mut standing = Standing::of(&self.fleet.view());
        let mut rescan = tokio::time::interval(self.config.watch.rescan);
        rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        rescan.reset();
        self.begin(&watcher).await;
        loop {
            // A tree that is about to be published does not wait for git.
            if self.fixes_due && self.settle.deadline().is_none() {
                self.look_for_fixes().await;
                self.prepare();
            }
            let deadline = self.settle.deadline();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: each arm loses nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                hint = self.hints.recv() => match hint {
                    Some(hint) => self.hinted(hint),
                    None => break,
                },
                () = due => {
                    self.take_in(&watcher);
                    self.ask_git();
                    if self.settle.ready(Instant::now()) {
                        self.settled(&watcher).await;
                    }
                }
                _ = rescan.tick() => {
                    self.collect();
                    self.fixes_due = true;
                    self.look_at_everything();
                }
                request = self.inbox.recv() => match request {
                    Some(request) => self.requested(request, &watcher).await,
                    None => break,
                },
                Ok(()) = fleet.changed() => {
                    let now = Standing::of(&fleet.borrow_and_update());
                    self.fleet_moved(std::mem::replace(&mut standing, now), now);
                }
            }
        }
    }

    /// Prepares the next release. Without it that only takes longer.
    fn prepare(&self) {
        if let Err(cause) = block_in_place(|| self.history.prepare()) {
            debug!(volume = %self.config.name, error = %Chain(&cause), "the next release is not prepared");
        }
    }

    fn fleet_moved(&mut self, was: Standing, now: Standing) {
        self.fixes_due |= was.live != now.live;
        // A thaw publishes what was held back. All else that the fleet does is no hint that the tree
        // is quiet.
        if was.is_frozen && !now.is_frozen {
            self.settle.handle(Input::Changed, Instant::now());
        }
    }

    /// Looks at the tree for the first time.
    async fn begin(&mut self, watcher: &Watcher) {
        // Before that: what is half of a hot-fix is not somebody's save.
        if let Err(cause) = self.complete_intent().await {
            error!(volume = %self.config.name, error = %Chain(&cause), "a hot-fix that was begun cannot be completed");
        }
        self.take_in(watcher);
        self.look_at_everything();
        self.settled(watcher).await;
    }

    pub(super) fn manifest_of(
        &self,
        release: Option<&Arc<Published>>,
    ) -> Result<Option<Arc<Manifest>>, PublishError> {
        let manifest = release.map(|release| self.history.manifest(release.release().manifest));
        Ok(manifest.transpose()?)
    }

    /// The same for whole trees: nothing, too, where the release's files are not kept, as of one that a
    /// restored source took in from an agent.
    pub(super) fn kept_manifest_of(
        &self,
        release: Option<&Arc<Published>>,
    ) -> Result<Option<Arc<Manifest>>, PublishError> {
        match self.manifest_of(release) {
            Err(PublishError::History(error)) if error.is_not_found() => Ok(None),
            manifest => manifest,
        }
    }

    pub(super) fn line(&self, action: &'static str) -> Line {
        Line::new(action).volume(&self.config.name)
    }

    async fn find_git(&self) -> Option<GitDir> {
        let tree = &self.config.path;
        let found = GitDir::find(tree).await;
        if found.is_none() && git::is_expected(tree) {
            warn!(
                volume = %self.config.name, tree = %tree.display(),
                "git does not answer for the tree: releases bear no commit, and half of a checkout may be published; `git status` there, as this user, says why"
            );
        }
        found
    }

    /// Takes in what tells of changes before this moment, and returns whether anything does: a tree of
    /// which it is not known yet that it moves is not quiet, and half of a checkout is no release.
    pub(super) fn take_in(&mut self, watcher: &Watcher) -> bool {
        watcher.catch_up();
        let mut moved = false;
        for _ in 0..self.hints.len() {
            if let Ok(hint) = self.hints.try_recv() {
                moved |= hint.is_news();
                self.hinted(hint);
            }
        }
        moved
    }
}

/// Sleeps to the moment itself. The runtime's timers count in milliseconds and round up, the poll
/// below them does so once more: of a settle time of a few that would be the greater part.
pub(super) async fn sleep_until(at: Instant) {
    if let Some(before) = at.checked_sub(TIMER_GRAIN) {
        tokio::time::sleep_until(before.into()).await;
    }
    let left = at.saturating_duration_since(Instant::now());
    block_in_place(|| std::thread::sleep(left));
}
