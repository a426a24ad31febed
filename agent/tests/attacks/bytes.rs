//! Bytes that are not those of the blob: dropped, asked for again, whole.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use codevol_protocol::delta::Position;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::message::FromAgent;
use codevol_protocol::patch;

use crate::craft::{Push, craft};
use crate::scene::{Answer, Scene, files_at};

/// How a piece is made wrong, out of the old file and the new one.
type Spoil = fn(&[u8], &[u8], &mut Vec<u8>);

fn compress(plain: &[u8], prefix: &[u8]) -> Vec<u8> {
    patch::compress(plain, prefix).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_is_not_the_blobs_is_dropped_and_asked_for_whole() {
    let cases: &[(&str, Spoil)] = &[
        ("first byte flipped", |old, new, piece| {
            *piece = compress(&flipped(new, 0), old);
        }),
        ("middle byte flipped", |old, new, piece| {
            *piece = compress(&flipped(new, new.len() / 2), old);
        }),
        ("last byte flipped", |old, new, piece| {
            *piece = compress(&flipped(new, new.len() - 1), old);
        }),
        ("a byte short", |old, new, piece| {
            *piece = compress(&new[1..], old);
        }),
        ("a byte long", |old, new, piece| {
            *piece = compress(&[new, b"x"].concat(), old);
        }),
        ("the old bytes under the new id", |old, _, piece| {
            *piece = compress(old, old);
        }),
        ("a patch of something else", |_, new, piece| {
            *piece = compress(new, &flipped(&new[..new.len() - 1], 3));
        }),
        ("first byte of the frame flipped", |_, _, piece| {
            piece[0] ^= 1;
        }),
        ("last byte of the frame flipped", |_, _, piece| {
            *piece.last_mut().unwrap() ^= 0x40;
        }),
        ("no frame of zstd", |_, _, piece| *piece = vec![7; 40]),
    ];
    let mut scene = Scene::begin().await;
    for (what, spoil) in cases {
        let next = files_at(scene.next(), &format!("{what}, in a line of some length"));
        let mut push = next.push(Some(&scene.live));
        let (old, new) = (&scene.live.files["defs.py"], &next.files["defs.py"]);
        spoil(old, new, &mut push.pieces[0]);
        is_dropped_then_taken(&mut scene, what, &next, &push).await;
    }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

async fn is_dropped_then_taken(
    scene: &mut Scene,
    what: &str,
    next: &crate::craft::Crafted,
    push: &Push,
) {
    scene.link.push(push).await;
    let Answer::Missing(blobs) = scene.answer(next.id(), what).await else {
        panic!("{what}: was not asked for again");
    };
    assert_eq!(blobs, [BlobId::of(&next.files["defs.py"])], "{what}");
    assert!(!scene.node.holds(next), "{what}");
    scene.noted(what, "missing", 1).await;
    scene.is_unharmed(what).await;
    let whole = next.push_with(Some(&scene.live), &blobs, Position::default());
    scene.link.push(&whole).await;
    scene.goes_live(next.clone(), what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_upon_a_release_that_is_not_held_is_dropped_and_the_whole_is_taken() {
    let mut scene = Scene::begin().await;
    let next = files_at(scene.next(), "two");
    let nowhere = ReleaseId::of(b"nowhere");
    let mut push = next.push(Some(&scene.live));
    push.head.base = Some(nowhere);
    scene.link.push(&push).await;
    // The source is told first that it is wrong about the base.
    let told = loop {
        match scene.link.hear().await.unwrap().unwrap() {
            FromAgent::Held { removed, .. } if removed == [nowhere] => break true,
            FromAgent::Report(report) if report.release == next.id() => break false,
            _ => {}
        }
    };
    assert!(told);
    let Answer::Failed(failure) = scene.answer(next.id(), "an unheld base").await else {
        panic!("was not refused");
    };
    assert!(failure.retryable, "{failure:?}");
    scene
        .noted("an unheld base", failure.kind.as_str(), 1)
        .await;
    assert!(!scene.node.holds(&next));
    scene.is_unharmed("an unheld base").await;
    scene.link.push(&next.push(None)).await;
    scene.goes_live(next, "the whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_changed_places_are_dropped_and_asked_for_whole() {
    let mut scene = Scene::begin().await;
    let next = craft(2, &[("a.py", b"first"), ("b.py", b"second"), ("c.py", b"")]);
    let mut push = next.push(None);
    push.pieces.swap(0, 1);
    scene.link.push(&push).await;
    let Answer::Missing(blobs) = scene.answer(next.id(), "swapped").await else {
        panic!("was not asked for again");
    };
    assert_eq!(blobs.len(), 2);
    scene.is_unharmed("swapped").await;
    let whole = next.push_with(None, &blobs, Position::default());
    scene.link.push(&whole).await;
    scene.goes_live(next, "in order").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_segment_of_a_large_file_is_dropped_and_the_file_asked_for_whole() {
    let mut scene = Scene::begin().await;
    let large: Vec<u8> = (0..33_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let next = craft(2, &[("defs.py", &large), ("z.py", b"behind it")]);
    let good = next.push(None);
    assert_eq!(good.pieces.len(), 3);
    let mut push = good.clone();
    push.pieces[0] = vec![7; 40];
    is_dropped_then_taken(&mut scene, "first segment", &next, &push).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_file_that_was_damaged_is_fetched_again_and_never_linked() {
    let mut scene = Scene::begin().await;
    let kept = scene.node.root().join("current/sub/kept.py");
    // The spare shares the file by now, so it was hashed: what happens to it after that must be
    // noticed by its stat, which the answer to a call gives the time to be recorded.
    while fs::metadata(&kept).unwrap().nlink() < 2 {
        tokio::task::yield_now().await;
    }
    scene.is_unharmed("before").await;
    let times = fs::metadata(&kept).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&kept).unwrap();
    file.write_all_at(b"k3pt", 0).unwrap();
    file.set_modified(times).unwrap();
    let next = files_at(scene.next(), "two");
    scene.link.push(&next.push(Some(&scene.live))).await;
    let Answer::Missing(blobs) = scene.answer(next.id(), "damaged").await else {
        panic!("was not asked for again");
    };
    assert_eq!(blobs, [BlobId::of(b"kept")]);
    let whole = next.push_with(Some(&scene.live), &blobs, Position::default());
    scene.link.push(&whole).await;
    let before = scene.live.clone();
    scene.goes_live(next, "mended").await;
    // The release that shares the file was mended too.
    let mended = scene.node.root().join("releases").join(before.dir_name());
    assert_eq!(fs::read(mended.join("sub/kept.py")).unwrap(), b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_no_byte_and_of_one_byte_work() {
    let first = craft(
        1,
        &[("empty.py", b""), ("also-empty.py", b""), ("one.py", b"1")],
    );
    let mut scene = Scene::begin_with(first, tempfile::tempdir().unwrap()).await;
    let next = craft(
        2,
        &[("empty.py", b"2"), ("also-empty.py", b""), ("one.py", b"")],
    );
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "turned round").await;
}
