//! Hints of real changes.

use std::fs::{self, File};
use std::io::Write as _;

use codevol_protocol::path::RelPath;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::git::tests::{git, repository};
use crate::scan::Scanner;

struct Fixture {
    dir: TempDir,
    scanner: Scanner,
    watcher: Watcher,
    hints: mpsc::Receiver<Hint>,
}

impl Fixture {
    fn new(directories: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in directories {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        Self::of(dir, None)
    }

    /// Watches a directory, and has followed its first scan.
    fn of(dir: TempDir, git: Option<&GitDir>) -> Self {
        let scanner = Scanner::open(dir.path(), &[], None).unwrap();
        let (watcher, hints) = Watcher::start(dir.path(), WatchMode::Inotify, git).unwrap();
        let mut fixture = Self {
            dir,
            scanner,
            watcher,
            hints,
        };
        assert_eq!(fixture.watcher.status().state, WatchState::Unsure);
        assert_eq!(fixture.hints.try_recv(), Ok(unsure(UnsureReason::Started)));
        fixture.follow();
        assert_eq!(fixture.watcher.status().state, WatchState::Ok);
        while fixture.hints.try_recv().is_ok() {}
        fixture
    }

    fn follow(&mut self) {
        let scan = self.scanner.full().unwrap();
        let rules = self.scanner.rules();
        self.watcher.follow(&scan.directories, rules, true).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str) {
        File::create(self.at(path))
            .unwrap()
            .write_all(b"x")
            .unwrap();
    }

    /// Returns the hints up to this one.
    async fn until(&mut self, wanted: &Hint) -> Vec<Hint> {
        let mut seen = Vec::new();
        while seen.last() != Some(wanted) {
            let hint = timeout(Duration::from_secs(20), self.hints.recv()).await;
            let Ok(Some(hint)) = hint else {
                panic!("no {wanted:?} after {seen:?}");
            };
            seen.push(hint);
        }
        seen
    }
}

fn rel(path: &str) -> RelPath {
    path.parse().unwrap()
}

fn dirty(path: &str, kind: DirtyKind) -> Hint {
    let path = rel(path);
    Hint::Dirty { path, kind }
}

fn closed(path: &str) -> Hint {
    dirty(path, DirtyKind::Closed)
}

const fn unsure(reason: UnsureReason) -> Hint {
    Hint::Unsure { reason }
}

fn about(hints: &[Hint], wanted: &str) -> bool {
    hints.iter().any(|hint| match hint {
        Hint::Dirty { path, .. } => *path == rel(wanted) || path.is_below(&rel(wanted)),
        Hint::Unsure { .. } | Hint::Git => false,
    })
}

#[tokio::test]
async fn what_the_kernel_has_said_is_a_hint_as_soon_as_it_is_taken_in() {
    let mut tree = Fixture::new(&["d"]);
    tree.watcher.end();
    tree.write("d/written");
    assert!(tree.hints.try_recv().is_err());
    tree.watcher.catch_up();
    assert_eq!(tree.hints.try_recv(), Ok(closed("d/written")));
}

#[tokio::test]
async fn a_write_is_a_hint_and_a_read_is_none() {
    let mut tree = Fixture::new(&["d"]);
    tree.write("d/read");
    tree.until(&closed("d/read")).await;
    drop(fs::read(tree.at("d/read")).unwrap());
    tree.scanner.full().unwrap();
    tree.write("d/written");
    let seen = tree.until(&closed("d/written")).await;
    assert!(!about(&seen, "d/read"), "{seen:?}");
}

#[tokio::test]
async fn an_open_writer_is_told_from_a_closed_one() {
    let mut tree = Fixture::new(&[]);
    let mut file = File::create(tree.at("a")).unwrap();
    file.write_all(b"x").unwrap();
    tree.until(&dirty("a", DirtyKind::Modified)).await;
    // Renamed while it is open: no one is half-way through the old path any more.
    fs::rename(tree.at("a"), tree.at("b")).unwrap();
    tree.until(&closed("a")).await;
    drop(file);
    tree.until(&closed("b")).await;
}

#[tokio::test]
async fn a_new_file_is_being_written_until_it_is_closed() {
    let mut tree = Fixture::new(&[]);
    // Nothing was written into it so far.
    let file = File::create(tree.at("new")).unwrap();
    tree.until(&dirty("new", DirtyKind::Modified)).await;
    drop(file);
    tree.until(&closed("new")).await;
    // These are whole as soon as they are there: nobody will close them.
    fs::hard_link(tree.at("new"), tree.at("second")).unwrap();
    tree.until(&dirty("second", DirtyKind::Other)).await;
    std::os::unix::fs::symlink("new", tree.at("link")).unwrap();
    tree.until(&dirty("link", DirtyKind::Other)).await;
    fs::create_dir(tree.at("dir")).unwrap();
    tree.until(&dirty("dir", DirtyKind::Other)).await;
}

#[tokio::test]
async fn a_new_directory_is_watched_at_any_depth_before_it_is_reported() {
    let mut tree = Fixture::new(&[]);
    let away = tempfile::tempdir_in(tree.dir.path().parent().unwrap()).unwrap();
    fs::create_dir_all(away.path().join("new/deep/er")).unwrap();
    fs::rename(away.path().join("new"), tree.at("new")).unwrap();
    tree.until(&dirty("new", DirtyKind::Other)).await;
    tree.write("new/deep/er/a.py");
    tree.until(&closed("new/deep/er/a.py")).await;
    // Where it grows step by step, a step that was found is watched anew when the kernel tells of it.
    fs::create_dir_all(tree.at("made/deep/er")).unwrap();
    tree.until(&dirty("made", DirtyKind::Other)).await;
    tree.watcher.catch_up();
    tree.write("made/deep/er/a.py");
    tree.until(&closed("made/deep/er/a.py")).await;
}

#[tokio::test]
async fn a_renamed_directory_is_watched_under_its_new_name() {
    let mut tree = Fixture::new(&["a/sub"]);
    fs::rename(tree.at("a"), tree.at("b")).unwrap();
    // As the scan may see it before the watcher does.
    tree.follow();
    tree.write("end");
    tree.until(&closed("end")).await;
    tree.write("b/sub/x");
    let seen = tree.until(&closed("b/sub/x")).await;
    assert!(!about(&seen, "a/sub"), "{seen:?}");
    fs::create_dir_all(tree.at("a/sub")).unwrap();
    tree.write("end");
    tree.until(&closed("end")).await;
    tree.follow();
    tree.write("a/sub/y");
    tree.until(&closed("a/sub/y")).await;
}

#[tokio::test]
async fn a_directory_that_went_is_no_longer_watched() {
    let mut tree = Fixture::new(&["a/b/c", "kept"]);
    assert_eq!(tree.watcher.watched(), 5);
    let away = tempfile::tempdir().unwrap();
    fs::rename(tree.at("a"), away.path().join("a")).unwrap();
    tree.until(&closed("a")).await;
    assert_eq!(tree.watcher.watched(), 2);
    drop(File::create(away.path().join("a/b/x")).unwrap());
    tree.write("end");
    let seen = tree.until(&closed("end")).await;
    assert!(!about(&seen, "a"), "{seen:?}");
}

#[tokio::test]
async fn what_is_ignored_is_neither_watched_nor_reported() {
    let mut tree = Fixture::new(&["pkg", ".venv/lib"]);
    assert_eq!(tree.watcher.watched(), 2);
    fs::create_dir_all(tree.at("pkg/__pycache__/deep")).unwrap();
    fs::create_dir_all(tree.at("node_modules/a/b")).unwrap();
    tree.write("db.duckdb");
    tree.write("pkg/a.pyc");
    tree.write("end");
    let seen = tree.until(&closed("end")).await;
    assert!(
        seen.iter()
            .all(|hint| about(std::slice::from_ref(hint), "end")),
        "{seen:?}"
    );
    assert_eq!(tree.watcher.watched(), 2);
}

#[tokio::test]
async fn codevols_own_ignore_file_makes_everything_doubtful() {
    let mut tree = Fixture::new(&[]);
    tree.write(".codevolignore");
    tree.until(&unsure(UnsureReason::Unnamed)).await;
}

#[tokio::test]
async fn a_moved_or_deleted_root_is_reported() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("root");
    for moved in [true, false] {
        fs::create_dir(&root).unwrap();
        let (_watcher, mut hints) = Watcher::start(&root, WatchMode::Auto, None).unwrap();
        assert_eq!(hints.recv().await, Some(unsure(UnsureReason::Started)));
        if moved {
            fs::rename(&root, parent.path().join("moved")).unwrap();
        } else {
            fs::remove_dir(&root).unwrap();
        }
        let hint = timeout(Duration::from_secs(20), hints.recv()).await;
        assert_eq!(hint, Ok(Some(unsure(UnsureReason::RootGone))));
    }
}

