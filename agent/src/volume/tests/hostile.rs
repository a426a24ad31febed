//! What others do on the same host, and what the clock and the umask do.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;

use super::kit::*;
use crate::volume::{ActivateError, Root, RootError};

fn release(seq: u64, text: &str) -> Published {
    publish(
        seq,
        &tree(&[("defs.py", file(text)), ("sub/kept.py", file("kept"))]),
    )
}

fn second(path: &Path) -> i64 {
    fs::metadata(path).unwrap().mtime()
}

#[test]
fn a_same_size_save_in_the_same_second_lands_in_a_later_one() {
    let releases: Vec<_> = (1..=4)
        .map(|seq| release(seq, &format!("x = {seq}")))
        .collect();
    let (disk, mut root) = Disk::with(&[&releases[0]]);
    for pair in releases.windows(2) {
        prepare_spare(&mut root);
        stage(&mut root, &pair[1]).unwrap();
        root.activate(pair[1].id(), NOW).unwrap();
        let (before, after) = (disk.release(&pair[0]), disk.release(&pair[1]));
        assert!(second(&after.join("defs.py")) > second(&before.join("defs.py")));
        assert_eq!(
            second(&after.join("sub/kept.py")),
            second(&before.join("sub/kept.py"))
        );
    }
}

#[test]
fn so_does_a_file_that_only_moved_there() {
    let one = publish(
        1,
        &tree(&[("a.py", file("x = 1")), ("b.py", file("x = 2"))]),
    );
    let two = publish(
        2,
        &tree(&[("a.py", file("x = 2")), ("b.py", file("x = 1"))]),
    );
    let (disk, _root) = Disk::with(&[&one, &two]);
    for name in ["a.py", "b.py"] {
        let (before, after) = (disk.release(&one).join(name), disk.release(&two).join(name));
        assert!(second(&after) > second(&before), "{name}");
    }
    assert_live(&disk, &two);
}

#[test]
fn what_is_planted_in_staging_does_not_get_into_the_release() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let mut staging = begin(&mut root, &two).unwrap();
    send(&mut staging, &two).unwrap();
    let incoming = disk
        .root()
        .join(".codevol/incoming")
        .join(two.id().to_string());
    fs::create_dir_all(incoming.join("tree/sub")).unwrap();
    fs::File::create(incoming.join("tree/sub/planted.py")).unwrap();
    symlink("/etc", incoming.join("tree/defs.py")).unwrap();
    land(&mut staging, &mut root).unwrap();
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn links_that_loop_or_dangle_land_as_links_and_are_never_followed() {
    let links = [
        ("dangling", link("nowhere")),
        ("loop", link("loop")),
        ("one", link("other")),
        ("other", link("one")),
        ("sub/up", link("../dangling")),
    ];
    let (one, two) = (publish(1, &tree(&links)), publish(2, &tree(&links[1..])));
    let (disk, mut root) = Disk::with(&[&one]);
    prepare_spare(&mut root);
    stage(&mut root, &two).unwrap();
    root.activate(two.id(), NOW).unwrap();
    assert_live(&disk, &two);
    assert_eq!(read_tree(&disk.release(&one)), one.tree);
    assert!(look(&mut root, &two).is_empty());
}

#[test]
fn what_is_planted_in_a_spare_does_not_get_into_the_release() {
    for plant in [
        |spare: &Path| drop(fs::File::create(spare.join("sub/planted.py")).unwrap()),
        |spare: &Path| drop(fs::File::create(spare.join("planted.py")).unwrap()),
        |spare: &Path| fs::create_dir(spare.join("sub/__pycache__")).unwrap(),
        |spare: &Path| fs::rename(spare.join("sub"), spare.join("bus")).unwrap(),
        |spare: &Path| fs::remove_dir_all(spare).unwrap(),
        |spare: &Path| {
            fs::remove_dir_all(spare.join("sub")).unwrap();
            symlink("/etc", spare.join("sub")).unwrap();
        },
    ] {
        let (one, two) = (release(1, "one"), release(2, "two"));
        let (disk, mut root) = Disk::with(&[&one]);
        prepare_spare(&mut root);
        plant(&disk.root().join(".codevol/incoming/spare"));
        stage(&mut root, &two).unwrap();
        assert_eq!(read_tree(&disk.release(&two)), two.tree);
    }
}

#[test]
fn bytecode_is_never_carried_over() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    fs::create_dir(disk.release(&one).join("sub/__pycache__")).unwrap();
    prepare_spare(&mut root);
    stage(&mut root, &two).unwrap();
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn the_umask_does_not_matter() {
    for bits in [0o000, 0o077] {
        let before = rustix::process::umask(Mode::from_raw_mode(bits));
        let (one, two) = (release(1, "one"), release(2, "two"));
        let (disk, _root) = Disk::with(&[&one, &two]);
        assert_live(&disk, &two);
        let own = fs::metadata(disk.root().join(".codevol")).unwrap();
        assert_eq!(own.mode() & 0o7777, 0o700);
        rustix::process::umask(before);
    }
}

