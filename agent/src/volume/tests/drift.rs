//! What is found on the disk that is not as released, and how it is put back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::release::UnixMillis;
use tokio_util::sync::CancellationToken;

use super::kit::*;
use crate::volume::{Drift, DriftKind, Found, Pace, Progress, Restored, Root, Seen, StageError};

const LATER: UnixMillis = UnixMillis(NOW.0 + 25 * 60 * 60 * 1_000);

fn release(seq: u64) -> Published {
    publish(
        seq,
        &tree(&[
            ("a.py", file("a")),
            ("b.py", file("b")),
            ("c.py", file("c")),
            ("link", link("a.py")),
            ("seq.py", file(format!("{seq}"))),
            ("sub/.codevol", file("not at the root")),
            ("tool", tool("run")),
            ("void", Thing::Dir),
        ]),
    )
}

fn drift(path: &str, kind: DriftKind) -> Drift {
    Drift {
        path: path.to_owned(),
        kind,
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Does to a release all that can be done to one; returns what is to be found.
fn vandalise(top: &Path) -> Vec<Drift> {
    damage(&top.join("a.py"));
    fs::remove_file(top.join("b.py")).unwrap();
    // A mode belongs to the inode, which other releases share: a copy is not theirs.
    fs::copy(top.join("c.py"), top.join("c.new")).unwrap();
    fs::rename(top.join("c.new"), top.join("c.py")).unwrap();
    chmod(&top.join("c.py"), 0o755);
    fs::remove_file(top.join("link")).unwrap();
    symlink("c.py", top.join("link")).unwrap();
    chmod(&top.join("sub"), 0o777);
    fs::remove_file(top.join("tool")).unwrap();
    fs::create_dir(top.join("tool")).unwrap();
    for dir in ["__pycache__", "sub/__pycache__", "void/new", "logs"] {
        fs::create_dir(top.join(dir)).unwrap();
    }
    fs::File::create(top.join("sub/planted.py")).unwrap();
    vec![
        drift("a.py", DriftKind::Changed),
        drift("b.py", DriftKind::Missing),
        drift("c.py", DriftKind::Changed),
        drift("link", DriftKind::Changed),
        drift("logs", DriftKind::Foreign),
        drift("sub", DriftKind::Changed),
        drift("sub/planted.py", DriftKind::Foreign),
        drift("tool", DriftKind::Changed),
        drift("void/new", DriftKind::Foreign),
    ]
}

fn restore(root: &mut Root, published: &Published, found: &Found) -> Restored {
    let look = root.look(published.id()).unwrap();
    let restoring = root.restoring().unwrap();
    let restored = restoring.run(&look, found, &mut Pace::free());
    restored.unwrap().unwrap()
}

#[test]
fn drift_tells_changed_missing_and_foreign_apart() {
    let one = release(1);
    let (disk, mut root) = Disk::with(&[&one]);
    prepare_spare(&mut root);
    assert!(look(&mut root, &one).is_empty());
    let expected = vandalise(&disk.release(&one));
    let found = look(&mut root, &one);
    assert_eq!(found.drift, expected);
    assert_eq!(found.more, 0);
}

#[test]
fn each_kind_of_drift_is_put_back() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    let shared = disk.release(&one).join("c.py");
    let shared = fs::metadata(shared).unwrap().ino();
    vandalise(&disk.release(&two));
    let found = look(&mut root, &two);
    let restored = restore(&mut root, &two, &found);
    // Written into where it stands, the file is wrong in the other release too.
    assert_eq!(restored.lacking, BTreeSet::from([BlobId::of(b"a")]));
    let left = look(&mut root, &two);
    assert_eq!(left.drift, [drift("a.py", DriftKind::Changed)]);
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!(restored.done.len(), found.drift.len() - 1);
    for dir in ["__pycache__", "sub/__pycache__"] {
        assert!(disk.release(&two).join(dir).exists(), "{dir}");
    }
    // What was right stays the file that it was.
    let still = fs::metadata(disk.release(&one).join("c.py")).unwrap().ino();
    assert_eq!(still, shared);
}

#[test]
fn what_is_foreign_goes_to_the_trash_and_is_not_lost_at_once() {
    let one = release(1);
    let (disk, mut root) = Disk::with(&[&one]);
    fs::create_dir(disk.release(&one).join("notes")).unwrap();
    fs::copy("/proc/self/status", disk.release(&one).join("notes/mine")).unwrap();
    let found = look(&mut root, &one);
    assert_eq!(found.drift, [drift("notes", DriftKind::Foreign)]);
    restore(&mut root, &one, &found);
    assert_eq!(read_tree(&disk.release(&one)), one.tree);
    let trash = fs::read_dir(disk.root().join(".codevol/trash")).unwrap();
    // What staging left is in there, too.
    let mut moved = trash.map(|entry| entry.unwrap().path());
    assert!(moved.any(|path| path.join("mine").exists()));
}

#[test]
fn a_wrong_file_is_replaced_wherever_it_is_shared_and_never_written_to() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    // A good copy, of an inode of its own.
    let copy = disk.release(&one).join("a.copy");
    fs::copy(disk.release(&one).join("a.py"), &copy).unwrap();
    fs::rename(&copy, disk.release(&one).join("a.py")).unwrap();
    let three = release(3);
    stage(&mut root, &three).unwrap();
    let wrong = disk.release(&two).join("a.py");
    let opened = fs::File::open(&wrong).unwrap();
    damage(&wrong);
    let (before, landed) = (
        fs::metadata(&wrong).unwrap().ino(),
        fs::metadata(&wrong).unwrap().mtime(),
    );
    let found = look(&mut root, &two);
    assert_eq!(found.drift, [drift("a.py", DriftKind::Changed)]);
    let restored = restore(&mut root, &two, &found);
    assert_eq!(restored.done, found.drift);
    for release in [&one, &two, &three] {
        assert_eq!(read_tree(&disk.release(release)), release.tree);
    }
    let after = fs::metadata(&wrong).unwrap();
    assert_ne!(after.ino(), before, "it was written to where it stood");
    // Python must see that the bytes are others.
    assert!(after.mtime() > landed);
    // Whoever had it open reads what was there.
    assert_eq!(std::io::read_to_string(opened).unwrap(), "X");
}