#[tokio::test]
async fn a_checkout_is_announced_before_its_first_change() {
    let dir = repository();
    git(dir.path(), &["checkout", "-q", "-b", "other"]);
    fs::create_dir(dir.path().join("new")).unwrap();
    drop(File::create(dir.path().join("new/b.py")).unwrap());
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-q", "-m", "two"]);
    let found = GitDir::find(dir.path()).await.unwrap();
    let mut tree = Fixture::of(dir, Some(&found));
    git(tree.dir.path(), &["checkout", "-q", "main"]);
    let seen = tree.until(&closed("new")).await;
    assert_eq!(seen.first(), Some(&Hint::Git), "{seen:?}");
    while tree.hints.try_recv().is_ok() {}
    drop(File::create(found.path().join("index.lock")).unwrap());
    tree.until(&Hint::Git).await;
    assert!(found.busy());
    fs::remove_file(found.path().join("index.lock")).unwrap();
    tree.until(&Hint::Git).await;
    assert!(!found.busy());
}

#[tokio::test]
async fn a_polled_tree_is_looked_at_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (watcher, mut hints) = Watcher::start(dir.path(), WatchMode::Poll, None).unwrap();
    let status = watcher.status();
    assert_eq!(
        (status.mode, status.state),
        (WatchMode::Poll, WatchState::Polling)
    );
    assert_eq!(hints.recv().await, Some(unsure(UnsureReason::Started)));
    assert_eq!(hints.recv().await, Some(unsure(UnsureReason::Poll)));
    drop(watcher);
    while hints.recv().await.is_some() {}
}

