//! Two nodes on loopback: what a good pair can do, and how links end.

use std::net::SocketAddr;
use std::time::Duration;

use codevol_protocol::key::{PublicKey, SecretKey};

use crate::quic::{PUSH_WINDOW_BYTES, PUSHES_MAX};
use crate::{Alpn, CloseCode, CloseReason, DialError, Dialer, FrameError, Link, Listener, Peer};

mod refusals;
mod restart;

const DEADLINE: Duration = Duration::from_secs(20);
const RESET_KEY: [u8; 32] = [7; 32];

fn source_key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn agent_key() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

fn listen() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), &source_key(), &RESET_KEY).unwrap()
}

async fn dial(addr: SocketAddr, alpn: Alpn, pinned: &PublicKey) -> Result<Link, DialError> {
    let dialer = Dialer::new(&agent_key());
    dialer.dial(&addr.to_string(), alpn, pinned, DEADLINE).await
}

async fn accept(listener: &Listener) -> Peer {
    let pending = listener.accept().await.unwrap();
    pending.handshake(DEADLINE).await.unwrap()
}

async fn pair_on(listener: &Listener, alpn: Alpn) -> (Link, Peer) {
    let addr = listener.local_addr().unwrap();
    let pinned = source_key().public();
    let (link, peer) = tokio::join!(dial(addr, alpn, &pinned), accept(listener));
    (link.unwrap(), peer)
}

async fn pair() -> (Link, Peer, Listener) {
    let listener = listen();
    let (link, peer) = pair_on(&listener, Alpn::Node).await;
    (link, peer, listener)
}

#[tokio::test]
async fn messages_go_both_ways_and_each_side_knows_the_key_of_the_other() {
    let (agent, source, _listener) = pair().await;
    assert_eq!(source.key, agent_key().public());
    assert_eq!(source.link.remote_key(), agent_key().public());
    assert_eq!(agent.remote_key(), source_key().public());
    assert_eq!(source.alpn, Alpn::Node);

    let (mut to_source, mut from_source) = agent.open_control().await.unwrap();
    to_source.write(&("hello", 7_u32)).await.unwrap();
    let (mut to_agent, mut from_agent) = source.link.accept_control().await.unwrap();
    let hello = from_agent.read::<(String, u32)>().await.unwrap();
    assert_eq!(hello, Some(("hello".to_owned(), 7)));
    to_agent.write(&"welcome").await.unwrap();
    to_agent.finish().await.unwrap();
    let welcome = from_source.read::<String>().await.unwrap();
    assert_eq!(welcome.as_deref(), Some("welcome"));
    assert_eq!(from_source.read::<String>().await.unwrap(), None);
    let (sent, received) = agent.udp_bytes();
    assert!(sent > 0 && received > 0);
}

#[tokio::test]
async fn the_join_protocol_is_told_apart_from_the_node_protocol() {
    let listener = listen();
    let (_link, peer) = pair_on(&listener, Alpn::Join).await;
    assert_eq!(peer.alpn, Alpn::Join);
}

#[tokio::test]
async fn a_name_that_resolves_to_a_dead_address_first_still_leads_to_the_listener() {
    // `localhost` is `::1` and `127.0.0.1` in whatever order; only the second one listens.
    let listener = listen();
    let port = listener.local_addr().unwrap().port();
    let pinned = source_key().public();
    let dialer = Dialer::new(&agent_key());
    let host_port = format!("localhost:{port}");
    let (link, _peer) = tokio::join!(
        dialer.dial(&host_port, Alpn::Node, &pinned, DEADLINE),
        accept(&listener),
    );
    assert_eq!(link.unwrap().remote_key(), pinned);
}