#[test]
fn a_mode_that_was_changed_is_put_back_in_every_release_that_shares_it() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    chmod(&disk.release(&two).join("c.py"), 0o666);
    let found = look(&mut root, &two);
    assert_eq!(found.drift, [drift("c.py", DriftKind::Changed)]);
    assert_eq!(restore(&mut root, &two, &found).done, found.drift);
    for release in [&one, &two] {
        assert_eq!(read_tree(&disk.release(release)), release.tree);
    }
}

#[test]
fn a_directory_that_was_swapped_for_a_link_is_put_back_and_nothing_outside_is_touched() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    let outside = disk.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::File::create(outside.join(".codevol")).unwrap();
    let sub = disk.release(&two).join("sub");
    fs::remove_dir_all(&sub).unwrap();
    symlink(&outside, &sub).unwrap();
    let found = look(&mut root, &two);
    let expected = [
        drift("sub", DriftKind::Foreign),
        drift("sub/.codevol", DriftKind::Missing),
    ];
    assert_eq!(found.drift, expected);
    let restored = restore(&mut root, &two, &found);
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
    assert_eq!(fs::read(outside.join(".codevol")).unwrap(), b"");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn bytes_that_are_held_nowhere_are_taken_again_and_go_wherever_they_are_shared() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    damage(&disk.release(&two).join("a.py"));
    fs::remove_file(disk.release(&one).join("b.py")).unwrap();
    fs::remove_file(disk.release(&two).join("b.py")).unwrap();
    let found = look(&mut root, &two);
    let blobs = [BlobId::of(b"a"), BlobId::of(b"b")];
    let restored = restore(&mut root, &two, &found);
    assert_eq!(restored.lacking, BTreeSet::from(blobs));
    assert!(restored.failed.is_empty(), "they are asked for");
    let mut staging = root.begin_mending(two.id(), Some(two.id())).unwrap();
    staging.ask_for(&blobs);
    send(&mut staging, &two).unwrap();
    land(&mut staging, &mut root).unwrap();
    for release in [&one, &two] {
        assert_eq!(read_tree(&disk.release(release)), release.tree);
        assert!(look(&mut root, release).is_empty());
    }
    drop(root);
    // It is held as before.
    let root = disk.open();
    assert_eq!(root.active(), Some(two.id()));
    assert_eq!(root.held().len(), 2);
}