/// Lists a directory with all that a chmod, a write or a removal would change.
fn fingerprint(top: &Path) -> Vec<(String, u32, i64, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(top)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = fs::read(&path).unwrap_or_default();
            let nanos = meta.mtime_nsec() + meta.ctime_nsec();
            (path.display().to_string(), meta.mode(), nanos, bytes)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_component_swapped_for_a_link_in_a_loop_leads_nowhere_outside() {
    let (disk, mut root) = Disk::with(&[&release(1, "one")]);
    let canary = disk.temp.path().join("canary");
    fs::create_dir(&canary).unwrap();
    for name in ["defs.py", "kept.py", "victim"] {
        fs::copy("/proc/self/status", canary.join(name)).unwrap();
    }
    fs::create_dir(canary.join("sub")).unwrap();
    let before = fingerprint(&canary);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for target in [
            "releases",
            ".codevol/incoming",
            ".codevol/trash",
            ".codevol/records",
        ] {
            let (path, canary, stop) = (disk.root().join(target), &canary, &stop);
            let aside = path.with_extension("aside");
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    fs::rename(&path, &aside).unwrap();
                    symlink(canary, &path).unwrap();
                    fs::remove_file(&path).unwrap();
                    fs::rename(&aside, &path).unwrap();
                }
            });
        }
        for seq in 2..40 {
            let next = release(seq, &format!("number {seq}"));
            // Whether it succeeds is a matter of luck; that it stays inside is not.
            let staged = stage(&mut root, &next);
            if staged.is_ok() {
                let activated = root.activate(next.id(), NOW);
                assert!(matches!(activated, Ok(_) | Err(ActivateError::Moved)));
            }
            root.collect(&std::collections::BTreeSet::new(), NOW)
                .unwrap();
            root.trash().empty().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fingerprint(&canary), before);
    let last = release(50, "last");
    stage(&mut root, &last).unwrap();
    root.activate(last.id(), NOW).unwrap();
    assert_live(&disk, &last);
}

#[test]
fn a_component_of_a_release_swapped_for_a_link_is_not_followed() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let canary = disk.temp.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::copy("/proc/self/status", canary.join("kept.py")).unwrap();
    let before = fingerprint(&canary);
    let sub = disk.release(&one).join("sub");
    let aside = disk.temp.path().join("aside");
    fs::rename(&sub, &aside).unwrap();
    symlink(&canary, &sub).unwrap();
    let mut staging = begin(&mut root, &two).unwrap();
    send(&mut staging, &two).unwrap();
    staging.finish(&mut root).unwrap_err();
    send(&mut staging, &two).unwrap();
    land(&mut staging, &mut root).unwrap();
    assert_eq!(fingerprint(&canary), before);
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn activation_is_refused_where_releases_was_replaced() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    stage(&mut root, &two).unwrap();
    let releases = disk.root().join("releases");
    fs::rename(&releases, disk.root().join("aside")).unwrap();
    symlink("/etc", &releases).unwrap();
    let error = root.activate(two.id(), NOW).unwrap_err();
    assert!(matches!(error, ActivateError::Moved));
    assert_eq!(root.active(), Some(one.id()));
}

#[test]
fn a_release_whose_directory_is_gone_is_not_activated() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    stage(&mut root, &two).unwrap();
    fs::remove_dir_all(disk.release(&two)).unwrap();
    let error = root.activate(two.id(), NOW).unwrap_err();
    assert!(matches!(error, ActivateError::Gone(_)));
    assert_live(&disk, &one);
}

#[test]
fn a_current_that_is_no_link_is_left_alone() {
    let disk = Disk::new();
    fs::create_dir(disk.root().join("current")).unwrap();
    assert!(matches!(disk.try_open(), Err(RootError::Occupied(_))));
}

#[test]
fn a_root_that_cannot_be_written_says_whose_it_is() {
    let state = tempfile::tempdir().unwrap();
    let volume = "pipes".parse().unwrap();
    // Nobody, not even root, makes a directory there.
    let root = Path::new("/sys/kernel");
    let error = Root::open(root, state.path(), &volume, 5).unwrap_err();
    let uid = rustix::process::geteuid().as_raw();
    let expected = format!(
        "`/sys/kernel` cannot be written: it is owned by uid 0, mode 0755, this is uid {uid}"
    );
    assert_eq!(error.to_string(), expected);
    assert!(!error.is_retryable());
}
