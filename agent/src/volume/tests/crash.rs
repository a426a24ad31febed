//! A crash, or a disk that fails, at each step.

use std::path::Path;
use std::sync::Arc;

use codevol_store::dir::{Dir, DirError};
use rustix::io::Errno;

use super::faults::{self, Fault};
use super::kit::*;
use crate::volume::{Root, StageError};

const STEPS_MAX: usize = 1_000;

fn old() -> Published {
    publish(
        1,
        &tree(&[
            ("defs.py", file("old")),
            ("keep/a.py", file("kept")),
            ("keep/b.py", file("kept too")),
            ("gone/x.py", file("going")),
        ]),
    )
}

fn new() -> Published {
    publish(
        2,
        &tree(&[
            ("defs.py", file("new")),
            ("keep/a.py", file("kept")),
            ("keep/b.py", file("kept too")),
            ("moved.py", file("going")),
            ("big", file("x".repeat(200))),
            ("void", Thing::Dir),
        ]),
    )
}

fn deploy(root: &mut Root, published: &Published) -> Result<(), String> {
    match stage(root, published) {
        Ok(_) | Err(StageError::AlreadyHeld) => {}
        Err(error) => return Err(error.to_string()),
    }
    let activated = root.activate(published.id(), NOW);
    activated.map_err(|error| error.to_string())?;
    let wanted = std::collections::BTreeSet::new();
    root.collect(&wanted, NOW).map_err(|e| e.to_string())?;
    Ok(())
}

/// Whatever is held is whole, and `current` names one of the two.
fn assert_whole(disk: &Disk, root: &Root, releases: [&Published; 2]) {
    for release in releases {
        if root.held().contains_key(&release.id()) {
            assert_eq!(read_tree(&disk.release(release)), release.tree);
        } else {
            assert!(!disk.release(release).exists());
        }
    }
    let live = releases.iter().find(|r| root.active() == Some(r.id()));
    assert_live(disk, live.unwrap());
}

fn crash_at_every_step(with_spare: bool) {
    let (old, new) = (old(), new());
    for steps in 0..STEPS_MAX {
        let (disk, mut root) = Disk::with(&[&old]);
        if with_spare {
            prepare_spare(&mut root);
        }
        faults::plan(steps, Fault::Crash);
        let deployed = deploy(&mut root, &new);
        drop(root);
        if !faults::clear() {
            deployed.unwrap();
            assert!(steps > 10);
            return;
        }
        // The start after it may be cut short as well.
        for steps in 0..STEPS_MAX {
            faults::plan(steps, Fault::Crash);
            let opened = disk.try_open();
            if !faults::clear() {
                drop(opened.unwrap());
                break;
            }
        }
        let mut root = disk.open();
        assert_whole(&disk, &root, [&old, &new]);
        deploy(&mut root, &new).unwrap();
        assert_live(&disk, &new);
        assert_eq!(read_tree(&disk.release(&old)), old.tree);
    }
    panic!("never came to its end");
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_release_whole() {
    crash_at_every_step(false);
}

#[test]
fn so_does_one_where_a_spare_is_used() {
    crash_at_every_step(true);
}

#[test]
fn a_crash_at_any_step_of_the_first_release_leaves_nothing_or_all_of_it() {
    let new = new();
    for steps in 0..STEPS_MAX {
        let disk = Disk::new();
        faults::plan(steps, Fault::Crash);
        let deployed = disk.try_open().map(|(mut root, _)| deploy(&mut root, &new));
        if !faults::clear() {
            deployed.unwrap().unwrap();
            return;
        }
        let mut root = disk.open();
        match root.active() {
            Some(_) => assert_live(&disk, &new),
            None => assert!(!disk.root().join("current").exists()),
        }
        deploy(&mut root, &new).unwrap();
        assert_live(&disk, &new);
    }
    panic!("never came to its end");
}

#[test]
fn a_disk_that_fails_at_any_step_leaves_the_live_release_and_later_it_works() {
    for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS] {
        fails_at_every_step(errno);
    }
}