#[tokio::test]
async fn a_push_of_many_large_frames_arrives_whole() {
    let (agent, source, _listener) = pair().await;
    let frames: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 3 << 20]).collect();
    let push = async {
        let mut push = source.link.open_push().await.unwrap();
        push.write(&"head").await.unwrap();
        for frame in &frames {
            push.write_bytes(frame).await.unwrap();
        }
        push.finish().await.unwrap();
    };
    let receive = async {
        let mut push = agent.accept_push().await.unwrap();
        let head = push.read::<String>().await.unwrap();
        assert_eq!(head.as_deref(), Some("head"));
        let mut received = Vec::new();
        while let Some(frame) = push.read_bytes().await.unwrap() {
            received.push(frame);
        }
        received
    };
    let ((), received) = tokio::join!(push, receive);
    assert!(received == frames, "the bytes differ");
}

#[tokio::test]
async fn a_push_that_is_dropped_between_frames_is_a_reset_and_not_an_end() {
    let (agent, source, _listener) = pair().await;
    let mut push = source.link.open_push().await.unwrap();
    push.write_bytes(b"one of two").await.unwrap();
    let mut received = agent.accept_push().await.unwrap();
    assert_eq!(
        received.read_bytes().await.unwrap().as_deref(),
        Some(&b"one of two"[..])
    );
    push.reset();
    assert!(matches!(
        received.read_bytes().await,
        Err(FrameError::Reset)
    ));
    // The link itself lives on.
    let mut next = source.link.open_push().await.unwrap();
    next.write_bytes(b"newer").await.unwrap();
    next.finish().await.unwrap();
    let mut received = agent.accept_push().await.unwrap();
    assert_eq!(
        received.read_bytes().await.unwrap().as_deref(),
        Some(&b"newer"[..])
    );
    assert_eq!(received.read_bytes().await.unwrap(), None);
}

#[tokio::test]
async fn a_control_message_passes_by_as_many_unread_pushes_as_there_may_be() {
    let (agent, source, _listener) = pair().await;
    let (mut writer, mut reader) = agent.open_control().await.unwrap();
    writer.write(&"hello").await.unwrap();
    let (mut to_agent, _from_agent) = source.link.accept_control().await.unwrap();
    // Each frame, with its length before it, fills the window of its stream to the last byte.
    let body = vec![0; usize::try_from(PUSH_WINDOW_BYTES).unwrap() - 4];
    let mut pushes = Vec::new();
    for _ in 0..PUSHES_MAX {
        let mut push = source.link.open_push().await.unwrap();
        push.write_bytes(&body).await.unwrap();
        pushes.push(push);
    }
    to_agent.write(&"activate").await.unwrap();
    let message = reader.read::<String>().await.unwrap();
    assert_eq!(message.as_deref(), Some("activate"));
}

#[tokio::test]
async fn a_push_that_the_receiver_gives_up_fails_for_the_sender() {
    let (agent, source, _listener) = pair().await;
    let mut push = source.link.open_push().await.unwrap();
    push.write_bytes(b"head").await.unwrap();
    drop(agent.accept_push().await.unwrap());
    let error = loop {
        // More than the window: without the stop this would wait for ever.
        if let Err(error) = push.write_bytes(&[0; 1 << 20]).await {
            break error;
        }
    };
    assert!(matches!(error, FrameError::Reset), "{error:?}");
}

#[tokio::test]
async fn a_close_code_and_its_reason_reach_the_other_side_wherever_it_waits() {
    let (agent, source, _listener) = pair().await;
    let (mut writer, mut reader) = agent.open_control().await.unwrap();
    writer.write(&"hello").await.unwrap();
    source.link.close(CloseCode::NotEnrolled, "who are you");
    let reason = CloseReason::Peer {
        code: CloseCode::NotEnrolled,
        reason: "who are you".to_owned(),
    };
    assert_eq!(agent.closed().await, reason);
    assert_eq!(agent.close_reason(), Some(reason.clone()));
    assert_eq!(agent.accept_push().await.err(), Some(reason.clone()));
    match reader.read::<String>().await {
        Err(FrameError::Closed(found)) => assert_eq!(found, reason),
        other => panic!("{other:?}"),
    }
    assert_eq!(source.link.closed().await, CloseReason::Local);
}

