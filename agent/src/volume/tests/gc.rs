//! What is collected, and what never is.

use std::collections::BTreeSet;
use std::fs;

use codevol_protocol::release::UnixMillis;
use rustix::fs::{FlockOperation, flock};

use super::kit::*;

const LATER: UnixMillis = UnixMillis(NOW.0 + 25 * 60 * 60 * 1_000);

fn history(releases: u64) -> Vec<Published> {
    let release = |seq| publish(seq, &tree(&[("seq", file(format!("{seq}")))]));
    (1..=releases).map(release).collect()
}

fn names(disk: &Disk) -> BTreeSet<String> {
    let entries = fs::read_dir(disk.root().join("releases")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn only_the_newest_and_what_is_or_was_live_are_kept() {
    let all = history(9);
    let (disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    root.activate(all[0].id(), NOW).unwrap();
    root.activate(all[1].id(), NOW).unwrap();
    let wanted = BTreeSet::from([all[2].id()]);
    let collected = root.collect(&wanted, LATER).unwrap();
    assert_eq!(collected.removed, sorted(&[&all[3]]));
    root.trash().empty().unwrap();
    assert!(!names(&disk).contains(&all[3].verified.dir_name()));
    assert_eq!(root.held().len(), 8);
    assert_live(&disk, &all[1]);
    drop(root);
    assert_eq!(disk.open().held().len(), 8);
}

fn sorted(releases: &[&Published]) -> Vec<codevol_protocol::id::ReleaseId> {
    let mut ids: Vec<_> = releases.iter().map(|release| release.id()).collect();
    ids.sort();
    ids
}

#[test]
fn what_was_live_in_the_last_day_is_kept() {
    let all = history(9);
    let (_disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    let wanted = BTreeSet::new();
    assert_eq!(root.collect(&wanted, NOW).unwrap().removed, []);
    assert_eq!(root.collectable(&wanted, LATER).len(), 4);
    assert_eq!(root.collect(&wanted, LATER).unwrap().removed.len(), 4);
}

#[test]
fn a_release_that_a_process_uses_is_kept_until_it_ends() {
    let all = history(7);
    let (disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    let marker = disk.release(&all[0]).join(".codevol-release.json");
    let user = fs::File::open(marker).unwrap();
    flock(&user, FlockOperation::LockShared).unwrap();
    let collected = root.collect(&BTreeSet::new(), LATER).unwrap();
    assert_eq!(collected.in_use, [all[0].id()]);
    assert_eq!(collected.removed, [all[1].id()]);
    assert_eq!(read_tree(&disk.release(&all[0])), all[0].tree);
    drop(user);
    let collected = root.collect(&BTreeSet::new(), LATER).unwrap();
    assert_eq!(collected.removed, [all[0].id()]);
}

#[test]
fn the_base_of_a_staging_is_in_use() {
    let all = history(7);
    let (_disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    let next = publish(8, &tree(&[("seq", file("8"))]));
    let base = Some(all[0].id());
    let mut staging = root
        .begin(&next.verified, next.manifest.clone(), base)
        .unwrap();
    let collected = root.collect(&BTreeSet::new(), LATER).unwrap();
    assert_eq!(collected.in_use, [all[0].id()]);
    send(&mut staging, &next).unwrap();
    staging.finish(&mut root).unwrap();
}

#[test]
fn a_release_without_a_record_is_removed_and_nothing_else_is() {
    let all = history(1);
    let (disk, mut root) = Disk::with(&[&all[0]]);
    for name in ["000009-0123abcd", "notes", "000010-short"] {
        fs::create_dir(disk.root().join("releases").join(name)).unwrap();
    }
    root.collect(&BTreeSet::new(), NOW).unwrap();
    let kept = ["000010-short", "notes", &all[0].verified.dir_name()].map(str::to_owned);
    assert_eq!(names(&disk), kept.into());
}
