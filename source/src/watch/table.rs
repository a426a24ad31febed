//! Which directory each inotify watch stands for, and what its events mean.
//!
//! A watch belongs to an inode, not to a path. A renamed directory keeps its watch, so one look-up
//! by path may return the watch of another path; [`Table::remove`] ends a watch only if it still
//! stands for that path, and an event that a directory appeared always watches it anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codevol_protocol::path::{InvalidRelPath, RelPath};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tracing::debug;

use super::{DirtyKind, UnsureReason, WatchError, limits};
use crate::git::GitDir;
use crate::rules::{CODEVOL_IGNORE, Rules, Verdict, is_rule_file};

const EVENTS_BYTES: usize = 64 << 10;

/// What a watch stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Root,
    Dir(RelPath),
    Git,
}

/// The watches of one tree.
#[derive(Debug)]
pub(super) struct Table {
    inotify: Arc<OwnedFd>,
    root: PathBuf,
    by_watch: HashMap<i32, Watched>,
    by_path: BTreeMap<RelPath, i32>,
    rules: Option<Arc<Rules>>,
    /// Events were lost: a path may be another inode than the one that is watched.
    stale: bool,
}

/// What a batch of events comes to.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) dirty: BTreeMap<RelPath, DirtyKind>,
    pub(super) unsure: Vec<UnsureReason>,
    pub(super) git: bool,
    pub(super) failure: Option<WatchError>,
}

/// One event, as the kernel gave it.
#[derive(Debug)]
struct Event {
    watch: i32,
    flags: ReadFlags,
    name: Option<Vec<u8>>,
}

impl News {
    fn dirty(&mut self, path: RelPath, kind: DirtyKind) {
        let last = self.dirty.entry(path).or_insert(kind);
        // That a mode changed does not end a write.
        if kind != DirtyKind::Other {
            *last = kind;
        }
    }

    fn unsure(&mut self, reason: UnsureReason) {
        if !self.unsure.contains(&reason) {
            self.unsure.push(reason);
        }
    }
}