#[test]
fn a_mending_that_is_given_up_leaves_the_release_held() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    damage(&disk.release(&two).join("a.py"));
    let mut staging = root.begin_mending(two.id(), Some(one.id())).unwrap();
    staging.ask_for(&[BlobId::of(b"a")]);
    let error = staging.finish(&mut root).unwrap_err();
    assert!(matches!(error, StageError::Missing(_)), "{error}");
    root.discard(staging).unwrap();
    drop(root);
    assert_eq!(disk.open().held().len(), 2);
}

#[test]
fn damage_that_the_stamps_do_not_show_after_a_collection_is_found() {
    let all: Vec<Published> = (1..=8).map(release).collect();
    let (disk, mut root) = Disk::with(&all[..7].iter().collect::<Vec<_>>());
    let live = &all[6];
    prepare_spare(&mut root);
    let path = disk.release(live).join("a.py");
    damage(&path);
    // Its number of names changes: the time of change says nothing any more.
    root.collect(&BTreeSet::new(), LATER).unwrap();
    root.trash().empty().unwrap();
    let index = live.manifest.entries();
    let index = index
        .iter()
        .position(|(p, _)| p.as_str() == "a.py")
        .unwrap();
    let stamp = root.stamps_of(live.id())[index].unwrap();
    let dir = codevol_store::dir::Dir::open(&disk.release(live)).unwrap();
    let stat = dir.stat("a.py").unwrap().unwrap();
    assert!(stamp.is_of(&stat), "the stamps show it: test another way");
    let found = look(&mut root, live);
    assert_eq!(found.drift, [drift("a.py", DriftKind::Changed)]);
    // From here on nobody believes the stamps, nor a spare that was made of the same files.
    root.distrust(live.id(), &found);
    assert!(root.stamps_of(live.id())[index].is_none());
    assert!(root.stamps_of(live.id())[index + 1].is_some());
    let job = root.prepare_spare().unwrap().unwrap();
    assert!(job.build().unwrap().is_none(), "a spare of damaged files");
}

#[test]
fn a_link_that_was_flipped_is_found_and_put_back() {
    let (one, two) = (release(1), release(2));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    let current = disk.root().join("current");
    let other = Path::new("releases").join(one.verified.dir_name());
    for flip in [
        |_: &Path, _: &Path| {},
        |current: &Path, other: &Path| symlink(other, current).unwrap(),
        |current: &Path, _: &Path| symlink("/etc", current).unwrap(),
        |current: &Path, _: &Path| symlink(OsStr::from_bytes(b"\xff"), current).unwrap(),
    ] {
        assert!(!root.is_flipped().unwrap());
        fs::remove_file(&current).unwrap();
        flip(&current, &other);
        assert!(root.is_flipped().unwrap());
        assert!(root.restore_current().unwrap());
        assert_live(&disk, &two);
    }
    assert!(!root.restore_current().unwrap(), "there is nothing to do");
    // What is no link is nobody's to replace.
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    assert!(root.is_flipped().unwrap());
    assert!(root.restore_current().is_err());
    assert!(current.is_dir());
}

#[test]
fn one_path_is_judged_with_what_lies_below_it_and_by_what_it_lies_in() {
    let one = release(1);
    let (disk, mut root) = Disk::with(&[&one]);
    let top = disk.release(&one);
    fs::create_dir_all(top.join("new/deep")).unwrap();
    fs::File::create(top.join("new/deep/x.py")).unwrap();
    fs::File::create(top.join("sub/x.py")).unwrap();
    damage(&top.join("a.py"));
    fs::remove_file(top.join("sub/.codevol")).unwrap();
    let mut at = |path: &str| {
        let look = root.look(one.id()).unwrap();
        look.at(path, &mut Pace::free()).unwrap().unwrap()
    };
    let mut judged = |path: &str, by: &str, expected: &[Drift]| {
        let (top, found) = at(path);
        assert_eq!((top.as_str(), &*found.drift), (by, expected), "{path}");
    };
    judged("a.py", "a.py", &[drift("a.py", DriftKind::Changed)]);
    judged("b.py", "b.py", &[]);
    judged("gone.py", "gone.py", &[]);
    judged("new/deep/x.py", "new", &[drift("new", DriftKind::Foreign)]);
    let in_sub = [
        drift("sub/.codevol", DriftKind::Missing),
        drift("sub/x.py", DriftKind::Foreign),
    ];
    judged("sub", "sub", &in_sub);
    judged("sub/x.py", "sub/x.py", &in_sub[1..]);
    fs::remove_dir_all(top.join("sub")).unwrap();
    judged("sub/x.py", "sub", &in_sub[..1]);
    fs::remove_dir_all(&top).unwrap();
    judged("a.py", "", &[drift(".", DriftKind::Missing)]);
}

