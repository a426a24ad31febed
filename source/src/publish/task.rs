//! The task that owns a volume's scanner.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::{Git, Origin};
use codevol_protocol::rollout::Intent;
use codevol_protocol::settle::{Input, Settle, SettleConfig};
use codevol_protocol::status::{Skipped, WatchState, WatchStatus};
use codevol_store::recorder::Recorder;
use tokio::sync::{mpsc, watch as watched};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::append::{self, Draft, PublishError, Signer};
use super::collect;
use super::guard::{self, Blast};
use super::handle::{PublisherHandle, Request, SourceView};
use crate::config::{PublishMode, VolumeConfig, WatchMode};
use crate::fleet::FleetHandle;
use crate::git::{self, GitDir};
use crate::history::{History, Published};
use crate::journal::Line;
use crate::scan::{Scan, Scanner};
use crate::watch::{self, Hint, UnsureReason, Watcher};

/// How many requests may wait for the task.
const INBOX_MAX: usize = 64;
/// How often a tree that moves under the scan is scanned again before that is said.
const MOVES_MAX: usize = 5;
/// How long after a scan that failed the tree is looked at again.
const RETRY: Duration = Duration::from_secs(2);

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
    cache_file: PathBuf,
    git_dir: Option<GitDir>,
    settle: Settle,
    dirty: Dirty,
    /// Why the watcher holds back, said once.
    blocked: Option<String>,
    /// How many releases were published since the last collection.
    uncollected: usize,
    inbox: mpsc::Receiver<Request>,
    view: watched::Sender<SourceView>,
}

/// What may differ from the last scan.
#[derive(Debug)]
enum Dirty {
    /// Only these paths, and what is below them.
    Paths(BTreeSet<RelPath>),
    /// Nobody knows.
    Everything,
}

