//! Staging, activation, the spare.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::kit::*;
use crate::volume::{RootError, StageError};

fn first() -> Published {
    publish(
        1,
        &tree(&[
            ("defs.py", file("one")),
            ("run", tool("#!/bin/sh")),
            ("a/b/deep.py", file("deep")),
            ("a/same.py", file("deep")),
            ("a/empty.py", file("")),
            ("gone/x.py", file("going")),
            ("turns", file("into a directory")),
            ("link", link("a/b")),
            ("void", Thing::Dir),
        ]),
    )
}

fn second() -> Published {
    publish(
        2,
        &tree(&[
            ("defs.py", file("two")),
            ("run", file("#!/bin/sh")),
            ("a/b/deep.py", file("deep")),
            ("a/same.py", file("other")),
            ("a/empty.py", file("")),
            ("moved/x.py", file("going")),
            ("turns/around.py", file("new")),
            ("link", link("a")),
            ("void/filled.py", file("x".repeat(200))),
            ("vacant", Thing::Dir),
        ]),
    )
}

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn two_releases_stand_whole_side_by_side() {
    let (one, two) = (first(), second());
    let (disk, mut root) = Disk::with(&[&one, &two]);
    assert_eq!(read_tree(&disk.release(&one)), one.tree);
    assert_live(&disk, &two);
    assert_eq!(root.active(), Some(two.id()));
    assert_eq!(root.previous(), Some(one.id()));
    let kept = "a/b/deep.py";
    assert_eq!(
        inode(&disk.release(&one).join(kept)),
        inode(&disk.release(&two).join(kept))
    );
    assert!(look(&mut root, &two).is_empty());
}

#[test]
fn a_spare_gives_the_same_release() {
    let (one, two) = (first(), second());
    let (disk, mut root) = Disk::with(&[&one]);
    prepare_spare(&mut root);
    let spare = inode(&disk.root().join(".codevol/incoming/spare"));
    stage(&mut root, &two).unwrap();
    // It is the spare itself that became the release.
    assert_eq!(inode(&disk.release(&two)), spare);
    root.activate(two.id(), NOW).unwrap();
    assert_live(&disk, &two);
    assert_eq!(read_tree(&disk.release(&one)), one.tree);
    prepare_spare(&mut root);
    let back = publish(3, &one.tree);
    stage(&mut root, &back).unwrap();
    root.activate(back.id(), NOW).unwrap();
    assert_live(&disk, &back);
}

#[test]
fn an_empty_base_and_an_empty_release_work() {
    let (none, one) = (publish(1, &Tree::new()), publish(2, &first().tree));
    let (disk, mut root) = Disk::with(&[&none, &one]);
    prepare_spare(&mut root);
    let none = publish(3, &Tree::new());
    stage(&mut root, &none).unwrap();
    root.activate(none.id(), NOW).unwrap();
    assert_live(&disk, &none);
}

#[test]
fn what_is_held_is_known_after_a_restart() {
    let (one, two) = (first(), second());
    let (disk, root) = Disk::with(&[&one, &two]);
    drop(root);
    let (mut root, recovered) = disk.try_open().unwrap();
    assert_eq!(recovered, super::super::Recovered::default());
    assert_eq!(root.active(), Some(two.id()));
    assert_eq!(root.held().len(), 2);
    assert_eq!(root.high_water().1, Some(two.id()));
    assert_eq!(*root.held()[&one.id()].manifest(), one.manifest);
    root.activate(one.id(), NOW).unwrap();
    assert_live(&disk, &one);
    assert_eq!(root.high_water().1, Some(two.id()));
}

#[test]
fn the_marker_says_which_release_it_is() {
    let one = first();
    let (disk, _root) = Disk::with(&[&one]);
    let text = fs::read_to_string(disk.root().join("current/.codevol-release.json")).unwrap();
    let marker: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "schema": "codevol.release/1",
        "volume": "pipes",
        "seq": 1,
        "id": one.id().to_string(),
        "manifest": one.manifest.id().to_string(),
        "parent": null,
        "origin": "push",
        "created_at": "2023-11-14T22:13:20.123Z",
        "author": "alice",
        "message": "null \"customer\" ids",
        "git": null,
        "files": 7,
        "bytes": one.manifest.total_bytes(),
    });
    assert_eq!(marker, expected);
}

#[test]
fn a_second_agent_on_one_root_is_refused() {
    let disk = Disk::new();
    let _root = disk.open();
    assert!(matches!(disk.try_open(), Err(RootError::InUse { .. })));
}

#[test]
fn a_held_release_and_a_seq_that_is_taken_are_refused() {
    let (one, other) = (first(), publish(1, &tree(&[("x", file("x"))])));
    let (_disk, mut root) = Disk::with(&[&one]);
    let again = begin(&mut root, &one).unwrap_err();
    assert!(matches!(again, StageError::AlreadyHeld));
    let other = begin(&mut root, &other).unwrap_err();
    assert!(matches!(other, StageError::OtherAtSeq { held, .. } if held == one.id()));
}

#[test]
fn a_manifest_of_another_release_is_refused_and_nothing_is_written() {
    let (one, two) = (first(), second());
    let (disk, mut root) = Disk::with(&[]);
    let error = root.begin(&one.verified, two.manifest, None).unwrap_err();
    assert!(matches!(error, StageError::Manifest(_)));
    let incoming = disk.root().join(".codevol/incoming");
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
}
