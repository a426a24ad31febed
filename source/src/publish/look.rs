//! The look at the tree: what may differ from the last scan, what the scan finds, and what of it
//! people are shown.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::settle::Input;
use codevol_protocol::status::{Skipped, WatchState, WatchStatus};
use tokio::task::block_in_place;

use super::append::PublishError;
use super::task::{PublisherTask, sleep_until};
use crate::config::WatchMode;
use crate::scan::{Scan, Scanner};
use crate::watch::{self, Watcher};

/// How often a tree that moves under the scan is scanned again before that is said.
const MOVES_MAX: usize = 5;

/// What may differ from the last scan.
#[derive(Debug)]
pub(super) enum Dirty {
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
    /// Whether something changed while it was looked at, or is about to.
    pub(super) moved: bool,
}

impl Seen {
    /// Returns what the tree holds and cannot be carried, for people.
    pub(super) fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.scan.skipped.iter().map(|skipped| Skipped {
            path: Text::cut(&skipped.path),
            why: Text::cut(skipped.why.to_string()),
        });
        skipped.collect()
    }
}

impl PublisherTask {
    /// Has the next look take in the whole tree.
    pub(super) fn expect_anything(&mut self) {
        self.dirty = Dirty::Everything;
    }

    pub(super) fn look_at_everything(&mut self) {
        self.dirty = Dirty::Everything;
        self.settle.handle(Input::Changed, Instant::now());
    }

    /// Looks at what may have changed; a tree that moves meanwhile is looked at again.
    pub(super) fn look(&mut self, watcher: &Watcher) -> Result<Seen, PublishError> {
        let began = Instant::now();
        for _ in 0..MOVES_MAX {
            let dirty = std::mem::replace(&mut self.dirty, Dirty::Paths(BTreeSet::new()));
            if matches!(dirty, Dirty::Everything) {
                self.metrics.rescans.increment();
            }
            let scanned = block_in_place(|| match &dirty {
                Dirty::Paths(paths) => self.scanner.partial(paths),
                Dirty::Everything => self.scanner.full(),
            });
            let scan = match scanned {
                Ok(scan) => scan,
                Err(cause) => {
                    self.dirty = Dirty::Everything;
                    return Err(cause.into());
                }
            };
            // Before new directories are watched, which is a reason of its own to look at them again.
            let moved = self.take_in(watcher);
            watcher.follow(&scan.directories, self.scanner.rules(), scan.whole)?;
            if scan.unstable.is_empty() {
                self.show(&scan, watcher);
                let elapsed = began.elapsed();
                self.metrics.phases.scan.observe(elapsed);
                let is_unwritten = !scan.unwritten.is_empty();
                if is_unwritten {
                    self.look_again_at(&scan.unwritten);
                }
                return Ok(Seen {
                    scan,
                    elapsed,
                    moved: moved || is_unwritten,
                });
            }
            self.dirty = Dirty::Everything;
        }
        Err(PublishError::Moved)
    }

    fn look_again_at(&mut self, paths: &[RelPath]) {
        if let Dirty::Paths(dirty) = &mut self.dirty {
            dirty.extend(paths.iter().cloned());
        }
        self.settle.handle(Input::Changed, Instant::now());
    }

    /// Looks at all of the tree for a person, who wants it published now: waits until it is quiet, as
    /// long as the longest wait for that, and looks again where it moved meanwhile.
    pub(super) async fn look_when_quiet(
        &mut self,
        watcher: &Watcher,
    ) -> Result<Seen, PublishError> {
        let until = Instant::now() + self.config.watch.settle_max;
        loop {
            self.wait_for_quiet(until).await;
            // What was saved before it was asked for belongs to it, whether or not the watcher has
            // told of it yet.
            self.expect_anything();
            let seen = self.look(watcher)?;
            if !seen.moved || Instant::now() >= until {
                return Ok(seen);
            }
        }
    }

    async fn wait_for_quiet(&mut self, until: Instant) {
        // Git may have begun and changed nothing yet.
        if self.ask_git() {
            self.settle.handle(Input::Changed, Instant::now());
        }
        // A watcher that holds back waits for something else than quiet.
        while self.blocked.is_none() {
            let Some(quiet) = self.settle.deadline() else {
                return;
            };
            if quiet.min(until) <= Instant::now() {
                return;
            }
            // Cancel-safe: both arms lose nothing when dropped.
            tokio::select! {
                () = sleep_until(quiet.min(until)) => {}
                hint = self.hints.recv() => match hint {
                    Some(hint) => self.hinted(hint),
                    None => return,
                },
            }
        }
    }

    /// Has the next look see the tree that stands at the path, where that is another one than the
    /// watched tree. Returns the scanner of the watched one then.
    pub(super) fn look_at_what_stands_there(&mut self) -> Result<Option<Scanner>, PublishError> {
        if !self.scanner.is_replaced() {
            return Ok(None);
        }
        let other = Scanner::open(
            &self.config.path,
            &self.config.ignore,
            Some(&self.cache_file),
        )?;
        Ok(Some(std::mem::replace(&mut self.scanner, other)))
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
        self.view.send_modify(|view| {
            view.scanned = true;
            view.skipped = skipped;
            view.watch = watch;
        });
        self.changes.tell();
    }

    pub(super) fn show_unsure(&self) {
        self.view.send_modify(|view| {
            if let Some(watch) = &mut view.watch {
                watch.state = WatchState::Unsure;
            }
        });
        self.changes.tell();
    }

    /// Shows that the tree is not published, and why, until a look at it succeeds.
    pub(super) fn show_held_back(&self, why: &str, watcher: &Watcher) {
        self.view.send_modify(|view| {
            let watch = view.watch.get_or_insert_with(|| shown(watcher.status()));
            watch.state = WatchState::Unsure;
            watch.advice = Some(Text::cut(why));
        });
        self.changes.tell();
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
