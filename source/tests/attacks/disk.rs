//! Disks that are full or broken, and a system that has no descriptor left, while a release is
//! published: the one who pushes is told, nothing half of it stands in the log or is ever believed
//! to be durable, and once the cause is gone it works again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_protocol::call::{FailureSort, Reply};
use codevol_tests::{Failing, apart, mount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::host::Host;

/// A source on which r1 is live, and whose state is a file system of this kind.
async fn host_on(folder: &Path, options: &str) -> Host {
    let temp = tempfile::tempdir_in(folder).unwrap();
    let state = temp.path().join("state");
    fs::create_dir(&state).unwrap();
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &state);
    Host::begin_in(temp).await
}

fn volume(host: &Host) -> PathBuf {
    host.state().join("volumes/pipes")
}

fn records(host: &Host) -> usize {
    fs::read_dir(volume(host).join("log")).unwrap().count()
}

/// Nothing is published: whoever pushed hears why, and no part of it stays.
async fn is_not_published(host: &Host, what: &str, why: &str) {
    let reply = host.push(what).await;
    let what = what.get(..80).unwrap_or(what);
    let Reply::Failed(failure) = reply else {
        panic!("{what}: {reply:?}");
    };
    assert_eq!(failure.sort, FailureSort::Failed, "{what}: {failure:?}");
    assert_eq!(failure.kind.as_str(), "publish", "{what}: {failure:?}");
    let told = failure
        .causes
        .iter()
        .any(|cause| cause.as_str().contains(why));
    assert!(told, "{what}: {failure:?}");
}

/// No record was appended, and no file that was never finished is left.
fn is_clean(host: &Host, before: usize, what: &str) {
    assert_eq!(records(host), before, "{what}");
    for place in ["log", "manifests", "blobs"] {
        let entries = fs::read_dir(volume(host).join(place)).unwrap();
        for entry in entries {
            let name = entry.unwrap().file_name();
            let name = name.to_str().unwrap();
            assert!(!name.starts_with(".tmp-"), "{what}: {place}/{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_publishes_nothing() {
    let Some(folder) = apart() else { return };
    let mut host = host_on(&folder, "size=32m").await;
    let filler = host.state().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    is_not_published(&host, "full", "No space left").await;
    is_clean(&host, 1, "full");
    drop(file);
    fs::remove_file(&filler).unwrap();
    host.survives("room again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_an_inode_left_publishes_nothing() {
    let Some(folder) = apart() else { return };
    let mut host = host_on(&folder, "nr_inodes=1000").await;
    let fillers = host.state().join("fillers");
    fs::create_dir(&fillers).unwrap();
    let more = |n: usize| File::create(fillers.join(n.to_string())).is_ok();
    assert!((0..1000).any(|n| !more(n)));
    is_not_published(&host, "no inode", "No space left").await;
    is_clean(&host, 1, "no inode");
    fs::remove_dir_all(&fillers).unwrap();
    host.survives("inodes again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_descriptor_nothing_is_published() {
    let Some(folder) = apart() else { return };
    let mut host = Host::begin_in(tempfile::tempdir_in(&folder).unwrap()).await;
    let limit = getrlimit(Resource::Nofile);
    let mut held = Vec::new();
    let few = Rlimit {
        current: Some(256),
        ..limit
    };
    setrlimit(Resource::Nofile, few).unwrap();
    // What the daemon has open for a moment, such as the last caller's end, becomes free yet.
    let mut in_vain = 0;
    while in_vain < 100 {
        match File::open("/dev/null") {
            Ok(file) => {
                held.push(file);
                in_vain = 0;
            }
            Err(_) => {
                in_vain += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    // The tree's file, the call's two ends.
    held.truncate(held.len() - 3);
    is_not_published(&host, "no descriptor", "Too many open files").await;
    drop(held);
    setrlimit(Resource::Nofile, limit).unwrap();
    is_clean(&host, 1, "no descriptor");
    host.survives("descriptors again").await;
}

/// What publishing writes into: the write-ahead log, and the directories of what a release is made of.
fn places(host: &Host) -> Vec<PathBuf> {
    [vec![volume(host).join("wal")], directories(host)].concat()
}

fn directories(host: &Host) -> Vec<PathBuf> {
    let blobs = volume(host).join("blobs");
    let fans = fs::read_dir(&blobs).unwrap();
    let fans = fans.map(|fan| fan.unwrap().path());
    let own = ["log", "manifests"].map(|place| volume(host).join(place));
    own.into_iter().chain(fans).chain([blobs]).collect()
}

/// A text that is too long to be written ahead.
fn long(what: &str) -> String {
    what.repeat(2_500_000 / what.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_that_fails_while_a_release_is_published() {
    let Some(folder) = apart() else { return };
    let mut host = Host::begin_in(tempfile::tempdir_in(&folder).unwrap()).await;
    for (calls, error, why) in [
        ("fsync,fdatasync,syncfs", "EIO", "Input/output error"),
        ("fsync,fdatasync,syncfs", "EDQUOT", "quota"),
        ("link,linkat", "EIO", "Input/output error"),
        ("link,linkat", "ENOSPC", "No space left"),
        ("link,linkat", "EROFS", "Read-only"),
        ("rename,renameat,renameat2", "EIO", "Input/output error"),
        ("rename,renameat,renameat2", "EDQUOT", "quota"),
        ("rename,renameat,renameat2", "EROFS", "Read-only"),
        ("open,openat,openat2", "EMFILE", "Too many open files"),
        ("open,openat,openat2", "EROFS", "Read-only"),
    ] {
        let what = format!("{calls}: {error}");
        let how = format!("error={error}");
        let before = records(&host);
        let failing = Failing::of(calls, &how, &places(&host), &folder);
        let Some(failing) = failing else { return };
        is_not_published(&host, &what, why).await;
        is_not_published(&host, &long(&what), why).await;
        assert!(failing.end() > 1, "{what}");
        is_clean(&host, before, &what);
        host.survives(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_may_not_be_durable_is_none() {
    let Some(folder) = apart() else { return };
    let mut host = Host::begin_in(tempfile::tempdir_in(&folder).unwrap()).await;
    let wal = volume(&host).join("wal");
    let before = records(&host);
    let failing = Failing::of("fdatasync", "error=EIO", &[wal], &folder);
    let Some(failing) = failing else { return };
    for _ in 0..2 {
        is_not_published(
            &host,
            "fdatasync of what is written ahead",
            "Input/output error",
        )
        .await;
    }
    assert!(failing.end() > 1);
    is_clean(&host, before, "fdatasync");
    host.survives("fdatasync").await;
    // One call after the other, whichever it is: what comes before it works.
    for first in 1..=4 {
        let what = format!("sync {first} and all after it");
        let before = records(&host);
        let how = format!("error=EIO:when={first}+");
        let Some(failing) = Failing::of("fsync,syncfs", &how, &directories(&host), &folder) else {
            return;
        };
        let reply = host.push(&long(&what)).await;
        let is_published = matches!(reply, Reply::Plan(_));
        let failed = failing.end();
        assert_eq!(is_published, failed == 0, "{what}: {failed} failed");
        assert!(failed > 0 || first > 1, "{what}");
        if !is_published {
            is_clean(&host, before, &what);
        }
        host.survives(&what).await;
    }
}
