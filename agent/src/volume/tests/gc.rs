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
    land(&mut staging, &mut root).unwrap();
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

/// Activates at times before `LATER`, in hours.
fn activate_at(root: &mut super::super::Root, release: &Published, hours_before: u64) {
    let at = UnixMillis(LATER.0 - hours_before * 60 * 60 * 1_000);
    root.activate(release.id(), at).unwrap();
}

#[test]
fn what_was_live_until_today_is_kept_however_long_ago_it_was_activated() {
    let all = history(11);
    let (_disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    // r1 was live for days, until 23 hours ago; r3 until 25 hours ago, a day before that.
    for (release, hours_before) in [(&all[2], 90), (&all[0], 25), (&all[1], 23), (&all[10], 22)] {
        activate_at(&mut root, release, hours_before);
    }
    activate_at(&mut root, &all[9], 21);
    let gone: Vec<u64> = root
        .collectable(&BTreeSet::new(), LATER)
        .iter()
        .map(|held| held.release().seq.0)
        .collect();
    // Not r1 and r2; r7 to r11 are the newest five.
    assert_eq!(gone, [3, 4, 5, 6]);
}

#[test]
fn of_those_that_were_live_today_only_the_newest_twenty_are_kept() {
    let all = history(30);
    let (_disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    for release in &all {
        activate_at(&mut root, release, 1);
    }
    let gone = root.collectable(&BTreeSet::new(), LATER);
    let newest = gone.iter().map(|held| held.release().seq.0).max();
    assert_eq!((gone.len(), newest), (10, Some(10)));
}

#[test]
fn whoever_locks_a_release_that_is_removed_sees_that_it_is_gone() {
    let all = history(6);
    let (disk, mut root) = Disk::with(&all.iter().collect::<Vec<_>>());
    let marker = disk.release(&all[0]).join(".codevol-release.json");
    let user = fs::File::open(&marker).unwrap();
    let collected = root.collect(&BTreeSet::new(), LATER).unwrap();
    assert_eq!(collected.removed, [all[0].id()]);
    flock(&user, FlockOperation::LockShared).unwrap();
    assert!(!marker.exists());
}

#[test]
fn what_a_collection_frees_is_weighed_once_and_shared_files_are_not() {
    let shared = file(vec![b's'; 5_000]);
    let release = |seq: u64, own: usize| {
        let own = file(vec![b'a' + u8::try_from(seq).unwrap(); own]);
        publish(seq, &tree(&[("shared", shared.clone()), ("own", own)]))
    };
    let all: Vec<Published> = (1..=4).map(|seq| release(seq, 1_000)).collect();
    let (disk, root) = Disk::with(&all.iter().collect::<Vec<_>>());
    let marker = |release: &Published| {
        let marker = disk.release(release).join(".codevol-release.json");
        fs::metadata(marker).unwrap().len()
    };
    let held = |of: &[&Published]| -> Vec<_> {
        of.iter()
            .map(|release| root.held()[&release.id()].clone())
            .collect()
    };
    let two = root.trash().weigh(&held(&[&all[0], &all[1]])).unwrap();
    assert_eq!(two, 2_000 + marker(&all[0]) + marker(&all[1]));
    let every: Vec<&Published> = all.iter().collect();
    let markers: u64 = every.iter().map(|release| marker(release)).sum();
    assert_eq!(
        root.trash().weigh(&held(&every)).unwrap(),
        4_000 + 5_000 + markers
    );
}
