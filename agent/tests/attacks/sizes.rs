//! More than there is room for.

use codevol_protocol::codec;
use codevol_protocol::delta::Position;
use codevol_protocol::limits::PUSH_FRAME_BYTES_MAX;
use codevol_protocol::manifest::Manifest;

use crate::craft::{PUBLISHER, RawEntry, key, push_of_entries, record};
use crate::scene::{Answer, Scene, files_at};

/// A zstd frame of ten gibibytes of nothing: blocks that say "so many times this byte".
fn bomb() -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    let blocks = (10_u64 << 30) / u64::from(BLOCK);
    // Magic, a header without a size, a window of one block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | BLOCK << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_in_the_place_of_a_file_is_bounded_by_the_declared_size() {
    let mut scene = Scene::begin().await;
    let next = files_at(2, "small");
    let mut push = next.push(Some(&scene.live));
    push.pieces[0] = bomb();
    scene.link.push(&push).await;
    let Answer::Missing(blobs) = scene.answer(next.id(), "bomb").await else {
        panic!("was not dropped");
    };
    assert!(memory_bytes() < 3 << 30, "{} bytes", memory_bytes());
    scene.is_unharmed("bomb").await;
    let whole = next.push_with(Some(&scene.live), &blobs, Position::default());
    scene.link.push(&whole).await;
    scene.goes_live(next, "whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_holds_more_than_the_record_says_is_a_breach() {
    let mut scene = Scene::begin().await;
    let mut push = files_at(2, "two").push(None);
    push.manifest = vec![bomb()];
    scene.link.push(&push).await;
    scene.closes("a bomb as a manifest").await;
    assert!(memory_bytes() < 3 << 30, "{} bytes", memory_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_is_a_breach_before_its_bytes_are_there() {
    let mut scene = Scene::begin().await;
    let head = files_at(2, "two").push(None).frames().remove(0);
    let over = u32::try_from(PUSH_FRAME_BYTES_MAX + 1).unwrap();
    let bytes = [&codevol_peer::frame(&head)[..], &over.to_le_bytes()].concat();
    let open = scene.link.push_open(&bytes).await;
    scene.closes("a manifest's frame over the limit").await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_a_manifest_may_have_are_refused() {
    let mut scene = Scene::begin().await;
    let names: Vec<String> = (0..=1_000_000).map(|n| format!("{n:07}")).collect();
    let entries: Vec<(&str, RawEntry)> = names
        .iter()
        .map(|name| (name.as_str(), RawEntry::Dir))
        .collect();
    // The record says as many as it may; the manifest holds one more.
    let mut push = push_of_entries(2, &entries);
    let plain = codec::encode_record(1, &entries);
    let mut record = record(2, &plain, &Manifest::default());
    record.entries = 1_000_000;
    push.head.release = record.sign(&key(PUBLISHER));
    let failure = scene.refuses("too many entries", &push).await;
    assert_eq!(failure.kind.as_str(), "refused", "{failure:?}");
    assert!(failure.message.as_str().contains("1000001"), "{failure:?}");
}