#[test]
fn names_that_the_rules_leave_out_are_no_drift_and_without_rules_nothing_is_foreign() {
    let rules = b"*.log\n/target/\n";
    let one = publish_with(1, &tree(&[("a.py", file("a"))]), rules);
    let (disk, mut root) = Disk::with(&[&one]);
    let top = disk.release(&one);
    fs::File::create(top.join("run.log")).unwrap();
    fs::create_dir(top.join("target")).unwrap();
    fs::File::create(top.join("target/x")).unwrap();
    fs::File::create(top.join("planted.py")).unwrap();
    assert_eq!(root.lacks_rules(), [one.id()]);
    assert!(look(&mut root, &one).is_empty(), "it cannot be told yet");
    assert!(!root.keep_rules(b"*\n").unwrap(), "no release names these");
    assert!(look(&mut root, &one).is_empty());
    assert!(root.keep_rules(rules).unwrap());
    assert!(root.lacks_rules().is_empty());
    let expected = [drift("planted.py", DriftKind::Foreign)];
    assert_eq!(look(&mut root, &one).drift, expected);
    drop(root);
    // They are there after a restart; and not, where they are others by then.
    let mut root = disk.open();
    assert_eq!(look(&mut root, &one).drift, expected);
    drop(root);
    let kept = disk.root().join(".codevol/rules");
    let kept = kept.join(BlobId::of(rules).to_string());
    damage(&kept);
    let mut root = disk.open();
    assert_eq!(root.lacks_rules(), [one.id()]);
    let found = look(&mut root, &one);
    assert!(found.is_empty());
    let restored = restore(&mut root, &one, &found);
    assert!(restored.done.is_empty());
    assert!(top.join("run.log").exists());
}

#[test]
fn what_was_read_good_is_not_read_again_by_another_name() {
    let (one, two) = (release(1), release(2));
    let (_disk, mut root) = Disk::with(&[&one, &two]);
    let progress = Progress::default();
    let mut pace = Pace::fast(CancellationToken::new(), progress.clone());
    let mut seen = Seen::default();
    for release in [&two, &one] {
        let look = root.look(release.id()).unwrap();
        assert!(
            look.whole(&mut pace, &mut seen)
                .unwrap()
                .unwrap()
                .is_empty()
        );
    }
    let all = Manifest::total_bytes(&two.manifest);
    // The one file that they do not share.
    assert_eq!(progress.bytes(), all + 1);
    assert_eq!(progress.files(), 2 * two.manifest.entries().len() as u64);
}

#[test]
fn a_look_that_is_stopped_finds_nothing() {
    let one = release(1);
    let (disk, mut root) = Disk::with(&[&one]);
    damage(&disk.release(&one).join("a.py"));
    let stop = CancellationToken::new();
    stop.cancel();
    let mut pace = Pace::fast(stop, Progress::default());
    let look = root.look(one.id()).unwrap();
    assert_eq!(look.whole(&mut pace, &mut Seen::default()).unwrap(), None);
    assert_eq!(look.at("a.py", &mut pace).unwrap(), None);
}

#[test]
fn more_drift_than_is_kept_is_counted() {
    let one = release(1);
    let (disk, mut root) = Disk::with(&[&one]);
    for n in 0..1_100 {
        fs::File::create(disk.release(&one).join(format!("{n:04}.log"))).unwrap();
    }
    let found = look(&mut root, &one);
    assert_eq!((found.drift.len(), found.more), (1_000, 100));
}
