//! A transfer that was cut short goes on where it was.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use codevol_protocol::delta::Position;
use codevol_protocol::id::BlobId;

use super::kit::*;
use crate::volume::StageError;

fn big(fill: &str) -> Published {
    publish(
        1,
        &tree(&[
            ("a.py", file("first")),
            ("big", file(fill.repeat(300))),
            ("z.py", file("last")),
        ]),
    )
}

/// A disk on which the first file and three segments of the large one have arrived.
fn cut_short(published: &Published) -> Disk {
    let disk = Disk::new();
    let mut root = disk.open();
    let mut staging = begin(&mut root, published).unwrap();
    let pieces: Vec<_> = staging.plan().pieces_from(Position::default()).collect();
    for piece in &pieces[..4] {
        let bytes = bytes_at(published, piece.position);
        staging.write(piece.position, bytes).unwrap();
    }
    disk
}

fn blobs(disk: &Disk, published: &Published) -> PathBuf {
    let id = published.id().to_string();
    disk.root().join(".codevol/incoming").join(id).join("blobs")
}

fn finish(disk: &Disk, published: &Published, from: (u64, u64)) {
    let (entry, segment) = from;
    let from = Position { entry, segment };
    let (mut root, recovered) = disk.try_open().unwrap();
    assert_eq!(recovered.partial, Some((published.id(), from)));
    let mut staging = begin(&mut root, published).unwrap();
    assert_eq!(staging.position(), from);
    send(&mut staging, published).unwrap();
    land(&mut staging, &mut root).unwrap();
    root.activate(published.id(), NOW).unwrap();
    assert_live(disk, published);
}

#[test]
fn in_the_middle_of_a_large_file() {
    let big = big("abc");
    let disk = cut_short(&big);
    finish(&disk, &big, (1, 3));
}

#[test]
fn at_the_first_segment_that_does_not_re_hash() {
    let big = big("abc");
    let disk = cut_short(&big);
    let part = fs::read_dir(blobs(&disk, &big))
        .unwrap()
        .map(|e| e.unwrap().path());
    let part = part
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "part"));
    let part = fs::OpenOptions::new()
        .write(true)
        .open(part.unwrap())
        .unwrap();
    part.write_all_at(b"?", 70).unwrap();
    finish(&disk, &big, (1, 1));
}

#[test]
fn at_a_file_that_does_not_re_hash_whatever_lies_beside_it() {
    let big = big("abc");
    let disk = cut_short(&big);
    let dir = blobs(&disk, &big);
    let first = BlobId::of(b"first").to_string();
    let torn = fs::File::options()
        .write(true)
        .open(dir.join(first))
        .unwrap();
    torn.set_len(3).unwrap();
    let foreign = BlobId::of(b"foreign").to_string();
    for name in [
        foreign.as_str(),
        "..x",
        "x.part",
        &format!("{foreign}.part"),
    ] {
        fs::File::create(dir.join(name)).unwrap();
    }
    fs::create_dir(dir.join("dir")).unwrap();
    finish(&disk, &big, (0, 0));
}

#[test]
fn from_the_start_for_another_release() {
    let (before, after) = (big("abc"), big("xyz"));
    let disk = cut_short(&before);
    let mut root = disk.open();
    let staging = begin(&mut root, &after).unwrap();
    assert_eq!(staging.position(), Position::default());
    assert!(!blobs(&disk, &before).exists());
}

#[test]
fn a_large_file_whose_segments_do_not_add_up_is_dropped() {
    let big = big("abc");
    let disk = Disk::new();
    let mut root = disk.open();
    let mut staging = begin(&mut root, &big).unwrap();
    let pieces: Vec<_> = staging.plan().pieces_from(Position::default()).collect();
    let mut outcome = Ok(());
    for piece in pieces.iter().filter(|piece| piece.position.entry == 1) {
        let mut bytes = bytes_at(&big, piece.position).to_vec();
        if piece.position.segment == 2 {
            bytes[0] ^= 1;
        }
        outcome = staging.write(piece.position, &bytes);
    }
    assert!(matches!(outcome, Err(StageError::WrongBytes(_))));
    send(&mut staging, &big).unwrap();
    land(&mut staging, &mut root).unwrap();
    assert_eq!(read_tree(&disk.release(&big)), big.tree);
}

#[test]
fn a_piece_that_is_here_already_is_passed_over_and_a_gap_is_refused() {
    let big = big("abc");
    let disk = cut_short(&big);
    let mut root = disk.open();
    let mut staging = begin(&mut root, &big).unwrap();
    let at = |segment| Position { entry: 1, segment };
    staging.write(at(1), bytes_at(&big, at(1))).unwrap();
    let gap = staging.write(at(5), bytes_at(&big, at(5))).unwrap_err();
    assert!(matches!(gap, StageError::OutOfOrder(_)));
    assert_eq!(staging.position(), at(3));
    send(&mut staging, &big).unwrap();
    land(&mut staging, &mut root).unwrap();
}