#[test]
fn a_reached_limit_falls_back_to_polling_and_fails_where_inotify_was_asked_for() {
    let failure = || WatchError::Watch {
        path: PathBuf::from("x"),
        advice: limits::advice(Errno::NOSPC),
        source: Errno::NOSPC.into(),
    };
    let dir = tempfile::tempdir().unwrap();
    for (asked, state) in [
        (WatchMode::Auto, WatchState::Polling),
        (WatchMode::Inotify, WatchState::Unsure),
    ] {
        let (watcher, mut hints) = Watcher::start(dir.path(), asked, None).unwrap();
        let outcome = lock(&watcher.shared).fail(failure());
        assert_eq!(outcome.is_err(), asked == WatchMode::Inotify);
        let status = watcher.status();
        assert_eq!(status.state, state);
        assert!(
            status
                .advice
                .unwrap()
                .contains("sysctl fs.inotify.max_user_watches=")
        );
        assert_eq!(hints.try_recv(), Ok(unsure(UnsureReason::Started)));
        assert_eq!(hints.try_recv(), Ok(unsure(UnsureReason::WatchFailed)));
    }
}

#[test]
fn every_hint_but_git_and_the_clock_is_a_change() {
    use codevol_protocol::settle::Input;
    assert_eq!(closed("a").input(), Some(Input::Closed(rel("a"))));
    let modified = dirty("a", DirtyKind::Modified);
    assert_eq!(modified.input(), Some(Input::Modified(rel("a"))));
    assert_eq!(dirty("a", DirtyKind::Other).input(), Some(Input::Changed));
    assert_eq!(unsure(UnsureReason::Overflow).input(), Some(Input::Changed));
    assert_eq!(unsure(UnsureReason::Poll).input(), None);
    assert_eq!(Hint::Git.input(), None);
}