/// What a look at the tree found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) scan: Scan,
    pub(super) elapsed: Duration,
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
            settle,
            dirty: Dirty::Everything,
            blocked: None,
            uncollected: collect::INTERVAL,
            inbox,
            view,
        };
        Ok((task, handle))
    }

    /// Runs until the daemon stops.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.git_dir = GitDir::find(&self.config.path).await;
        let watcher = Watcher::start(
            &self.config.path,
            self.config.watch.mode,
            self.git_dir.as_ref(),
        );
        let (watcher, mut hints) = match watcher {
            Ok(started) => started,
            Err(cause) => {
                error!(volume = %self.config.name, error = %Chain(&cause), "cannot watch the tree");
                return;
            }
        };
        let mut frozen = self.fleet.watch();
        let mut rescan = tokio::time::interval(self.config.watch.rescan);
        rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        rescan.reset();
        self.look_at_everything();
        self.settled(&watcher).await;
        loop {
            let deadline = self.settle.deadline().map(tokio::time::Instant::from_std);
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: each arm loses nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                hint = hints.recv() => match hint {
                    Some(hint) => self.hinted(hint),
                    None => break,
                },
                () = due => {
                    // What waits tells of changes before this moment: a tree of which it is not
                    // known yet that it moves is not quiet, and half of a checkout is no release.
                    for _ in 0..hints.len() {
                        if let Ok(hint) = hints.try_recv() {
                            self.hinted(hint);
                        }
                    }
                    self.ask_git();
                    if self.settle.ready(Instant::now()) {
                        self.settled(&watcher).await;
                    }
                }
                _ = rescan.tick() => {
                    self.collect();
                    self.look_at_everything();
                }
                request = self.inbox.recv() => match request {
                    Some(request) => self.requested(request, &watcher).await,
                    None => break,
                },
                // A thaw publishes what was held back.
                Ok(()) = frozen.changed() => self.settle.handle(Input::Changed, Instant::now()),
            }
        }
    }

    /// Has the next look take in the whole tree.
    pub(super) fn expect_anything(&mut self) {
        self.dirty = Dirty::Everything;
    }

    fn look_at_everything(&mut self) {
        self.dirty = Dirty::Everything;
        self.settle.handle(Input::Changed, Instant::now());
    }

    fn hinted(&mut self, hint: Hint) {
        let now = Instant::now();
        if let Some(input) = hint.input() {
            self.settle.handle(input, now);
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
                if reason != UnsureReason::Started {
                    warn!(volume = %self.config.name, ?reason, "watcher may have missed changes");
                    self.show_state(WatchState::Unsure);
                }
                self.look_at_everything();
            }
            Hint::Git => self.dirty = Dirty::Everything,
        }
        self.ask_git();
    }

    /// Finds out whether git is at work. Once it was, hints of what it wrote may still be on their
    /// way when it is done: the whole tree is looked at then.
    fn ask_git(&mut self) {
        let Some(git_dir) = &self.git_dir else { return };
        let input = if git_dir.busy() {
            self.dirty = Dirty::Everything;
            Input::GitBusy
        } else {
            Input::GitIdle
        };
        self.settle.handle(input, Instant::now());
    }

    /// The tree is quiet: publishes what is new in it, where the watcher is to do that.
    async fn settled(&mut self, watcher: &Watcher) {
        let first = !self.view.borrow().scanned;
        let publishes =
            self.config.publish == PublishMode::Auto && self.fleet.view().frozen.is_none();
        self.settle.begin();
        if !publishes && !first {
            return;
        }
        let seen = match self.look(watcher) {
            Ok(seen) => seen,
            Err(cause) => return self.hold_back(&format!("{}", Chain(&cause))),
        };
        if publishes && let Err(cause) = self.publish_watched(seen).await {
            self.hold_back(&format!("{}", Chain(&cause)));
        }
    }

    /// Says once why the tree is not published, and looks at it again later.
    fn hold_back(&mut self, why: &str) {
        if self.blocked.as_deref() != Some(why) {
            error!(volume = %self.config.name, why, "tree is not published");
            self.blocked = Some(why.to_owned());
        }
        self.dirty = Dirty::Everything;
        self.show_state(WatchState::Unsure);
        // `settle` counts from the change; one that lies in the future is a wait.
        self.settle.handle(Input::Changed, Instant::now() + RETRY);
    }

    /// Looks at what may have changed; a tree that moves meanwhile is looked at again.
    pub(super) fn look(&mut self, watcher: &Watcher) -> Result<Seen, PublishError> {
        let began = Instant::now();
        for _ in 0..MOVES_MAX {
            let dirty = std::mem::replace(&mut self.dirty, Dirty::Paths(BTreeSet::new()));
            let scanned = block_in_place(|| match &dirty {
                Dirty::Paths(paths) => self.scanner.partial(paths),
                Dirty::Everything => self.scanner.full(),
            });
            let scan = match scanned {
                Ok(scan) => scan,
                Err(cause) => {
                    self.dirty = Dirty::Everything;
                    self.reopen();
                    return Err(cause.into());
                }
            };
            watcher.follow(&scan.directories, self.scanner.rules(), scan.whole)?;
            if scan.unstable.is_empty() {
                self.show(&scan, watcher);
                return Ok(Seen {
                    scan,
                    elapsed: began.elapsed(),
                });
            }
            self.dirty = Dirty::Everything;
        }
        Err(PublishError::Moved)
    }

    /// After a root was replaced, the one that stands there now is the tree.
    fn reopen(&mut self) {
        let opened = Scanner::open(
            &self.config.path,
            &self.config.ignore,
            Some(&self.cache_file),
        );
        if let Ok(scanner) = opened {
            self.scanner = scanner;
        }
    }

    async fn publish_watched(&mut self, seen: Seen) -> Result<(), PublishError> {
        let head = self.history.head();
        let head_manifest = self.manifest_of(head.as_ref())?;
        if head_manifest.as_deref() == Some(&seen.scan.manifest) {
            self.blocked = None;
            return Ok(());
        }
        if let Err(blast) = guard::check(head_manifest.as_deref(), &seen.scan.manifest) {
            self.guarded(blast);
            return Ok(());
        }
        let quarantined = self.fleet.view().quarantined;
        let manifest = seen.scan.manifest.id();
        let is_broken = |release: &Arc<Published>| {
            release.release().manifest == manifest && quarantined.contains(&release.id())
        };
        let intent = if self.history.releases().iter().any(is_broken) {
            Intent::Held
        } else {
            Intent::Watched
        };
        let asked = Asked {
            origin: Origin::Watch,
            author: Text::cut("codevol"),
            message: Text::default(),
            intent,
        };
        self.publish(seen.scan, asked).await?;
        self.blocked = None;
        Ok(())
    }

    fn guarded(&mut self, blast: Blast) {
        let why = blast.to_string();
        if self.blocked.as_deref() != Some(&why) {
            error!(
                volume = %self.config.name, %blast,
                "tree is not published: is the source unmounted? `codevol push --yes` publishes it"
            );
            let line = self.line("publish").outcome("held back").detail(&why);
            self.journal.record(line.event());
            self.blocked = Some(why);
        }
    }

    /// Publishes a scanned tree whatever the head is.
    pub(super) async fn publish(
        &mut self,
        scan: Scan,
        asked: Asked,
    ) -> Result<Arc<Published>, PublishError> {
        let head = self.history.head();
        let known = self.manifest_of(head.as_ref())?;
        let manifest = Arc::new(scan.manifest);
        let store = || append::store(&self.history, &self.scanner, &manifest, known.as_deref());
        // git runs while the disk works.
        let (git, stored) = tokio::join!(self.describe(), async { block_in_place(store) });
        let draft = Draft {
            manifest: manifest.clone(),
            rules: scan.rules_blob,
            fingerprints: scan.fingerprints,
            origin: asked.origin,
            author: asked.author.clone(),
            message: asked.message,
            git,
        };
        let append = || append::append(&self.history, &self.config.name, &self.signer, draft);
        let appended = stored.and_then(|()| block_in_place(append));
        let release = match appended {
            Ok(release) => release,
            Err(cause) => {
                self.dirty = Dirty::Everything;
                return Err(cause);
            }
        };
        self.announce(&release, asked.author, asked.intent).await;
        self.uncollected += 1;
        Ok(release)
    }

    /// Asks git where the tree stands. Where no repository can be, that is known without running it:
    /// one that was made since the start is found all the same.
    async fn describe(&self) -> Option<Git> {
        let has_git = |dir: &Path| dir.join(".git").symlink_metadata().is_ok();
        if self.git_dir.is_none() && !self.config.path.ancestors().any(has_git) {
            return None;
        }
        git::describe(&self.config.path).await
    }

    /// Tells the fleet and the journal of a release that is in the log.
    pub(super) async fn announce(&self, release: &Arc<Published>, author: Text, intent: Intent) {
        let record = release.release();
        info!(
            volume = %self.config.name, release = %record.seq, origin = %record.origin,
            entries = record.entries, "release published"
        );
        let line = self
            .line("publish")
            .actor(&author)
            .release(Some(release.id()));
        let outcome = if intent == Intent::Held {
            "held"
        } else {
            "published"
        };
        self.journal.record(
            line.outcome(outcome)
                .detail(record.message.as_str())
                .event(),
        );
        self.fleet.published(release, intent).await;
    }

    /// Removes what no kept release needs, now and then. Nothing waits for it but the next change.
    fn collect(&mut self) {
        if self.uncollected < collect::INTERVAL {
            return;
        }
        self.uncollected = 0;
        let needed = self.fleet.view().needed;
        match block_in_place(|| collect::collect(&self.history, self.config.keep, &needed)) {
            Ok(0) => {}
            Ok(swept) => info!(volume = %self.config.name, swept, "old releases collected"),
            Err(cause) => {
                error!(volume = %self.config.name, error = %Chain(&cause), "cannot collect old releases");
            }
        }
    }

    pub(super) fn manifest_of(
        &self,
        release: Option<&Arc<Published>>,
    ) -> Result<Option<Arc<Manifest>>, PublishError> {
        let manifest = release.map(|release| self.history.manifest(release.release().manifest));
        Ok(manifest.transpose()?)
    }

    pub(super) fn line(&self, action: &'static str) -> Line {
        Line::new(action).volume(&self.config.name)
    }

    fn show(&self, scan: &Scan, watcher: &Watcher) {
        let mut skipped: Vec<Skipped> = scan
            .skipped
            .iter()
            .map(|skipped| Skipped {
                path: Text::cut(&skipped.path),
                why: Text::cut(skipped.why.to_string()),
            })
            .collect();
        skipped.sort_by(|a, b| a.path.cmp(&b.path));
        let watch = Some(shown(watcher.status()));
        self.view.send_replace(SourceView {
            scanned: true,
            skipped,
            watch,
        });
    }

    fn show_state(&self, state: WatchState) {
        self.view.send_modify(|view| {
            if let Some(watch) = &mut view.watch {
                watch.state = state;
            }
        });
    }
}

fn shown(status: watch::WatchStatus) -> WatchStatus {
    let mode = if status.mode == WatchMode::Poll {
        "poll"
    } else {
        "inotify"
    };
    let state = match status.state {
        watch::WatchState::Ok => WatchState::Ok,
        watch::WatchState::Unsure => WatchState::Unsure,
        watch::WatchState::Polling => WatchState::Polling,
    };
    WatchStatus {
        mode: Text::cut(mode),
        state,
        advice: status.advice.map(Text::cut),
    }
}

/// Who wants a release, and why.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) author: Text,
    pub(super) message: Text,
    pub(super) intent: Intent,
}
