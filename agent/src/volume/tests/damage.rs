//! Held files that are not what they were, and bytes that are not what they should be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use codevol_protocol::delta::Position;
use codevol_protocol::id::BlobId;

use super::kit::*;
use crate::volume::{Root, StageError};

fn release(seq: u64, changed: &str) -> Published {
    publish(
        seq,
        &tree(&[
            ("changed.py", file(changed)),
            ("kept.py", file("kept as it is")),
            ("sub/same.py", file("kept as it is")),
        ]),
    )
}

fn mtime(path: &Path) -> i64 {
    fs::metadata(path).unwrap().mtime()
}

fn missing(error: StageError) -> Vec<BlobId> {
    let StageError::Missing(blobs) = error else {
        panic!("{error}");
    };
    blobs
}

fn heal(root: &mut Root, published: &Published) -> Vec<BlobId> {
    let mut staging = begin(root, published).unwrap();
    send(&mut staging, published).unwrap();
    let blobs = missing(staging.finish(root).unwrap_err());
    send(&mut staging, published).unwrap();
    land(&mut staging, root).unwrap();
    blobs
}

#[test]
fn a_damaged_held_file_is_found_before_it_is_linked_and_mended_wherever_it_is_shared() {
    let (one, two, three) = (release(1, "one"), release(2, "two"), release(3, "three"));
    let (disk, mut root) = Disk::with(&[&one, &two]);
    let damaged_at = mtime(&disk.release(&one).join("kept.py"));
    damage(&disk.release(&one).join("kept.py"));
    let blob = BlobId::of(b"kept as it is");
    assert_eq!(heal(&mut root, &three), [blob]);
    for release in [&one, &two, &three] {
        assert_eq!(read_tree(&disk.release(release)), release.tree);
        // New bytes for the same path: Python must see that.
        assert!(mtime(&disk.release(release).join("kept.py")) > damaged_at);
    }
}

#[test]
fn a_damaged_spare_is_not_used() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    prepare_spare(&mut root);
    damage(&disk.release(&one).join("kept.py"));
    assert_eq!(heal(&mut root, &two), [BlobId::of(b"kept as it is")]);
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn a_spare_that_is_found_damaged_before_the_push_comes_is_not_used() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    prepare_spare(&mut root);
    root.look_at_spare();
    assert!(root.spare.is_some(), "nobody touched it");
    damage(&disk.release(&one).join("kept.py"));
    root.look_at_spare();
    assert!(root.spare.is_none());
    assert_eq!(heal(&mut root, &two), [BlobId::of(b"kept as it is")]);
}

#[test]
fn no_spare_is_made_of_a_damaged_release() {
    let one = release(1, "one");
    let (disk, mut root) = Disk::with(&[&one]);
    damage(&disk.release(&one).join("kept.py"));
    let job = root.prepare_spare().unwrap().unwrap();
    assert!(job.build().unwrap().is_none());
}

#[test]
fn a_damaged_base_is_found_before_it_is_a_prefix_and_the_file_comes_whole() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    damage(&disk.release(&one).join("changed.py"));
    let mut staging = begin(&mut root, &two).unwrap();
    let error = send(&mut staging, &two).unwrap_err();
    assert_eq!(missing(error), [BlobId::of(b"two")]);
    let pieces: Vec<_> = staging.plan().pieces_from(Position::default()).collect();
    assert!(pieces.iter().all(|piece| piece.prefix.is_none()));
    send(&mut staging, &two).unwrap();
    land(&mut staging, &mut root).unwrap();
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn bytes_that_are_not_the_blobs_are_dropped_and_the_file_comes_whole() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let mut staging = begin(&mut root, &two).unwrap();
    for bytes in [&b"twX"[..], b"tw", b"two!", b""] {
        let error = staging.write(Position::default(), bytes).unwrap_err();
        assert!(matches!(error, StageError::WrongBytes(_)), "{bytes:?}");
    }
    let error = staging.finish(&mut root).unwrap_err();
    assert_eq!(missing(error), [BlobId::of(b"two")]);
    send(&mut staging, &two).unwrap();
    land(&mut staging, &mut root).unwrap();
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn a_piece_where_none_travels_is_refused() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (_disk, mut root) = Disk::with(&[&one]);
    let mut staging = begin(&mut root, &two).unwrap();
    for (entry, segment) in [(1, 0), (0, 1), (99, 0), (u64::MAX, u64::MAX)] {
        let error = staging
            .write(Position { entry, segment }, b"two")
            .unwrap_err();
        assert!(matches!(error, StageError::OutOfOrder(_)));
    }
}

#[test]
fn a_release_whose_modes_were_changed_lands_with_the_right_ones() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    for (path, mode) in [("kept.py", 0o600), ("sub/same.py", 0o4777), ("sub", 0o700)] {
        let path = disk.release(&one).join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    stage(&mut root, &two).unwrap();
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}

#[test]
fn files_below_a_damaged_directory_are_fetched_again() {
    let (one, two) = (release(1, "one"), release(2, "two"));
    let (disk, mut root) = Disk::with(&[&one]);
    let sub = disk.release(&one).join("sub");
    fs::remove_dir_all(&sub).unwrap();
    std::os::unix::fs::symlink("/etc", &sub).unwrap();
    assert_eq!(heal(&mut root, &two), [BlobId::of(b"kept as it is")]);
    assert_eq!(read_tree(&disk.release(&two)), two.tree);
}
