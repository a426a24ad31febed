//! The baseline: what stood there is copied, is known, and is what a first release goes back to.

#![expect(
    clippy::disallowed_methods,
    reason = "what people write needs no durability"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use codevol_protocol::id::FleetId;
use codevol_protocol::key::SecretKey;
use codevol_protocol::name::Text;

use super::kit::{Disk, NOW, Tree, file, link, publish, read_tree, stage, tool, tree};
use crate::volume::{AdoptError, Adopted, Baseline, Pace, Root, Seen};

fn adopt(root: &mut Root) -> Result<Adopted, AdoptError> {
    let baseline = Baseline {
        fleet: FleetId::of(b"fleet"),
        volume: "pipes".parse().unwrap(),
        author: Text::cut("dag-01"),
        host: Text::cut("host"),
        key: &SecretKey::from_seed(&[9; 32]),
    };
    root.adopt(baseline, NOW)
}

/// What people have used until now.
fn used() -> Tree {
    tree(&[
        ("definitions.py", file("import pipes")),
        ("pipes/orders.py", file("ORDERS = 1")),
        ("pipes/void", super::kit::Thing::Dir),
        ("run.sh", tool("#!/bin/sh")),
        ("latest.py", link("pipes/orders.py")),
    ])
}

fn put(top: &Path, tree: &Tree) {
    use super::kit::Thing;
    for (path, thing) in tree {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match thing {
            Thing::File(bytes) => fs::write(&path, bytes).unwrap(),
            Thing::Tool(bytes) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            }
            Thing::Link(target) => symlink(target, &path).unwrap(),
            Thing::Dir => fs::create_dir(&path).unwrap(),
        }
    }
}

/// A root in which people have worked.
fn lived_in() -> Disk {
    let disk = Disk::new();
    put(&disk.root(), &used());
    put(
        &disk.root(),
        &tree(&[
            ("pipes/__pycache__/orders.pyc", file("bytecode")),
            (".git/HEAD", file("ref")),
        ]),
    );
    disk
}

#[test]
fn what_stands_there_is_copied_and_stays_as_it_is() {
    let disk = lived_in();
    let mut root = disk.open();
    let adopted = adopt(&mut root).unwrap();
    assert_eq!((adopted.files, adopted.skipped.len()), (3, 0));
    assert_eq!(root.active(), Some(adopted.release));
    let current = fs::read_link(disk.root().join("current")).unwrap();
    assert!(current.starts_with("releases"), "{current:?}");
    assert!(
        current.to_str().unwrap().contains("/000000-"),
        "{current:?}"
    );
    assert_eq!(read_tree(&disk.root().join("current")), used());
    // In place, with other bytes: a release never changes.
    let orders = disk.root().join("pipes/orders.py");
    assert_eq!(fs::read(&orders).unwrap(), b"ORDERS = 1");
    fs::write(&orders, "ORDERS = 2").unwrap();
    assert_eq!(read_tree(&disk.root().join("current")), used());
    assert!(disk.root().join(".git/HEAD").exists());
}

#[test]
fn the_first_release_goes_back_to_it_after_a_restart_too() {
    let disk = lived_in();
    let mut root = disk.open();
    let baseline = adopt(&mut root).unwrap().release;
    drop(root);
    let (mut root, recovered) = disk.try_open().unwrap();
    assert_eq!(recovered, Default::default());
    assert_eq!(root.active(), Some(baseline));
    let first = publish(1, &tree(&[("definitions.py", file("import gone"))]));
    stage(&mut root, &first).unwrap();
    root.activate(first.id(), NOW).unwrap();
    assert_eq!(root.previous(), Some(baseline));
    assert_eq!(root.earlier().first().map(|(_, id)| *id), Some(baseline));
    root.activate(baseline, NOW).unwrap();
    assert_eq!(read_tree(&disk.root().join("current")), used());
}

#[test]
fn nothing_is_adopted_where_there_is_nothing_or_where_releases_are() {
    let disk = Disk::new();
    let mut root = disk.open();
    assert!(matches!(adopt(&mut root), Err(AdoptError::Empty)));
    drop(root);
    put(&disk.root(), &used());
    let mut root = disk.open();
    adopt(&mut root).unwrap();
    assert!(matches!(adopt(&mut root), Err(AdoptError::Begun)));
}

#[test]
fn what_others_could_not_read_there_and_can_in_it_is_named() {
    let disk = lived_in();
    for (path, mode) in [
        ("secret", 0o600),
        ("team", 0o640),
        ("open", 0o604),
        ("run.sh", 0o755),
        ("closed/deep/plain", 0o644),
        ("entered/plain", 0o644),
    ] {
        let path = disk.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (folder, mode) in [("closed", 0o750), ("entered", 0o711)] {
        let folder = disk.root().join(folder);
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut opened = adopt(&mut disk.open()).unwrap().opened;
    opened.sort();
    assert_eq!(opened, ["closed/deep/plain", "secret", "team"]);
    let secret = fs::metadata(disk.root().join("current/secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_no_release_can_hold_is_named_and_left_where_it_is() {
    let disk = lived_in();
    let secret = disk.temp.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, disk.root().join("absolute")).unwrap();
    symlink("../secret", disk.root().join("above")).unwrap();
    fs::create_dir(disk.root().join("lone")).unwrap();
    symlink("../../secret", disk.root().join("lone/above")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), disk.root().join("no-text")).unwrap();
    let mut root = disk.open();
    let adopted = adopt(&mut root).unwrap();
    let mut names: Vec<&str> = adopted
        .skipped
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["above", "absolute", "lone/above", "no-text"]);
    let mut expected = used();
    expected.insert("lone".to_owned(), super::kit::Thing::Dir);
    assert_eq!(read_tree(&disk.root().join("current")), expected);
    assert!(disk.root().join("above").is_symlink());
    let look = root.look(adopted.release).unwrap();
    let found = look.whole(&mut Pace::free(), &mut Seen::default());
    assert!(found.unwrap().unwrap().is_empty(), "it drifts");
}

#[test]
fn a_copy_that_was_cut_short_leaves_nothing_and_is_made_again() {
    let disk = lived_in();
    drop(disk.open());
    put(
        &disk.root().join(".codevol/incoming/baseline"),
        &tree(&[("half.py", file("half"))]),
    );
    let mut root = disk.open();
    assert_eq!(root.active(), None);
    adopt(&mut root).unwrap();
    assert_eq!(read_tree(&disk.root().join("current")), used());
}
