//! A push that was cut short goes on where it was.

use std::fs;

use codevol_peer::{VIOLATION, frame, within};
use codevol_protocol::delta::Position;
use codevol_protocol::message::Partial;
use tokio::time::{Duration, sleep};

use crate::craft::{Crafted, craft};
use crate::scene::Scene;

fn five() -> Crafted {
    let names: Vec<String> = (0..5).map(|n| format!("f{n}.py")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    craft(2, &files)
}

/// Sends the head, the manifest and this many pieces, and waits until they are on the disk.
async fn send_part(scene: &Scene, release: &Crafted, pieces: usize) -> quinn::SendStream {
    let frames = release.push(Some(&scene.live)).frames();
    let part: Vec<u8> = frames[..2 + pieces]
        .iter()
        .flat_map(|bytes| frame(bytes))
        .collect();
    let open = scene.link.push_open(&part).await;
    let blobs = scene.node.root().join(".codevol/incoming");
    let blobs = blobs.join(release.id().to_string()).join("blobs");
    let written = async {
        while fs::read_dir(&blobs).map_or(0, Iterator::count) < pieces {
            sleep(Duration::from_millis(2)).await;
        }
    };
    within("pieces on the disk", written).await;
    open
}

/// What the agent says, when it comes back, that it has in part; it then gets the rest.
async fn goes_on(scene: &mut Scene, release: Crafted, pieces: u64) {
    scene.link = scene.source.accept().await;
    let next = Position {
        entry: pieces,
        segment: 0,
    };
    let partial = Partial {
        release: release.id(),
        next,
    };
    assert_eq!(scene.link.hello.volumes[0].partial, Some(partial));
    scene.link.greet().await;
    let rest = release.push_with(Some(&scene.live), &[], next);
    assert_eq!(rest.pieces.len() as u64, 5 - pieces);
    scene.link.push(&rest).await;
    scene.goes_live(release, "resumed").await;
    // What is whole is in part no more.
    scene.link.connection.close(quinn::VarInt::from_u32(1), b"");
    scene.link = scene.source.accept().await;
    assert_eq!(scene.link.hello.volumes[0].partial, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_link_was_lost() {
    let mut scene = Scene::begin().await;
    let release = five();
    let open = send_part(&scene, &release, 3).await;
    scene.link.connection.close(quinn::VarInt::from_u32(1), b"");
    goes_on(&mut scene, release, 3).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_stream_was_reset_and_the_link_lost() {
    let mut scene = Scene::begin().await;
    let release = five();
    let mut open = send_part(&scene, &release, 2).await;
    open.reset(quinn::VarInt::from_u32(0)).unwrap();
    scene.is_unharmed("reset").await;
    scene.link.connection.close(quinn::VarInt::from_u32(1), b"");
    goes_on(&mut scene, release, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stream_that_ended_early() {
    let mut scene = Scene::begin().await;
    let release = five();
    let mut open = send_part(&scene, &release, 4).await;
    open.finish().unwrap();
    scene.link.closed("cut").await;
    goes_on(&mut scene, release, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_agent_was_started_anew() {
    let mut scene = Scene::begin().await;
    let release = five();
    let open = send_part(&scene, &release, 1).await;
    scene.node.stop().await;
    scene.node.run().unwrap();
    goes_on(&mut scene, release, 1).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_same_link_from_the_beginning_without_harm() {
    let mut scene = Scene::begin().await;
    let release = five();
    let mut open = send_part(&scene, &release, 2).await;
    open.reset(quinn::VarInt::from_u32(0)).unwrap();
    scene.link.push(&release.push(Some(&scene.live))).await;
    scene.goes_live(release, "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_beyond_what_is_there_is_asked_for() {
    let mut scene = Scene::begin().await;
    let release = five();
    for entry in [2, 5] {
        let start = Position { entry, segment: 0 };
        let push = release.push_with(Some(&scene.live), &[], start);
        scene.link.push(&push).await;
        let answer = scene.answer(release.id(), "a gap").await;
        assert!(
            matches!(&answer, crate::scene::Answer::Missing(blobs) if blobs.len() >= 2),
            "{answer:?}"
        );
        scene.is_unharmed("a gap").await;
    }
    let mut push = release.push(Some(&scene.live));
    for entry in [6, u64::MAX] {
        push.head.start = Position { entry, segment: 0 };
        scene.link.push(&push).await;
        assert_eq!(scene.link.closed("beyond").await, VIOLATION);
        scene.link = scene.source.accept().await;
        scene.link.greet().await;
    }
    scene.link.push(&release.push(Some(&scene.live))).await;
    scene.goes_live(release, "the whole").await;
}
