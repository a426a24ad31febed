//! Another tree in the place of the watched one: a directory, a link, a mount. It is noticed and said,
//! and nothing of it is published before a person pushes it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_peer::within;
use codevol_protocol::call::{Call, Push, PushPlan, Reply};
use codevol_protocol::name::Text;
use codevol_protocol::status::{WatchState, WatchStatus};
use codevol_source::config::{PublishMode, VolumeConfig, WatchMode};
use codevol_tests::{apart, mount, save};
use tempfile::TempDir;

use crate::host::Host;

fn watched(volume: &mut VolumeConfig) {
    volume.publish = PublishMode::Auto;
    volume.watch.mode = WatchMode::Auto;
}

fn records(host: &Host) -> usize {
    fs::read_dir(host.state().join("volumes/pipes/log"))
        .unwrap()
        .count()
}

async fn published(host: &Host, count: usize) {
    let published = async {
        while records(host) < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the release", published).await;
}

async fn watch(host: &Host) -> WatchStatus {
    let Reply::Status(status) = host.call(&Call::Status).await else {
        panic!("no status");
    };
    let volume = status.volumes.into_iter().next();
    volume.and_then(|volume| volume.watch).unwrap()
}

async fn shows(host: &Host, state: WatchState, advice: &str) {
    let shown = async {
        loop {
            let watch = watch(host).await;
            let said = watch.advice.unwrap_or_default();
            if watch.state == state && said.as_str().contains(advice) {
                return said;
            }
        }
    };
    let said = within("state of the watcher", shown).await;
    assert_eq!(said.is_empty(), advice.is_empty(), "{said}");
}

async fn push(host: &Host, dry_run: bool) -> PushPlan {
    let push = Push {
        volume: None,
        paths: Vec::new(),
        message: Text::default(),
        dry_run,
        thaw: false,
        yes: false,
        wait: false,
    };
    match host.call(&Call::Push(push)).await {
        Reply::Plan(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

fn journal(host: &Host) -> String {
    fs::read_to_string(host.state().join("journal/journal.jsonl")).unwrap()
}

async fn is_held_back(host: &Host) {
    let why = "is gone or was replaced by another; `codevol push` publishes what stands there";
    shows(host, WatchState::Unsure, why).await;
    let noted = async {
        while !journal(host).contains("held back") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("line of the journal", noted).await;
    assert_eq!(records(host), 1);
}

/// The other tree stands there.
async fn is_published_when_it_is_pushed(host: &Host) {
    is_held_back(host).await;
    save(&host.tree().join("other.py"), b"OTHER = 1\n");
    let plan = push(host, true).await;
    let shows_other = |plan: &PushPlan| {
        let mut changes = plan.changes.iter();
        changes.any(|change| change.path.as_str() == "other.py")
    };
    assert!(shows_other(&plan), "{plan:?}");
    // To look at a plan is not to want it.
    is_held_back(host).await;
    let plan = push(host, false).await;
    assert!(shows_other(&plan) && plan.release.is_some(), "{plan:?}");
    published(host, 2).await;
    save(&host.tree().join("other.py"), b"OTHER = 2\n");
    published(host, 3).await;
    shows(host, WatchState::Ok, "").await;
}

fn set_aside(tree: &Path) -> PathBuf {
    let aside = tree.with_file_name("aside");
    fs::rename(tree, &aside).unwrap();
    aside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_the_place_of_the_tree_is_published_when_it_is_pushed() {
    let host = Host::begin_with(tempfile::tempdir().unwrap(), watched).await;
    set_aside(&host.tree());
    fs::create_dir(host.tree()).unwrap();
    save(&host.tree().join("other.py"), b"OTHER = 0\n");
    is_published_when_it_is_pushed(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_the_tree_is_published_when_it_is_pushed() {
    let host = Host::begin_with(tempfile::tempdir().unwrap(), watched).await;
    let other = host.tree().with_file_name("other");
    fs::create_dir(&other).unwrap();
    save(&other.join("other.py"), b"OTHER = 0\n");
    set_aside(&host.tree());
    symlink(&other, host.tree()).unwrap();
    is_published_when_it_is_pushed(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_in_the_place_of_the_tree_is_published_when_it_is_pushed() {
    let Some(folder) = apart() else { return };
    let host = Host::begin_with(TempDir::new_in(folder).unwrap(), |volume| {
        watched(volume);
        // A mount tells nobody that it came.
        volume.watch.rescan = Duration::from_millis(100);
    })
    .await;
    mount(&["-t", "tmpfs", "tmpfs"], &host.tree());
    save(&host.tree().join("other.py"), b"OTHER = 0\n");
    is_published_when_it_is_pushed(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watched_tree_goes_on_by_itself_when_it_is_back() {
    let host = Host::begin_with(tempfile::tempdir().unwrap(), watched).await;
    let aside = set_aside(&host.tree());
    fs::create_dir(host.tree()).unwrap();
    save(&host.tree().join("other.py"), b"OTHER = 0\n");
    is_held_back(&host).await;
    push(&host, true).await;
    fs::remove_dir_all(host.tree()).unwrap();
    fs::rename(aside, host.tree()).unwrap();
    shows(&host, WatchState::Ok, "").await;
    assert_eq!(records(&host), 1);
    save(&host.tree().join("defs.py"), b"two");
    published(&host, 2).await;
}
