//! A release between its name and the disk.

use std::fs;

use rustix::io::Errno;

use super::faults::{self, Fault};
use super::kit::*;
use crate::volume::{ActivateError, Named, Root};

fn release(seq: u64, text: &str) -> Published {
    publish(
        seq,
        &tree(&[("defs.py", file(text)), ("sub/kept.py", file("kept"))]),
    )
}

fn name(root: &mut Root, published: &Published) -> Named {
    let mut staging = begin(root, published).unwrap();
    send(&mut staging, published).unwrap();
    staging.finish(root).unwrap()
}

#[test]
fn a_release_that_was_torn_by_a_power_cut_is_dropped_and_a_whole_one_stays() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let tears: [fn(&std::path::Path); 6] = [
        |_| {},
        |dir| drop(fs::File::create(dir.join("defs.py")).unwrap()),
        |dir| damage(&dir.join("defs.py")),
        |dir| fs::remove_file(dir.join("sub/kept.py")).unwrap(),
        |dir| {
            let marker = fs::File::create(dir.join(".codevol-release.json")).unwrap();
            marker.set_len(200).unwrap();
        },
        |dir| fs::remove_dir_all(dir).unwrap(),
    ];
    for (torn, tear) in tears.into_iter().enumerate() {
        let (disk, mut root) = Disk::with(&[&one]);
        drop(name(&mut root, &two));
        drop(root);
        tear(&disk.release(&two));
        let mut root = disk.open();
        assert_eq!(root.held().contains_key(&two.id()), torn == 0, "{torn}");
        assert_eq!(disk.release(&two).exists(), torn == 0, "{torn}");
        assert_live(&disk, &one);
        if torn > 0 {
            stage(&mut root, &two).unwrap();
        }
        root.activate(two.id(), NOW).unwrap();
        assert_live(&disk, &two);
    }
}

#[test]
fn what_was_activated_is_not_looked_at_anew() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, root) = Disk::with(&[&one, &two]);
    drop(root);
    // A local edit: told as drift, and no reason to drop what one may have to go back to.
    damage(&disk.release(&one).join("defs.py"));
    assert!(disk.open().held().contains_key(&one.id()));
}

#[test]
fn a_release_that_the_disk_does_not_take_is_held_no_more_and_not_activated() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let named = name(&mut root, &two);
    faults::plan(0, Fault::Once(Errno::IO));
    let lost = named.make_durable().unwrap_err();
    assert!(faults::clear());
    let error = root.activate(two.id(), NOW).unwrap_err();
    assert!(matches!(error, ActivateError::NotDurable(id) if id == two.id()));
    assert!(root.let_go(lost).is_retryable());
    assert!(!root.held().contains_key(&two.id()));
    assert!(!disk.release(&two).exists());
    assert_live(&disk, &one);
    stage(&mut root, &two).unwrap();
    root.activate(two.id(), NOW).unwrap();
    assert_live(&disk, &two);
}

#[test]
fn a_release_is_not_activated_before_it_is_durable_and_who_wants_that_waits() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let named = name(&mut root, &two);
    let error = root.activate(two.id(), NOW).unwrap_err();
    assert!(matches!(error, ActivateError::NotDurable(_)));
    assert_live(&disk, &one);
    let verdict = root.verdict(two.id()).unwrap();
    std::thread::scope(|scope| {
        let activation = scope.spawn(|| {
            verdict.wait();
            root.activate(two.id(), NOW).map(drop)
        });
        named.make_durable().unwrap();
        activation.join().unwrap().unwrap();
    });
    assert_live(&disk, &two);
}

#[test]
fn nobody_waits_for_ever_for_what_is_given_up() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    drop(name(&mut root, &two));
    root.verdict(two.id()).unwrap().wait();
    root.activate(two.id(), NOW).unwrap_err();
    assert_live(&disk, &one);
}