fn fails_at_every_step(errno: Errno) {
    let (old, new) = (old(), new());
    for steps in 0..STEPS_MAX {
        let (disk, mut root) = Disk::with(&[&old]);
        if steps % 2 == 0 {
            prepare_spare(&mut root);
        }
        faults::plan(steps, Fault::Once(errno));
        let deployed = deploy(&mut root, &new);
        let happened = faults::clear();
        assert_whole(&disk, &root, [&old, &new]);
        if !happened {
            deployed.unwrap();
            return;
        }
        if deployed.is_err() {
            assert_live(&disk, &old);
        }
        if !root.held().contains_key(&new.id()) {
            // Staging gave back the room that it had taken.
            let incoming = disk
                .root()
                .join(".codevol/incoming")
                .join(new.id().to_string());
            assert!(!incoming.exists(), "after {steps} steps");
        }
        deploy(&mut root, &new).unwrap();
        assert_live(&disk, &new);
    }
    panic!("never came to its end");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let (disk, mut root) = Disk::with(&[]);
    faults::pretend_free(100);
    let error = begin(&mut root, &new()).unwrap_err();
    let needed = new().manifest.total_bytes();
    assert!(
        matches!(error, StageError::NoSpace { needed_bytes, free_bytes: 100 } if needed_bytes == needed)
    );
    assert!(error.is_retryable());
    let own = disk.root().join(".codevol");
    for place in ["incoming", "records", "trash"] {
        assert_eq!(std::fs::read_dir(own.join(place)).unwrap().count(), 0);
    }
}

#[test]
fn the_intent_is_durable_before_the_flip() {
    let (old, new) = (old(), new());
    let mut undone = 0;
    for steps in 0..STEPS_MAX {
        let (disk, mut root) = Disk::with(&[&old]);
        stage(&mut root, &new).unwrap();
        faults::plan(steps, Fault::Crash);
        let activated = root.activate(new.id(), NOW);
        drop(root);
        if !faults::clear() {
            activated.unwrap();
            assert!(undone > 0);
            return;
        }
        let (root, recovered) = disk.try_open().unwrap();
        if recovered.undone == Some(new.id()) {
            undone += 1;
            assert_live(&disk, &old);
        } else if root.active() == Some(new.id()) {
            assert_eq!(root.record.get().intend, Some(new.id()));
        }
    }
    panic!("never came to its end");
}

#[test]
fn a_link_lost_in_a_crash_is_put_back() {
    let (old, new) = (old(), new());
    let (disk, root) = Disk::with(&[&old, &new]);
    drop(root);
    std::fs::remove_file(disk.root().join("current")).unwrap();
    let (root, recovered) = disk.try_open().unwrap();
    assert_eq!(recovered.restored, Some(new.id()));
    assert_eq!(root.active(), Some(new.id()));
    assert_live(&disk, &new);
}

#[test]
fn a_lost_state_and_lost_records_do_not_lose_the_release_on_the_disk() {
    let (old, new) = (old(), new());
    let (disk, root) = Disk::with(&[&old, &new]);
    drop(root);
    std::fs::remove_dir_all(disk.root().join(".codevol")).unwrap();
    std::fs::remove_file(disk.temp.path().join("state/recovery-pipes")).unwrap();
    let (mut root, recovered) = disk.try_open().unwrap();
    let name = new.verified.dir_name();
    assert_eq!(recovered.unknown_current, Some(name));
    assert_eq!(root.high_water().0.0, 2);
    // It matches what the source sends again, so it is taken as it stands.
    assert!(matches!(
        begin(&mut root, &new),
        Err(StageError::AlreadyHeld)
    ));
    assert_eq!(root.active(), Some(new.id()));
    assert_live(&disk, &new);
}

#[test]
fn what_a_killed_process_named_is_durable_before_it_counts_as_held() {
    let (_disk, mut root) = Disk::with(&[&old()]);
    // A directory that cannot be made durable.
    Arc::get_mut(&mut root.places).unwrap().releases =
        Dir::open(Path::new("/proc/self/task")).unwrap();
    let failed = root.recover().unwrap_err();
    assert!(matches!(failed, DirError::Sync { .. }), "{failed}");
}
