//! Streams that break the rules, or never end.

use codevol_peer::{VIOLATION, frame, within};
use codevol_protocol::codec;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::{CONTROL_FRAME_BYTES_MAX, PUSH_FRAME_BYTES_MAX};
use codevol_protocol::message::{FromSource, Step};
use quinn::VarInt;
use tokio::task::JoinSet;

use crate::craft::{Crafted, lake, pipes};
use crate::node::Node;
use crate::scene::{Answer, Scene, files_at};
use crate::wire::{Source, source_hello};

/// What goes over a stream in the place of what should.
type Bytes = Vec<u8>;

/// Makes them out of the release that is to come and the live one.
type Make = Box<dyn Fn(&Crafted, &Crafted) -> Bytes + Send>;

fn length(bytes: usize) -> Bytes {
    u32::try_from(bytes).unwrap().to_le_bytes().to_vec()
}

async fn each_breach_on_the_control_stream_closes(cases: Vec<(&'static str, Bytes)>) {
    let mut scenes = JoinSet::new();
    for (what, bytes) in cases {
        scenes.spawn(async move {
            let mut scene = Scene::begin().await;
            scene.link.say_bytes(&bytes).await;
            scene.closes(what).await;
        });
    }
    while let Some(done) = scenes.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_frame_that_is_none_closes_the_link() {
    let activate = codec::encode(&FromSource::Activate {
        volume: pipes(),
        release: ReleaseId::of(b"x"),
    });
    each_breach_on_the_control_stream_closes(vec![
        ("length 0", length(0)),
        ("length 2^32-1", vec![0xff; 4]),
        (
            "a length over the limit",
            length(CONTROL_FRAME_BYTES_MAX + 1),
        ),
        ("an unknown message", frame(&[99])),
        ("noise", frame(&[0xa5; 64])),
        (
            "a message cut short",
            frame(&activate[..activate.len() - 1]),
        ),
        (
            "bytes behind a message",
            frame(&[&activate[..], &[0]].concat()),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_at_the_wrong_time_closes_the_link() {
    let elsewhere = FromSource::Activate {
        volume: lake(),
        release: ReleaseId::of(b"x"),
    };
    each_breach_on_the_control_stream_closes(vec![
        ("hello twice", frame(&codec::encode(&source_hello()))),
        ("an unknown volume", frame(&codec::encode(&elsewhere))),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_before_hello_closes_the_link() {
    let source = Source::bind();
    let node = Node::start(source.addr(), tempfile::tempdir().unwrap());
    let mut link = source.accept().await;
    let volume = pipes();
    link.say(&FromSource::Live {
        volume,
        live: None,
        head: None,
    })
    .await;
    assert_eq!(link.closed("before hello").await, VIOLATION);
    source.accept().await.greet().await;
    assert!(matches!(
        node.call(&codevol_protocol::call::Call::Status).await,
        codevol_protocol::call::Reply::Status(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_stream_that_ends_within_a_message_closes_the_link() {
    let mut scene = Scene::begin().await;
    scene.link.say_bytes(&[9, 0, 0, 0, 1]).await;
    scene.link.send.finish().unwrap();
    scene.closes("cut").await;
}

/// Each of these goes over a push stream that then ends.
async fn each_breach_on_a_push_stream_closes(cases: Vec<(String, Make)>) {
    let mut scenes = JoinSet::new();
    for (what, bytes) in cases {
        scenes.spawn(async move {
            let mut scene = Scene::begin().await;
            let next = files_at(2, "broken off");
            let bytes = bytes(&next, &scene.live);
            scene.link.push_bytes(&bytes).await;
            scene.closes(&what).await;
        });
    }
    while let Some(done) = scenes.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_none_closes_the_link() {
    let fixed = |what: &str, bytes: Bytes| {
        let make: Make = Box::new(move |_, _| bytes.clone());
        (what.to_owned(), make)
    };
    each_breach_on_a_push_stream_closes(vec![
        fixed("nothing at all", Vec::new()),
        fixed("length 0", length(0)),
        fixed("length 2^32-1", vec![0xff; 4]),
        fixed("a length over the limit", length(PUSH_FRAME_BYTES_MAX + 1)),
        fixed("noise", frame(&[0xa5; 64])),
        (
            "a length of 0 in the place of a piece".to_owned(),
            Box::new(|next, live| {
                let frames = next.push(Some(live)).frames();
                [frame(&frames[0]), frame(&frames[1]), length(0)].concat()
            }),
        ),
        (
            "a piece too many".to_owned(),
            Box::new(|next, live| {
                let push = next.push(Some(live));
                [push.bytes(), frame(&push.pieces[0])].concat()
            }),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_ends_anywhere_before_its_end_closes_the_link() {
    // At each frame's beginning, within its length, behind that, within it and before its last byte.
    let push = files_at(2, "broken off").push(Some(&crate::scene::files("one")));
    let mut cuts = Vec::new();
    let mut start = 0;
    for bytes in push.frames() {
        let end = start + 4 + bytes.len();
        cuts.extend([start, start + 2, start + 4, start + 5, end - 1]);
        start = end;
    }
    let cases = cuts.into_iter().map(|cut| {
        let make: Make = Box::new(move |next, live| next.push(Some(live)).bytes()[..cut].to_vec());
        (format!("cut at byte {cut}"), make)
    });
    each_breach_on_a_push_stream_closes(cases.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_reset_at_any_byte_harms_nothing() {
    let mut scene = Scene::begin().await;
    let next = files_at(2, "given up");
    let bytes = next.push(Some(&scene.live)).bytes();
    for cut in 1..bytes.len() {
        let mut stream = scene.link.push_open(&bytes[..cut]).await;
        drop(stream.reset(VarInt::from_u32(0)));
    }
    scene.is_unharmed("reset").await;
    scene.link.push_bytes(&bytes).await;
    scene.goes_live(next, "whole").await;
    assert!(scene.node.lines("violation").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_staged_is_not_activated() {
    let mut scene = Scene::begin().await;
    let nowhere = ReleaseId::of(b"nowhere");
    scene.activate(nowhere).await;
    let failed = |step: &Step| matches!(step, Step::ActivateFailed(failure) if failure.retryable);
    scene.step(nowhere, failed).await;
    // Who asked thought that it is here: it is sent once more, if there is one.
    assert!(scene.is_lacking(nowhere).await);
    let (volume, release) = (pipes(), nowhere);
    scene
        .link
        .say(&FromSource::Return { volume, release })
        .await;
    scene.step(nowhere, failed).await;
    assert!(scene.is_lacking(nowhere).await);
    scene.noted("never staged", "failed", 2).await;
    scene.is_unharmed("never staged").await;
    // Nor is one that is here in part.
    let next = files_at(2, "in part");
    let bytes = next.push(Some(&scene.live)).bytes();
    let open = scene.link.push_open(&bytes[..bytes.len() - 3]).await;
    scene.activate(next.id()).await;
    scene.step(next.id(), failed).await;
    scene.is_unharmed("in part").await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_without_end_do_not_wedge_the_agent() {
    let mut scene = Scene::begin().await;
    let order = frame(&codec::encode(&FromSource::Activate {
        volume: pipes(),
        release: ReleaseId::of(b"nowhere"),
    }));
    // Nobody reads the answers meanwhile.
    scene.link.say_bytes(&order.repeat(3_000)).await;
    let last = files_at(2, "last");
    scene.link.push(&last.push(Some(&scene.live))).await;
    let answer = scene.answer(last.id(), "after the flood").await;
    assert!(matches!(answer, Answer::Staged), "{answer:?}");
    scene.activate(last.id()).await;
    scene
        .step(last.id(), |step| matches!(step, Step::Verified(_)))
        .await;
    scene.live = last;
    scene.is_unharmed("the flood").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_stops_between_frames_is_closed_as_too_slow() {
    let mut scene = Scene::begin().await;
    let frames = files_at(2, "stops").push(Some(&scene.live)).frames();
    let open = scene
        .link
        .push_open(&[frame(&frames[0]), frame(&frames[1])].concat())
        .await;
    scene.closes("stopped").await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_trickles_is_closed_as_too_slow() {
    let mut scene = Scene::begin().await;
    let bytes = files_at(2, "trickles").push(Some(&scene.live)).bytes();
    let mut open = scene.link.push_open(&bytes[..1]).await;
    let connection = scene.link.connection.clone();
    let mut rest = bytes[1..].iter().copied();
    let trickle = async {
        loop {
            // What is tested is how long the agent waits: a state to wait for there is none.
            tokio::select! {
                error = connection.closed() => return error,
                () = tokio::time::sleep(std::time::Duration::from_secs(8)) => {}
            }
            drop(open.write_all(&[rest.next().unwrap()]).await);
        }
    };
    within("trickle", trickle).await;
    scene.closes("trickling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_says_hello_is_given_up() {
    let source = Source::bind();
    let node = Node::start(source.addr(), tempfile::tempdir().unwrap());
    let link = source.accept().await;
    link.closed("mute").await;
    source.accept().await.greet().await;
    assert!(matches!(
        node.call(&codevol_protocol::call::Call::Status).await,
        codevol_protocol::call::Reply::Status(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_that_are_announced_without_end_and_do_not_come_do_no_harm() {
    let mut scene = Scene::begin().await;
    for _ in 0..1_000 {
        let volume = pipes();
        scene.link.say(&FromSource::Soon { volume }).await;
    }
    let next = files_at(scene.next(), "two");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "after many announcements").await;
    scene.is_unharmed("after many announcements").await;
    let volume = lake();
    scene.link.say(&FromSource::Soon { volume }).await;
    scene.closes("a release of a volume that is not here").await;
}
