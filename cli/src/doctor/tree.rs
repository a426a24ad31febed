//! What a source needs of its trees: that changes are seen, and that git answers.

use std::fs;
use std::path::Path;

use codevol_source::config::{SourceConfig, VolumeConfig, WatchMode};
use codevol_source::git::{self, GitDir};
use codevol_source::watch::{WatchState, Watcher};

use super::Check;
use crate::error::chain;
use crate::output::units;

const WATCHES: &str = "/proc/sys/fs/inotify/max_user_watches";
/// No more directories are counted.
const DIRECTORIES_MAX: u64 = 1_000_000;

/// Looks at each tree.
pub(super) async fn look(config: &SourceConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    for volume in &config.volumes {
        checks.push(watching(volume));
        checks.push(asking_git(&volume.path).await);
    }
    checks
}

/// Begins to watch the root, as the daemon does, and stops again.
fn watching(volume: &VolumeConfig) -> Check {
    let tree = volume.path.display();
    if volume.watch.mode == WatchMode::Poll {
        return Check::ok("watch", format!("`{tree}` is polled, as it is configured"));
    }
    let status = match Watcher::start(&volume.path, volume.watch.mode, None) {
        Ok((watcher, _hints)) => watcher.status(),
        Err(error) => return Check::wrong("watch", chain(&error).join(": ")),
    };
    if status.state == WatchState::Polling {
        let why = status
            .advice
            .unwrap_or_else(|| "it cannot be watched".to_owned());
        let message = format!("`{tree}` is polled, a second late: {why}");
        return Check::warning("watch", message);
    }
    let limit = fs::read_to_string(WATCHES).ok();
    let limit = limit.and_then(|text| text.trim().parse().ok());
    judge(&tree.to_string(), directories(&volume.path), limit)
}

/// Whether this user's watches are enough for a tree. Ignored directories are counted, and need none.
fn judge(tree: &str, directories: u64, limit: Option<u64>) -> Check {
    let count = units::count(
        usize::try_from(directories).unwrap_or(usize::MAX),
        "directory",
        "directories",
    );
    match limit {
        Some(limit) if directories >= limit => {
            let wanted = limit.saturating_mul(2).max(directories.saturating_mul(2));
            let message = format!(
                "`{tree}` has {count}, and this user may watch {limit}: if too few of them are ignored, it is polled"
            );
            Check::warning("watch", message)
                .mend(format!("sysctl fs.inotify.max_user_watches={wanted}"))
        }
        Some(limit) => Check::ok(
            "watch",
            format!("`{tree}` has {count}, and this user may watch {limit}"),
        ),
        None => Check::skipped(
            "watch",
            format!("`{tree}` has {count}; the limit is not told"),
        ),
    }
}

fn directories(tree: &Path) -> u64 {
    let mut count = 0;
    let mut todo = vec![tree.to_owned()];
    while let Some(at) = todo.pop() {
        count += 1;
        if count >= DIRECTORIES_MAX {
            break;
        }
        // What cannot be read is not watched either; that it cannot was said of the tree.
        let entries = fs::read_dir(at).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        todo.extend(folders.map(|entry| entry.path()));
    }
    count
}

async fn asking_git(tree: &Path) -> Check {
    let shown = tree.display();
    match GitDir::find(tree).await {
        Some(found) => {
            let at = found.path().display();
            Check::ok("git", format!("git answers for `{shown}`: `{at}`"))
        }
        None if git::is_expected(tree) => {
            let message = format!(
                "git does not answer for `{shown}`: releases bear no commit, and half of a checkout may be published"
            );
            Check::warning("git", message)
                .mend(format!("`git -C {shown} status`, as this user, says why"))
        }
        None => Check::ok("git", format!("`{shown}` is in no repository")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn more_directories_than_watches_are_told_with_the_sysctl() {
        assert_eq!(judge("/srv", 7, Some(8)).state, State::Ok);
        let few = judge("/srv", 8, Some(8));
        assert_eq!(few.state, State::Warning);
        let mend = few.mend.unwrap();
        assert_eq!(mend, "sysctl fs.inotify.max_user_watches=16");
        assert_eq!(judge("/srv", 8, None).state, State::Skipped);
    }

    #[test]
    fn each_directory_counts_and_a_link_to_one_does_not() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", temp.path().join("link")).unwrap();
        assert_eq!(directories(temp.path()), 3);
    }
}
