//! Members that break the rules: each loses its own connection, and no other.

use codevol_peer::{VIOLATION, closed, dial, frame, key};
use codevol_protocol::call::Call;
use codevol_protocol::codec;
use codevol_protocol::evidence::Verdict;
use codevol_protocol::hold::{HoldReport, Thawed};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::limits::{
    CONTROL_FRAME_BYTES_MAX, HELD_MAX, HOLD_TEXT_BYTES_MAX, MISSING_MAX,
};
use codevol_protocol::message::{FromAgent, Report, Step};
use codevol_protocol::name::Text;
use codevol_protocol::release::UnixMillis;
use codevol_transport::CloseCode;

use crate::host::Host;
use crate::member::{Member, hello, pipes, report, staged, verified};

const BAD: u8 = 7;

fn length(bytes: usize) -> Vec<u8> {
    u32::try_from(bytes).unwrap().to_le_bytes().to_vec()
}

fn ids(count: usize) -> Vec<ReleaseId> {
    (0..count)
        .map(|n| ReleaseId::of(&n.to_le_bytes()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_stream_that_is_none_closes_that_one_connection() {
    let mut host = Host::begin().await;
    host.enrol("bad", &key(BAD)).await;
    let greeting = frame(&codec::encode(&hello(Vec::new(), None)));
    let message = |message: &FromAgent| frame(&codec::encode(message));
    let x = ReleaseId::of(b"x");
    let cases = [
        ("length 0", length(0), false),
        ("length 2^32-1", vec![0xff; 4], false),
        (
            "a length over the limit",
            length(CONTROL_FRAME_BYTES_MAX + 1),
            false,
        ),
        ("an unknown message", frame(&[99]), false),
        ("noise", frame(&[0xa5; 64]), false),
        (
            "an operator's call",
            frame(&codec::encode(&Call::Nodes)),
            false,
        ),
        (
            "a message before hello",
            message(&report(x, staged())),
            false,
        ),
        (
            "1,025 held",
            message(&hello(ids(HELD_MAX + 1), None)),
            false,
        ),
        (
            "hello cut short",
            greeting[..greeting.len() - 1].to_vec(),
            true,
        ),
        ("hello twice", greeting.repeat(2), false),
        (
            "a report in place of whether it is held",
            [&greeting[..], &message(&report(x, staged()))].concat(),
            false,
        ),
        (
            "bytes behind hello",
            [&greeting[..], &[1, 0]].concat(),
            true,
        ),
        (
            "length 0 behind hello",
            [&greeting[..], &length(0)].concat(),
            false,
        ),
        ("nothing but an end", Vec::new(), true),
    ];
    for (done, (what, bytes, ends)) in (1..).zip(cases) {
        let connection = dial(host.at, &key(BAD), "codevol/1").await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        if bytes.is_empty() {
            // A stream of which nothing was sent is not noticed but by its end.
            send.finish().unwrap();
        }
        drop(send.write_all(&bytes).await);
        if ends {
            drop(send.finish());
        }
        assert_eq!(closed(&connection, what).await, VIOLATION, "{what}");
        host.noted(what, ("violation", "bad"), done).await;
        host.survives(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_closes_that_one_connection() {
    let mut host = Host::begin().await;
    host.enrol("bad", &key(BAD)).await;
    let nowhere = ReleaseId::of(b"never pushed");
    let volume = pipes();
    let elsewhere = FromAgent::Report(Report {
        volume: "lake".parse().unwrap(),
        release: nowhere,
        step: staged(),
    });
    let report_of = |volume: &str, why: String| HoldReport {
        volume: volume.parse().unwrap(),
        hold: None,
        thawed: Some(Thawed {
            why: Text::cut(why),
            by: Text::default(),
            at: UnixMillis(0),
        }),
    };
    let elsewhere_held = FromAgent::Hold(report_of("lake", String::new()));
    let for_ever = FromAgent::Hold(report_of("pipes", "x".repeat(HOLD_TEXT_BYTES_MAX + 1)));
    let unasked = FromAgent::Records {
        volume: volume.clone(),
        records: Vec::new(),
    };
    let held = FromAgent::Held {
        volume: volume.clone(),
        added: vec![nowhere],
        removed: Vec::new(),
    };
    let missing = FromAgent::Missing {
        volume,
        release: nowhere,
        blobs: Vec::new(),
    };
    let cases = [
        ("a release never pushed", report(nowhere, staged())),
        ("another volume", elsewhere),
        ("held, but never pushed", held),
        ("whether it is held, twice", FromAgent::Holds(Vec::new())),
        ("another volume's hold", elsewhere_held),
        ("a reason without end", for_ever),
        ("records that nobody asked for", unasked),
    ];
    for (done, (what, message)) in (1..).zip(cases) {
        let mut bad = Member::connect(host.at, &host.source_key, &key(BAD), Vec::new()).await;
        bad.say(&message).await;
        assert_eq!(bad.closed(what).await, CloseCode::Violation, "{what}");
        host.noted(what, ("violation", "bad"), done).await;
        host.survives(what).await;
    }
    // It may hold releases that its hello did not name. This one nobody has: nothing comes of it.
    let mut bad = Member::connect(host.at, &host.source_key, &key(BAD), Vec::new()).await;
    for _ in 0..100 {
        bad.say(&missing).await;
    }
    host.survives("missing, but never pushed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_is_not_activated_before_it_is_staged() {
    let mut host = Host::begin().await;
    let cases = [
        ("activated", Step::Activated { elapsed_us: 1 }),
        ("verified", verified(Verdict::Broken)),
    ];
    for (seed, (what, step)) in (BAD..).zip(cases) {
        let mut bad = host.member(what, &key(seed)).await;
        let (head, _) = bad.receives().await;
        bad.say(&report(head.release.id(), step)).await;
        assert_eq!(bad.closed(what).await, CloseCode::Violation, "{what}");
        host.noted(what, ("violation", what), 1).await;
        host.survives(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_missing_blobs_over_its_limit_closes_that_one_connection() {
    let mut host = Host::begin().await;
    let mut bad = host.member("bad", &key(BAD)).await;
    let (head, _) = bad.receives().await;
    let blobs = vec![BlobId::of(b""); MISSING_MAX + 1];
    let (volume, release) = (pipes(), head.release.id());
    bad.say(&FromAgent::Missing {
        volume,
        release,
        blobs,
    })
    .await;
    assert_eq!(bad.closed("missing").await, CloseCode::Violation);
    host.noted("missing", ("violation", "bad"), 1).await;
    host.survives("missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_says_hello_is_closed() {
    let mut host = Host::begin().await;
    host.enrol("bad", &key(BAD)).await;
    host.enrol("worse", &key(BAD + 1)).await;
    let silent = dial(host.at, &key(BAD), "codevol/1").await;
    let halting = dial(host.at, &key(BAD + 1), "codevol/1").await;
    let (mut send, _receive) = halting.open_bi().await.unwrap();
    send.write_all(&[200, 0]).await.unwrap();
    // Meanwhile the others go on.
    host.survives("mute").await;
    assert_eq!(closed(&silent, "mute").await, VIOLATION);
    assert_eq!(closed(&halting, "halting").await, VIOLATION);
    host.noted("mute", ("violation", "bad"), 1).await;
    host.noted("halting", ("violation", "worse"), 1).await;
    host.survives("closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_opens_streams_without_end_and_reads_nothing_harms_nobody() {
    let mut host = Host::begin().await;
    host.enrol("bad", &key(BAD)).await;
    let connection = dial(host.at, &key(BAD), "codevol/1").await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let greeting = frame(&codec::encode(&hello(Vec::new(), None)));
    send.write_all(&greeting).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut push = connection.open_uni().await.unwrap();
        push.write_all(&vec![0xff; 64 << 10]).await.unwrap();
        open.push(push);
    }
    // It is a member of this rollout, and says nothing of it; the others do not wait for it longer
    // than until it goes.
    drop((open, receive));
    connection.close(quinn::VarInt::from_u32(0), b"");
    host.survives("streams").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_without_end_does_not_wedge_the_fleet() {
    let mut host = Host::begin().await;
    let mut bad = host.member("bad", &key(BAD)).await;
    let (head, _) = bad.receives().await;
    let (volume, release) = (pipes(), head.release.id());
    let blobs = vec![BlobId::of(b"kept")];
    let missing = FromAgent::Missing {
        volume,
        release,
        blobs,
    };
    for _ in 0..2_000 {
        bad.say(&missing).await;
    }
    host.noted("asking", ("stage", "bad"), 1).await;
    bad.link.close(CloseCode::Done, "");
    host.survives("asking").await;
}