impl Table {
    /// Watches the root, and the git directory.
    pub(super) fn new(root: &Path, git: Option<&GitDir>) -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| failure(root, error))?;
        let mut table = Self {
            inotify: Arc::new(inotify),
            root: root.to_path_buf(),
            by_watch: HashMap::new(),
            by_path: BTreeMap::new(),
            rules: None,
            stale: false,
        };
        table.watch_root()?;
        if let Some(git) = git {
            let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
            let watch = table.add(git.path(), names | WatchFlags::ONLYDIR)?;
            table.by_watch.insert(watch, Watched::Git);
        }
        Ok(table)
    }

    pub(super) fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.inotify)
    }

    pub(super) fn len(&self) -> usize {
        self.by_watch.len()
    }

    /// Watches exactly these directories, and returns those that were not watched before; nothing where
    /// the root itself was not.
    pub(super) fn follow(
        &mut self,
        directories: &[RelPath],
        rules: Arc<Rules>,
        whole: bool,
    ) -> Result<Option<Vec<RelPath>>, WatchError> {
        self.rules = Some(rules);
        let is_same_root = !whole
            || match self.watch_root() {
                Err(WatchError::Watch { source, .. }) if is_gone(&source) => true,
                watched => !watched?,
            };
        let wanted: BTreeSet<&RelPath> = directories.iter().collect();
        let known = self.by_path.keys();
        let gone: Vec<RelPath> = known.filter(|p| !wanted.contains(p)).cloned().collect();
        for path in &gone {
            self.remove(path);
        }
        let again = whole && std::mem::take(&mut self.stale);
        let mut added = Vec::new();
        for path in directories {
            if (again || !self.by_path.contains_key(path)) && self.watch(path)? {
                added.push(path.clone());
            }
        }
        if again {
            self.end_stale();
        }
        Ok(is_same_root.then_some(added))
    }

    /// Ends the watches of directories that left the tree unseen.
    fn end_stale(&mut self) {
        let Self {
            by_watch, by_path, ..
        } = self;
        let is_stale = |watch: i32, watched: &Watched| match watched {
            Watched::Dir(path) => by_path.get(path) != Some(&watch),
            Watched::Root | Watched::Git => false,
        };
        for (watch, _) in by_watch.extract_if(|watch, watched| is_stale(*watch, watched)) {
            end(&self.inotify, watch);
        }
    }

    /// Takes in the events that wait.
    pub(super) fn read(&mut self) -> News {
        let mut news = News::default();
        let inotify = self.descriptor();
        let mut buffer = vec![MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = Reader::new(&*inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => Event {
                    watch: event.wd(),
                    flags: event.events(),
                    name: event.file_name().map(|name| name.to_bytes().to_vec()),
                },
                Err(Errno::AGAIN) => return news,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.stale = true;
                    news.unsure(UnsureReason::Overflow);
                    return news;
                }
            };
            self.take_in(event, &mut news);
            // What is written without end must not be read without end.
            if reader.is_buffer_empty() {
                return news;
            }
        }
    }

    fn take_in(&mut self, event: Event, news: &mut News) {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.stale = true;
            return news.unsure(UnsureReason::Overflow);
        }
        let Some(watched) = self.by_watch.get(&event.watch).cloned() else {
            return;
        };
        let dir = match watched {
            Watched::Git => {
                news.git |= event.name.is_none_or(|name| GitDir::is_sign(&name));
                return;
            }
            Watched::Root => None,
            Watched::Dir(dir) => Some(dir),
        };
        if event.flags.contains(ReadFlags::IGNORED) {
            self.by_watch.remove(&event.watch);
            if let Some(dir) = dir
                && self.by_path.get(&dir) == Some(&event.watch)
            {
                self.by_path.remove(&dir);
            }
            return;
        }
        let own = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if dir.is_none() && event.flags.intersects(own) {
            return news.unsure(UnsureReason::RootGone);
        }
        // An event without a name is the directory's own, and its parent's watch tells as much.
        if let Some(name) = event.name {
            self.named(dir.as_ref(), &name, event.flags, news);
        }
    }

    fn named(&mut self, dir: Option<&RelPath>, name: &[u8], flags: ReadFlags, news: &mut News) {
        let mut bytes = dir.map_or_else(Vec::new, |dir| format!("{dir}/").into_bytes());
        bytes.extend_from_slice(name);
        let Ok(path) = RelPath::from_bytes(&bytes) else {
            match dir {
                Some(dir) => news.dirty(dir.clone(), DirtyKind::Other),
                None if name == CODEVOL_IGNORE.as_bytes() => news.unsure(UnsureReason::Unnamed),
                None if RelPath::from_bytes(&bytes) == Err(InvalidRelPath::Reserved) => {}
                None => news.unsure(UnsureReason::Unnamed),
            }
            return;
        };
        if self.is_ignored(&path, flags.contains(ReadFlags::ISDIR)) {
            return;
        }
        let gone = flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
        if flags.contains(ReadFlags::ISDIR) {
            if gone {
                self.remove_all(&path);
            } else if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.remove_all(&path);
                if let Err(failure) = self.watch_all(&path) {
                    news.failure = Some(failure);
                }
            }
        }
        let kind = if gone || flags.contains(ReadFlags::CLOSE_WRITE) {
            DirtyKind::Closed
        } else if flags.contains(ReadFlags::MODIFY) || self.is_being_written(&path, flags) {
            DirtyKind::Modified
        } else {
            DirtyKind::Other
        };
        news.dirty(path, kind);
    }

    /// Whether a new name is that of a file which somebody opened to write: its close is still to
    /// come. A link, a directory and a special file are whole as soon as they are there.
    fn is_being_written(&self, path: &RelPath, flags: ReadFlags) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        flags.contains(ReadFlags::CREATE)
            && !flags.contains(ReadFlags::ISDIR)
            && std::fs::symlink_metadata(self.root.join(path.as_str()))
                .is_ok_and(|found| found.is_file() && found.nlink() == 1)
    }

    /// Whether a change is nobody's business: a database that is written all day would hold every
    /// burst back. An ignore file always matters, and before the first scan everything does.
    fn is_ignored(&self, path: &RelPath, is_dir: bool) -> bool {
        let Some(rules) = &self.rules else {
            return false;
        };
        if is_dir {
            return !rules.is_walked(path);
        }
        !is_rule_file(path.file_name()) && rules.verdict(path, false) != Verdict::Included
    }

    /// Watches a directory that appeared and those in it, before it is reported: what is written
    /// into it from now on is seen, what was written before is found by the scan that follows.
    fn watch_all(&mut self, path: &RelPath) -> Result<(), WatchError> {
        let rules = self.rules.clone();
        if rules.is_some_and(|rules| !rules.is_walked(path)) || !self.watch(path)? {
            return Ok(());
        }
        let Ok(names) = std::fs::read_dir(self.root.join(path.as_str())) else {
            return Ok(());
        };
        for name in names.flatten() {
            let is_dir = name.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(name) = name.file_name().to_str().filter(|_| is_dir)
                && let Ok(path) = path.join(name)
            {
                self.watch_all(&path)?;
            }
        }
        Ok(())
    }

    /// Watches the root that stands there; says whether it was not watched before. Then neither were
    /// the directories below it, whatever their paths.
    fn watch_root(&mut self) -> Result<bool, WatchError> {
        let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        let watch = self.add(&self.root, content() | own)?;
        if self.by_watch.insert(watch, Watched::Root) == Some(Watched::Root) {
            return Ok(false);
        }
        self.stale = true;
        let is_other =
            |other: &i32, watched: &mut Watched| *watched == Watched::Root && *other != watch;
        for (other, _) in self.by_watch.extract_if(is_other) {
            end(&self.inotify, other);
        }
        Ok(true)
    }

    /// Watches a directory; says whether there was one that was not watched.
    fn watch(&mut self, path: &RelPath) -> Result<bool, WatchError> {
        let flags = content() | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let watch = match self.add(&self.root.join(path.as_str()), flags) {
            Ok(watch) => watch,
            Err(WatchError::Watch { source, .. }) if is_gone(&source) => return Ok(false),
            Err(error) => return Err(error),
        };
        let watched = Watched::Dir(path.clone());
        let is_new = self.by_watch.insert(watch, watched.clone()) != Some(watched);
        self.by_path.insert(path.clone(), watch);
        Ok(is_new)
    }

    fn add(&self, path: &Path, flags: WatchFlags) -> Result<i32, WatchError> {
        inotify::add_watch(&*self.inotify, path, flags).map_err(|error| failure(path, error))
    }

    fn remove_all(&mut self, path: &RelPath) {
        let below = self.by_path.range(path.clone()..);
        let below = below.map(|(other, _)| other.clone());
        let gone: Vec<RelPath> = below
            .take_while(|other| other == path || other.is_below(path))
            .collect();
        for path in gone {
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &RelPath) {
        if let Some(watch) = self.by_path.remove(path)
            && self.by_watch.get(&watch) == Some(&Watched::Dir(path.clone()))
        {
            self.by_watch.remove(&watch);
            end(&self.inotify, watch);
        }
    }
}

/// The changes of a directory's contents; reading is none.
fn content() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
}

fn end(inotify: &OwnedFd, watch: i32) {
    if let Err(error) = inotify::remove_watch(inotify, watch) {
        debug!(%error, "the watch went with its directory");
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ACCESS];
    Errno::from_io_error(error).is_some_and(|error| gone.contains(&error))
}

fn failure(path: &Path, error: Errno) -> WatchError {
    WatchError::Watch {
        path: path.to_path_buf(),
        advice: limits::advice(error),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests;
