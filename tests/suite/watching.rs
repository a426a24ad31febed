//! What the watcher makes of edits of every sort, of checkouts, of floods, and of a file system that
//! tells it nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use codevol_tests::{Agent, Fleet, Place, Source, git, save, wait_for, wait_until};
use rustix::process::Signal;

#[test]
fn every_sort_of_edit_arrives() {
    let fleet = Fleet::start_with(1, |source| source.save("old/name.py", "X = 1\n"));
    let (tree, agent) = (fleet.source.tree(), &fleet.agents[0]);
    let current = agent.root().join("current");

    fleet.source.save("new/deep/er/module.py", "X = 1\n");
    wait_until("a file in new folders arrives", || {
        agent.read("new/deep/er/module.py").is_some()
    });

    fs::rename(tree.join("new/deep"), tree.join("new/deeper")).unwrap();
    wait_until("a renamed folder arrives", || {
        agent.read("new/deeper/er/module.py").is_some()
            && agent.read("new/deep/er/module.py").is_none()
    });
    fleet.source.save("new/deeper/er/module.py", "X = 2\n");
    wait_until("an edit below it arrives", || {
        agent.read("new/deeper/er/module.py").as_deref() == Some("X = 2\n")
    });

    fs::rename(tree.join("old/name.py"), tree.join("definitions.py")).unwrap();
    wait_until("a file renamed over another arrives", || {
        agent.read("definitions.py").as_deref() == Some("X = 1\n")
            && agent.read("old/name.py").is_none()
    });

    fs::set_permissions(
        tree.join("definitions.py"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    wait_until("an executable bit arrives", || {
        fs::metadata(current.join("definitions.py"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
            == 0o755
    });

    symlink("pipes/orders.py", tree.join("alias.py")).unwrap();
    wait_until("a link arrives", || {
        fs::read_link(current.join("alias.py"))
            .is_ok_and(|target| target == Path::new("pipes/orders.py"))
    });

    fs::remove_dir_all(tree.join("new")).unwrap();
    wait_until("a removed folder is gone", || !current.join("new").exists());
}

#[test]
fn what_cannot_be_carried_is_listed_and_the_rest_arrives() {
    let fleet = Fleet::start_with(1, |source| {
        symlink("/etc/passwd", source.tree().join("outside")).unwrap();
    });
    let status = fleet.source.status();
    let skipped = &status.volume()["skipped"];
    assert_eq!(skipped[0]["path"], "outside", "{status}");
    assert!(fs::symlink_metadata(fleet.agents[0].root().join("current/outside")).is_err());
    assert!(fleet.agents[0].read("definitions.py").is_some());
}

#[test]
fn a_checkout_of_500_files_is_one_release() {
    let place = Arc::new(Place::new());
    let repository = place.folder("tree");
    two_branches(&repository, &repository);
    checkout_is_one_release(&place, "tree", "tree");
}

#[test]
fn a_checkout_is_one_release_where_the_volume_is_a_subdirectory_of_the_repository() {
    let place = Arc::new(Place::new());
    let repository = place.folder("repository");
    two_branches(&repository, &repository.join("code"));
    checkout_is_one_release(&place, "repository", "repository/code");
}

#[test]
fn a_checkout_is_one_release_in_a_worktree() {
    let place = Arc::new(Place::new());
    let repository = place.folder("repository");
    two_branches(&repository, &repository);
    git(&repository, &["checkout", "--quiet", "-b", "elsewhere"]);
    git(
        &repository,
        &["worktree", "add", "--quiet", "../tree", "main"],
    );
    checkout_is_one_release(&place, "tree", "tree");
}

const FILES: usize = 500;

/// Makes a repository with a package of many files in a folder of it, other ones on `main` than on
/// `next`.
fn two_branches(repository: &Path, folder: &Path) {
    git(repository, &["init", "--quiet"]);
    // Ten of the files take their time: the checkout has pauses longer than the settle time, and is
    // itself longer than the longest one. All but git would take that for several edits.
    git(
        repository,
        &["config", "filter.slow.smudge", "sleep 0.25; cat"],
    );
    git(repository, &["config", "filter.slow.clean", "cat"]);
    save(&repository.join(".gitattributes"), b"m4?0.py filter=slow\n");
    for branch in ["main", "next"] {
        for n in 0..FILES {
            let text = format!("BRANCH = '{branch}'\n");
            save(&folder.join(format!("package/m{n:03}.py")), text.as_bytes());
        }
        git(repository, &["add", "--all"]);
        git(repository, &["commit", "--quiet", "--message", branch]);
        if branch == "main" {
            git(repository, &["checkout", "--quiet", "-b", "next"]);
        }
    }
    git(repository, &["checkout", "--quiet", "main"]);
}

fn checkout_is_one_release(place: &Arc<Place>, checked_out: &str, volume: &str) {
    let mut source = Source::init_of(place, volume);
    source.start();
    let agent = Agent::join_and_start(&source, "dag-01", None);
    source.wait_live_everywhere(1);
    git(
        &place.path().join(checked_out),
        &["checkout", "--quiet", "next"],
    );
    // Were it several, the last of them would come later than r2.
    let status = source.wait_live_everywhere(2);
    let next = "BRANCH = 'next'\n";
    for n in 0..FILES {
        let file = format!("package/m{n:03}.py");
        assert_eq!(agent.read(&file).as_deref(), Some(next), "{file}");
    }
    let git = &status.volume()["release"]["git"];
    assert_eq!(git["branch"], "next", "{status}");
    assert_eq!(git["dirty"], false, "{status}");
    assert_eq!(agent.read(".git/HEAD"), None);
    source.run(&["push"]).succeeds();
    assert_eq!(source.status().head(), 2);
}

#[test]
fn changes_beyond_the_queue_of_inotify_are_found_all_the_same() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    assert!(
        limit <= 200_000,
        "too long a queue to fill it in a test: {limit}"
    );
    let mut fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__WATCH__RESCAN", "1h"));
    fleet.source.process().signal(Signal::STOP);
    // Two files by turns: inotify folds only an event that equals the one before it.
    for n in 0..limit {
        fleet
            .source
            .save(["a.py", "b.py"][usize::from(n % 2 == 0)], "x");
    }
    // The queue is full: of these nobody is told.
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.save("unheard/of.py", "X = 1\n");
    fleet.source.process().signal(Signal::CONT);
    let agent = &fleet.agents[0];
    wait_until("what was not told of arrives", || {
        agent.read("pipes/orders.py").as_deref() == Some("ORDERS = 2\n")
            && agent.read("unheard/of.py").is_some()
    });
    let log = fleet.source.process().log();
    assert!(log.contains("watcher may have missed changes"), "{log}");
    assert!(log.contains("Overflow"), "{log}");
    fleet.source.wait("it is sure again", |status| {
        status.volume()["watch"]["state"] == "ok"
    });
    // The folder that nobody told of is watched now.
    fleet.source.save("unheard/of.py", "X = 2\n");
    wait_for("a save in it arrives", || {
        match fleet.agents[0].read("unheard/of.py") {
            Some(text) if text == "X = 2\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn polling_finds_what_no_event_tells_of() {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__WATCH__MODE", "poll"));
    let status = fleet.source.status();
    assert_eq!(status.volume()["watch"]["mode"], "poll", "{status}");
    assert_eq!(status.volume()["watch"]["state"], "polling", "{status}");
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    assert_eq!(
        fleet.agents[0].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
}