#[tokio::test]
async fn a_link_that_is_dropped_ends_for_the_other_side_as_done() {
    let (agent, source, _listener) = pair().await;
    drop(agent);
    assert_eq!(source.link.closed().await.code(), Some(CloseCode::Done));
}

#[tokio::test]
async fn a_dialled_link_that_is_closed_waits_until_the_peer_was_told() {
    let (agent, source, _listener) = pair().await;
    agent.close(CloseCode::Violation, "");
    agent.drained().await;
    assert_eq!(
        source.link.closed().await.code(),
        Some(CloseCode::Violation)
    );
}

#[tokio::test]
async fn a_listener_that_closes_tells_every_peer_and_accepts_no_more() {
    let (agent, _source, listener) = pair().await;
    tokio::time::timeout(DEADLINE, listener.close())
        .await
        .unwrap();
    assert_eq!(agent.closed().await.code(), Some(CloseCode::Shutdown));
    assert!(listener.accept().await.is_none());
}

#[tokio::test]
async fn a_small_push_and_its_answer_on_a_warm_link_stay_within_the_byte_budget() {
    let (agent, source, _listener) = pair().await;
    let (mut to_source, _from_source) = agent.open_control().await.unwrap();
    to_source.write(&"hello").await.unwrap();
    let (_to_agent, mut from_agent) = source.link.accept_control().await.unwrap();
    from_agent.read::<String>().await.unwrap();
    let mut spent = Vec::new();
    // The search for the path's MTU spends its own bytes in the first rounds.
    while spent.len() < 50 && spent.last().is_none_or(|bytes| *bytes >= BUDGET) {
        let before = agent.udp_bytes();
        let mut push = source.link.open_push().await.unwrap();
        push.write_bytes(&[1; 400]).await.unwrap();
        push.finish().await.unwrap();
        let mut push = agent.accept_push().await.unwrap();
        while push.read_bytes().await.unwrap().is_some() {}
        to_source.write(&[2_u8; 32]).await.unwrap();
        from_agent.read::<[u8; 32]>().await.unwrap();
        let after = agent.udp_bytes();
        spent.push(after.0 - before.0 + after.1 - before.1);
    }
    assert!(
        spent.last().is_some_and(|bytes| *bytes < BUDGET),
        "{spent:?}"
    );
}

/// What remains of the 1.2 KB of a one-line edit for frames, acknowledgements and headers, where
/// record, patch and answers are 432 bytes.
const BUDGET: u64 = 700;

#[tokio::test]
async fn what_links_have_carried_only_grows_and_outlives_them() {
    let traffic = crate::Traffic::default();
    let (agent, source, listener) = pair().await;
    let counted = traffic.enter(&source.link);
    let first = traffic.total();
    assert!(first.sent > 0 && first.received > 0, "{first:?}");
    let (mut writer, _reader) = agent.open_control().await.unwrap();
    writer.write(&vec![7_u8; 10_000]).await.unwrap();
    let (_writer, mut reader) = source.link.accept_control().await.unwrap();
    reader.read::<Vec<u8>>().await.unwrap();
    let second = traffic.total();
    assert!(second.received >= first.received + 10_000, "{second:?}");

    // A newer one of the same node, while the older one is still there.
    let (_newer_agent, newer) = pair_on(&listener, Alpn::Node).await;
    let newer_counted = traffic.enter(&newer.link);
    assert!(newer.link.rtt() > Duration::ZERO);
    let newest = traffic.newest().unwrap().remote_address();
    assert_eq!(newest, newer.remote);
    let third = traffic.total();
    assert!(third.sent > second.sent, "{third:?}");
    drop((counted, newer_counted));
    assert!(traffic.newest().is_none());
    let last = traffic.total();
    assert!(last.sent >= third.sent && last.received >= third.received);
}
