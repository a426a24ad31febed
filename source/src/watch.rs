//! The watcher: hints that a path may have changed. It never decides anything; the scan does.
//!
//! ```text
//! inotify --> thread --(table: watch <-> directory)--> bounded queue of hints --> the volume's task
//!                ^                                                                      |
//!                +---------------- follow(): which directories the scan walked ---------+
//! ```
//! A hint that does not fit into the queue becomes one `Unsure`, for which a place is kept free. inotify
//! is used by itself and not through `notify`, which cannot leave out `IN_OPEN`: with it every reader
//! of the tree, our own rescan first, floods the queue of events.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use codevol_protocol::path::RelPath;
use rustix::event::{PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::WatchMode;
use crate::git::GitDir;
use crate::rules::Rules;

mod hint;
mod limits;
mod outbox;
mod table;

pub use hint::{DirtyKind, Hint, UnsureReason};
use outbox::Outbox;
use table::Table;

/// Most hints that wait for the scan.
const HINTS_MAX: usize = 4_096;
/// How often a polled tree is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// From how many new directories on a full rescan costs less than one look at each.
const NEW_DIRECTORIES_MAX: usize = 64;

/// How the tree is watched right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchStatus {
    /// `Inotify` or `Poll`.
    pub mode: WatchMode,
    /// Whether its hints can be relied on.
    pub state: WatchState,
    /// A sentence that says how to mend what is less than it could be.
    pub advice: Option<String>,
}

/// Whether hints can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchState {
    /// Every change is seen.
    Ok,
    /// Changes may have been missed; the next full scan ends this.
    Unsure,
    /// There are no hints but the clock's.
    Polling,
}

/// Why a tree cannot be watched. Only `mode = "inotify"` fails: `auto` polls instead.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A system call failed.
    #[error("cannot watch `{}`{}", path.display(), advice.as_deref().map_or_else(String::new, |advice| format!(": {advice}")))]
    Watch {
        /// The directory.
        path: PathBuf,
        /// How to mend it, where that is known.
        advice: Option<String>,
        /// Why.
        source: std::io::Error,
    },
    /// The file system reports no events.
    #[error("cannot watch `{path}`: {kind} reports no changes made elsewhere; use `poll`", path = path.display())]
    NoEvents {
        /// The tree.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
}

/// Watches one tree until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    asked: WatchMode,
    table: Option<Table>,
    outbox: Outbox,
    status: WatchStatus,
}

impl Watcher {
    /// Begins to watch the root and, where there is one, the git directory. The first hint asks for
    /// a full scan; [`Watcher::follow`] extends the watch to what that scan walked.
    ///
    /// # Errors
    /// With [`WatchMode::Inotify`], when the root cannot be watched.
    pub fn start(
        root: &Path,
        mode: WatchMode,
        git: Option<&GitDir>,
    ) -> Result<(Self, mpsc::Receiver<Hint>), WatchError> {
        let io = |error: Errno| WatchError::Watch {
            path: root.to_path_buf(),
            advice: None,
            source: error.into(),
        };
        let root = std::path::absolute(root).map_err(|source| WatchError::Watch {
            path: root.to_path_buf(),
            advice: None,
            source,
        })?;
        let (outbox, hints) = Outbox::new(HINTS_MAX);
        let (table, advice) = begin(&root, mode, git)?;
        let mut shared = Shared {
            asked: mode,
            status: WatchStatus::of(table.is_some(), advice),
            table,
            outbox,
        };
        shared.unsure(UnsureReason::Started);
        let shared = Arc::new(Mutex::new(shared));
        let stop = Arc::new(eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(io)?);
        let body = {
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            move || run(&shared, &stop)
        };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(body);
        let thread = thread.map_err(|source| WatchError::Watch {
            path: root.clone(),
            advice: None,
            source,
        })?;
        let thread = Some(thread);
        Ok((
            Self {
                shared,
                stop,
                thread,
            },
            hints,
        ))
    }

    /// Watches exactly these directories (and the root): what a scan walked, and with which rules.
    /// Call it after each scan. A directory that was not watched before is reported dirty once more,
    /// since it may have changed between the scan's look and the watch. A whole scan ends `unsure`.
    ///
    /// # Errors
    /// With [`WatchMode::Inotify`], when a directory cannot be watched.
    pub fn follow(
        &self,
        directories: &[RelPath],
        rules: Arc<Rules>,
        whole: bool,
    ) -> Result<(), WatchError> {
        let mut shared = lock(&self.shared);
        let Shared { table, .. } = &mut *shared;
        let Some(table) = table else { return Ok(()) };
        match table.follow(directories, rules, whole) {
            Ok(added) => {
                if whole {
                    shared.status.state = WatchState::Ok;
                }
                match added.filter(|added| added.len() <= NEW_DIRECTORIES_MAX) {
                    Some(added) => {
                        for path in added {
                            let kind = DirtyKind::Other;
                            shared.outbox.send(Hint::Dirty { path, kind });
                        }
                    }
                    None => shared.hint_unsure(UnsureReason::Started),
                }
                Ok(())
            }
            Err(failure) => shared.fail(failure),
        }
    }

