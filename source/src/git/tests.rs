//! What git says of real repositories.

use std::fs::{self, File};

use super::*;

/// Runs git as a test needs it: no configuration but its own.
pub(crate) fn git(root: &Path, arguments: &[&str]) {
    let status = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-C"])
        .arg(root)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

pub(crate) fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    fs::create_dir(dir.path().join("sub")).unwrap();
    File::create(dir.path().join("sub/a.py")).unwrap();
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-q", "-m", "one"]);
    dir
}

async fn describe(tree: &Path) -> Option<Git> {
    Asker::default().describe(tree).await.unwrap()
}

/// A program in git's place that never answers.
pub(crate) fn hangs(dir: &Path) -> Asker {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let program = dir.join("hangs");
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o700);
    let mut file = options.open(&program).unwrap();
    file.write_all(b"#!/bin/sh\nexec sleep 600\n").unwrap();
    Asker {
        program,
        ..Asker::default()
    }
}

#[tokio::test]
async fn a_git_that_does_not_answer_is_waited_for_once_in_a_while() {
    let (dir, programs) = (repository(), tempfile::tempdir().unwrap());
    let mut asker = hangs(programs.path());
    assert_eq!(asker.describe(dir.path()).await, Err(Silent));
    // The same host, mended: it is not asked yet, and nobody waits.
    asker.program = PROGRAM.into();
    assert_eq!(asker.describe(dir.path()).await, Err(Silent));
    let file = dir.path().join("sub/a.py");
    assert_eq!(asker.describe_file(&file).await, Err(Silent));
    // The pause is over.
    asker.left_alone_until = Some(Instant::now());
    assert!(asker.describe(dir.path()).await.unwrap().is_some());
    assert!(asker.describe_file(&file).await.unwrap().is_some());
    assert_eq!(asker.left_alone_until, None);
}

#[tokio::test]
async fn a_tree_is_described_by_commit_branch_and_its_own_changes() {
    let dir = repository();
    let sub = dir.path().join("sub");
    let clean = describe(&sub).await.unwrap();
    assert_eq!(clean.commit.as_str().len(), 40);
    assert_eq!(clean.branch.as_ref().map(Text::as_str), Some("main"));
    File::create(dir.path().join("elsewhere")).unwrap();
    assert_eq!(describe(&sub).await, Some(clean.clone()));
    File::create(sub.join("b.py")).unwrap();
    let dirty = true;
    assert_eq!(
        describe(&sub).await,
        Some(Git {
            dirty,
            ..clean.clone()
        })
    );
    git(dir.path(), &["checkout", "-q", "--detach"]);
    assert_eq!(describe(&sub).await.unwrap().branch, None);
}

#[tokio::test]
async fn a_repository_that_git_does_not_read_is_told_from_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join(".git")).unwrap();
    let sub = dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    assert_eq!(GitDir::find(&sub).await, None);
    assert!(is_expected(&sub));
}

#[tokio::test]
async fn a_tree_without_git_or_without_a_commit_has_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(describe(dir.path()).await, None);
    assert_eq!(GitDir::find(dir.path()).await, None);
    assert!(!is_expected(dir.path()));
    git(dir.path(), &["init", "-q"]);
    assert_eq!(describe(dir.path()).await, None);
    assert!(GitDir::find(dir.path()).await.is_some());
    assert_eq!(describe(&dir.path().join("none")).await, None);
}

#[tokio::test]
async fn asking_git_takes_no_lock_and_writes_nothing() {
    let dir = repository();
    let index = dir.path().join(".git/index");
    let before = fs::metadata(&index).unwrap().modified().unwrap();
    // A touched file makes git want to refresh its index.
    let file = File::options()
        .write(true)
        .open(dir.path().join("sub/a.py"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    describe(dir.path()).await.unwrap();
    assert_eq!(fs::metadata(&index).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn a_worktrees_locks_are_looked_for_in_its_own_git_directory() {
    let dir = repository();
    let tree = dir.path().join("tree");
    git(
        dir.path(),
        &["worktree", "add", "-q", "-b", "other", "tree"],
    );
    let main = GitDir::find(&dir.path().join("sub")).await.unwrap();
    let other = GitDir::find(&tree).await.unwrap();
    assert!(main.path().ends_with(".git") && other.path().ends_with(".git/worktrees/tree"));
    for sign in AT_WORK {
        assert!(!other.busy());
        fs::create_dir(other.path().join(sign)).unwrap();
        assert!(other.busy() && !main.busy(), "{sign}");
        fs::remove_dir(other.path().join(sign)).unwrap();
    }
}
