//! Hints that something in the live release, or `current`, may have changed. They decide nothing: a
//! look does, and what no hint tells, the scrub finds. A root that cannot be watched is scrubbed only.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use codevol_protocol::path::RelPath;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tracing::{debug, info};

use crate::volume::MARKER;

/// Most directories that are watched: beyond, the scrub has to do.
const DIRECTORIES_MAX: usize = 8_192;
const EVENTS_BYTES: usize = 64 << 10;
const CURRENT: &str = "current";
const RELEASES: &str = "releases";

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// What `current` names.
    Current,
    /// A path of the release that is followed, or what is below it.
    Path(String),
    /// Anything in it.
    Everything,
}

/// What a watch stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    Root,
    /// A directory of the release; empty for its own.
    Dir(String),
}

/// Watches one volume root.
#[derive(Debug)]
pub(super) struct Watch {
    root: PathBuf,
    inotify: Option<AsyncFd<OwnedFd>>,
    by_watch: HashMap<i32, Watched>,
    /// The directory of the release that is followed.
    followed: Option<String>,
}

impl Watch {
    /// Begins to watch; must be called where the runtime is.
    pub(super) fn start(root: &Path) -> Self {
        #[expect(
            deprecated,
            reason = "what follows it is unsafe; an `OwnedFd` keeps its one descriptor open, as that asks"
        )]
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(AsyncFd::new);
        let mut watch = Self {
            root: root.to_owned(),
            inotify: match inotify {
                Ok(inotify) => Some(inotify),
                Err(error) => {
                    watched_no_more(root, &error);
                    None
                }
            },
            by_watch: HashMap::new(),
            followed: None,
        };
        watch.add(root, Watched::Root);
        watch
    }

    /// Watches the directories of this release, and of no other.
    pub(super) fn follow(&mut self, dir_name: &str, directories: &[RelPath]) {
        let Some(inotify) = &self.inotify else { return };
        if self.followed.as_deref() != Some(dir_name) {
            let before = self
                .by_watch
                .extract_if(|_, watched| *watched != Watched::Root);
            for (watch, _) in before {
                if let Err(error) = inotify::remove_watch(inotify, watch) {
                    debug!(%error, "the watch went with its directory");
                }
            }
        }
        self.followed = Some(dir_name.to_owned());
        if directories.len() > DIRECTORIES_MAX {
            info!(root = %self.root.display(), directories = directories.len(), "too many directories to watch: drift is found by the scrub");
            return;
        }
        let top = self.root.join(RELEASES).join(dir_name);
        self.add(&top, Watched::Dir(String::new()));
        for path in directories {
            self.add(&top.join(path.as_str()), Watched::Dir(path.to_string()));
        }
    }

    /// Returns the release directory that is followed.
    pub(super) fn followed(&self) -> Option<&str> {
        self.followed.as_deref()
    }

    /// Waits for hints. Cancel-safe: what was not read stays with the kernel.
    pub(super) async fn next(&mut self) -> Vec<Hint> {
        loop {
            let Some(inotify) = &self.inotify else {
                return std::future::pending().await;
            };
            let mut ready = match inotify.readable().await {
                Ok(ready) => ready,
                Err(error) => {
                    watched_no_more(&self.root, &error);
                    self.inotify = None;
                    continue;
                }
            };
            let mut hints = Vec::new();
            let is_drained = read(ready.get_inner(), &mut self.by_watch, &mut hints);
            if is_drained {
                ready.clear_ready();
            }
            if !hints.is_empty() {
                hints.sort();
                hints.dedup();
                return hints;
            }
        }
    }

    fn add(&mut self, path: &Path, watched: Watched) {
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(inotify, path, flags) {
            Ok(watch) => drop(self.by_watch.insert(watch, watched)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
            Err(error) => {
                watched_no_more(&self.root, &error.into());
                self.inotify = None;
            }
        }
    }
}

fn watched_no_more(root: &Path, error: &std::io::Error) {
    info!(root = %root.display(), %error, "cannot watch: drift is found by the scrub");
}

/// Takes in what the kernel said; whether that was all.
fn read(inotify: &OwnedFd, by_watch: &mut HashMap<i32, Watched>, hints: &mut Vec<Hint>) -> bool {
    let mut buffer = vec![MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => continue,
            Err(_) => {
                hints.push(Hint::Everything);
                return true;
            }
        };
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            hints.extend([Hint::Everything, Hint::Current]);
        } else if let Some(watched) = by_watch.get(&event.wd()) {
            let name = event.file_name().map(|name| name.to_string_lossy());
            hints.extend(hint(watched, flags, name.as_deref()));
            if flags.contains(ReadFlags::IGNORED) {
                by_watch.remove(&event.wd());
            }
        }
        // What is written without end must not be read without end.
        if reader.is_buffer_empty() {
            return false;
        }
    }
}

/// Returns what an event may mean.
fn hint(watched: &Watched, flags: ReadFlags, name: Option<&str>) -> Option<Hint> {
    match (watched, name) {
        (Watched::Root, Some(CURRENT)) => Some(Hint::Current),
        (Watched::Root, _) => None,
        // The directory's own: it went away, or its mode changed.
        (Watched::Dir(dir), None) if dir.is_empty() || flags.contains(ReadFlags::IGNORED) => {
            Some(Hint::Everything)
        }
        (Watched::Dir(dir), None) => Some(Hint::Path(dir.clone())),
        (Watched::Dir(_), Some("__pycache__" | MARKER)) => None,
        (Watched::Dir(dir), Some(name)) if dir.is_empty() => Some(Hint::Path(name.to_owned())),
        (Watched::Dir(dir), Some(name)) => Some(Hint::Path(format!("{dir}/{name}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn next(watch: &mut Watch) -> Vec<Hint> {
        timeout(Duration::from_secs(20), watch.next())
            .await
            .unwrap()
    }

    fn path(path: &str) -> Hint {
        Hint::Path(path.to_owned())
    }

    fn touch(path: &Path) {
        fs::File::create(path).unwrap();
    }

    #[tokio::test]
    async fn a_change_in_the_followed_release_and_of_the_link_is_hinted() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        for dir in ["releases/one/sub", "releases/two"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let mut watch = Watch::start(root);
        watch.follow("one", &["sub".parse().unwrap()]);
        assert_eq!(watch.followed(), Some("one"));
        // Nobody's business.
        touch(&root.join("releases/two/x"));
        fs::create_dir(root.join("releases/one/sub/__pycache__")).unwrap();
        touch(&root.join("releases/one/sub/a.py"));
        assert_eq!(next(&mut watch).await, [path("sub/a.py")]);
        touch(&root.join("releases/one/b.py"));
        assert_eq!(next(&mut watch).await, [path("b.py")]);
        std::os::unix::fs::symlink("releases/one", root.join("current")).unwrap();
        assert_eq!(next(&mut watch).await, [Hint::Current]);
        watch.follow("two", &[]);
        touch(&root.join("releases/one/c.py"));
        touch(&root.join("releases/two/d.py"));
        assert_eq!(next(&mut watch).await, [path("d.py")]);
        fs::remove_dir_all(root.join("releases/two")).unwrap();
        while !next(&mut watch).await.contains(&Hint::Everything) {}
    }
}