    /// Takes in what the kernel has said until now: when this returns, changes before the call have
    /// their hints in the queue. Of a flood its beginning is taken in, which tells that there is one.
    pub fn catch_up(&self) {
        lock(&self.shared).take_in();
    }

    /// Returns how the tree is watched right now.
    #[must_use]
    pub fn status(&self) -> WatchStatus {
        lock(&self.shared).status.clone()
    }

    /// Returns how many directories are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        lock(&self.shared).table.as_ref().map_or(0, Table::len)
    }
}

impl Watcher {
    /// Ends the thread: nothing is taken in by itself any more.
    fn end(&mut self) {
        // The descriptor counts: the thread sees it whenever it looks.
        if rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the watcher's thread failed");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

impl WatchStatus {
    const fn of(is_inotify: bool, advice: Option<String>) -> Self {
        let (mode, state) = if is_inotify {
            (WatchMode::Inotify, WatchState::Unsure)
        } else {
            (WatchMode::Poll, WatchState::Polling)
        };
        Self {
            mode,
            state,
            advice,
        }
    }
}

impl Shared {
    /// Says that anything may have changed.
    fn hint_unsure(&mut self, reason: UnsureReason) {
        self.outbox.send(Hint::Unsure { reason });
    }

    /// Says it, and that hints cannot be relied on until a full scan.
    fn unsure(&mut self, reason: UnsureReason) {
        if self.status.state == WatchState::Ok {
            self.status.state = WatchState::Unsure;
        }
        self.hint_unsure(reason);
    }

    /// Falls back to polling where that is allowed.
    fn fail(&mut self, failure: WatchError) -> Result<(), WatchError> {
        let WatchError::Watch { advice, source, .. } = &failure else {
            return Err(failure);
        };
        warn!(error = %source, "cannot watch the whole tree");
        if self.asked == WatchMode::Inotify {
            self.status.state = WatchState::Unsure;
            self.status.advice.clone_from(advice);
            self.hint_unsure(UnsureReason::WatchFailed);
            return Err(failure);
        }
        // All of it: half a watch costs its watches and proves nothing.
        self.table = None;
        self.status = WatchStatus::of(false, advice.clone());
        self.hint_unsure(UnsureReason::WatchFailed);
        Ok(())
    }

    /// Turns what the kernel said into hints.
    fn take_in(&mut self) {
        let Some(table) = &mut self.table else { return };
        let news = table.read();
        // First: git locks before it writes. Whether it has released since, is asked.
        if news.git {
            self.outbox.send(Hint::Git);
        }
        for (path, kind) in news.dirty {
            self.outbox.send(Hint::Dirty { path, kind });
        }
        for reason in news.unsure {
            self.unsure(reason);
        }
        if let Some(failure) = news.failure
            && let Err(error) = self.fail(failure)
        {
            warn!(%error, "a new directory is not watched");
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets up inotify, or finds out why the tree is to be polled.
fn begin(
    root: &Path,
    mode: WatchMode,
    git: Option<&GitDir>,
) -> Result<(Option<Table>, Option<String>), WatchError> {
    if mode == WatchMode::Poll {
        return Ok((None, None));
    }
    if let Some(kind) = limits::without_events(root) {
        return match mode {
            WatchMode::Inotify => Err(WatchError::NoEvents {
                path: root.to_path_buf(),
                kind,
            }),
            WatchMode::Auto | WatchMode::Poll => {
                let advice =
                    format!("{kind} reports no changes made elsewhere: the tree is polled");
                Ok((None, Some(advice)))
            }
        };
    }
    match Table::new(root, git) {
        Ok(table) => Ok((Some(table), None)),
        Err(WatchError::Watch { advice, .. }) if mode == WatchMode::Auto => Ok((None, advice)),
        Err(error) => Err(error),
    }
}

/// The thread: waits for events, the stop or, when polling, the clock.
fn run(shared: &Mutex<Shared>, stop: &OwnedFd) {
    loop {
        let inotify = lock(shared).table.as_ref().map(Table::descriptor);
        let mut ready = vec![PollFd::new(stop, PollFlags::IN)];
        let mut wait = None;
        match &inotify {
            Some(inotify) => ready.push(PollFd::new(&**inotify, PollFlags::IN)),
            None => wait = Timespec::try_from(POLL_INTERVAL).ok(),
        }
        match poll(&mut ready, wait.as_ref()) {
            Ok(0) => {
                let mut shared = lock(shared);
                if shared.outbox.is_drained() {
                    shared.hint_unsure(UnsureReason::Poll);
                }
            }
            Ok(_) => {
                if ready.first().is_some_and(|fd| !fd.revents().is_empty()) {
                    return;
                }
                lock(shared).take_in();
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                warn!(%error, "cannot wait for events; the tree is polled");
                let mut shared = lock(shared);
                shared.table = None;
                shared.status = WatchStatus::of(false, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
