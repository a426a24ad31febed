//! Members that make calls: what their role does not permit, and streams that are no calls.

use codevol_peer::{VIOLATION, closed, dial, frame, key, within};
use codevol_protocol::call::{Call, FailureSort, Opening, Push, Reply};
use codevol_protocol::codec;
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::message::{JoinReply, MINOR};
use codevol_protocol::name::Text;
use codevol_protocol::role::Role;
use codevol_protocol::token::Token;
use codevol_transport::{Alpn, CloseCode, FrameError, Link, LinkReader, LinkWriter};

use crate::host::{Host, join};
use crate::member::Member;

const BAD: u8 = 7;
const OTHER: u8 = 8;

pub(crate) async fn enrol(host: &Host, role: Role, seed: u8) {
    let name = Some(role.as_str().parse().unwrap());
    let ttl_s = 600;
    let invited = host.call(&Call::InviteAs { role, name, ttl_s }).await;
    let Reply::Invited(invited) = invited else {
        panic!("no token");
    };
    let token: Token = invited.token.parse().unwrap();
    assert_eq!(token.role, role);
    let reply = join(host.at, &key(seed), &token, None).await.unwrap();
    assert!(matches!(reply, JoinReply::Member(_)), "{reply:?}");
}

async fn ask(link: &Link, call: &Call) -> Result<Reply, FrameError> {
    let (mut writer, mut reader) = link.open_control().await.map_err(FrameError::Closed)?;
    writer.write(&Opening { minor: MINOR }).await?;
    writer.write(call).await?;
    let reply = within("reply", reader.read::<Reply>()).await?;
    reply.ok_or(FrameError::Truncated)
}

fn push(thaw: bool) -> Call {
    Call::Push(Push {
        volume: None,
        paths: Vec::new(),
        message: Text::default(),
        dry_run: true,
        thaw,
        yes: false,
        wait: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_may_push_and_ask_how_things_stand_and_each_refusal_is_a_line() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Publisher, BAD).await;
    let link = host.dial(&key(BAD), Alpn::Node).await;
    let status = ask(&link, &Call::Status).await.unwrap();
    assert!(matches!(status, Reply::Status(_)), "{status:?}");
    let plan = ask(&link, &push(false)).await.unwrap();
    assert!(matches!(plan, Reply::Plan(_)), "{plan:?}");
    let rollback = Call::Rollback {
        volume: None,
        to: None,
        message: Text::default(),
        wait: false,
    };
    let remove = Call::RemoveNode {
        name: "good".parse().unwrap(),
    };
    let invite = Call::InviteAs {
        role: Role::Operator,
        name: None,
        ttl_s: 600,
    };
    for (done, call) in (1..).zip([rollback, remove, invite, push(true), Call::Nodes]) {
        let what = call.name();
        let Reply::Failed(failure) = ask(&link, &call).await.unwrap() else {
            panic!("{what} was permitted");
        };
        assert_eq!(failure.sort, FailureSort::Denied, "{what}: {failure:?}");
        host.noted(what, ("refused", "publisher"), done).await;
    }
    // It is no agent: nothing is rolled out on it, and nobody waits for it.
    host.survives("a publisher's calls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_every_call_and_none_after_it_was_removed() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Operator, OTHER).await;
    let link = host.dial(&key(OTHER), Alpn::Node).await;
    for call in [Call::Status, Call::Nodes, Call::Health { ready: true }] {
        let reply = ask(&link, &call).await.unwrap();
        assert!(!matches!(reply, Reply::Failed(_)), "{reply:?}");
    }
    // A call that runs: its answer begins, and does not end before the node has staged.
    let (mut writer, mut reader) = link.open_control().await.unwrap();
    writer.write(&Opening { minor: MINOR }).await.unwrap();
    let verify = Call::Verify {
        volume: None,
        deep: false,
    };
    writer.write(&verify).await.unwrap();
    let name = "operator".parse().unwrap();
    let removed = host.call(&Call::RemoveNode { name }).await;
    assert!(matches!(removed, Reply::Done(_)), "{removed:?}");
    let ended = within("the end of a running call", async {
        loop {
            match reader.read::<Reply>().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    let ended = ended.await;
    assert!(
        matches!(&ended, Err(FrameError::Closed(reason)) if reason.code() == Some(CloseCode::Revoked)),
        "{ended:?}"
    );
    let again = host.dial(&key(OTHER), Alpn::Node).await;
    let refused = ask(&again, &Call::Status).await.unwrap_err();
    assert!(
        matches!(&refused, FrameError::Closed(reason) if reason.code() == Some(CloseCode::NotEnrolled)),
        "{refused:?}"
    );
    host.survives("a removed operator").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_makes_a_call_loses_its_connection() {
    let mut host = Host::begin().await;
    host.enrol("bad", &key(BAD)).await;
    let bad = Member::connect(host.at, &host.source_key, &key(BAD), Vec::new()).await;
    // The stream is noticed with its first frame.
    drop(ask(&bad.link, &Call::Nodes).await);
    assert_eq!(bad.closed("a call").await, CloseCode::NotPermitted);
    host.noted("an agent's call", ("refused", "bad"), 1).await;
    host.survives("an agent's call").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_no_call_closes_that_one_connection() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Operator, BAD).await;
    let opening = frame(&codec::encode(&Opening { minor: MINOR }));
    let newer = frame(&codec::encode(&Opening { minor: MINOR + 1 }));
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
    let behind = |bytes: &[u8]| [&opening[..], bytes].concat();
    let call = frame(&codec::encode(&Call::Status));
    let cases = [
        ("length 0", length(0), false),
        ("length 2^32-1", vec![0xff; 4], false),
        (
            "a call over the limit",
            behind(&length(CONTROL_FRAME_BYTES_MAX + 1)),
            false,
        ),
        ("an unknown call", behind(&frame(&[99])), false),
        (
            "a call with something behind it",
            behind(&frame(&[1, 0])),
            false,
        ),
        ("half a call", behind(&call[..call.len() - 1]), true),
        ("an agent's hello", frame(&[0xa5; 64]), false),
    ];
    for (done, (what, bytes, ends)) in (1..).zip(cases) {
        let connection = dial(host.at, &key(BAD), "codevol/1").await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        drop(send.write_all(&bytes).await);
        if ends {
            drop(send.finish());
        }
        assert_eq!(closed(&connection, what).await, VIOLATION, "{what}");
        host.noted(what, ("violation", "operator"), done).await;
    }
    // A call of a later version is no breach: the caller is told.
    let link = host.dial(&key(BAD), Alpn::Node).await;
    let (mut writer, mut reader) = link.open_control().await.unwrap();
    let opening: Opening = codec::decode(&newer[4..]).unwrap();
    writer.write(&opening).await.unwrap();
    writer.write_bytes(&[99]).await.unwrap();
    let reply = within("reply", reader.read::<Reply>()).await.unwrap();
    assert!(
        matches!(&reply, Some(Reply::Failed(failure)) if failure.kind.as_str() == "too-old"),
        "{reply:?}"
    );
    host.survives("streams that are no calls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_call_and_silence_ends_that_one_connection() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Operator, BAD).await;
    let connection = dial(host.at, &key(BAD), "codevol/1").await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let opening = frame(&codec::encode(&Opening { minor: MINOR }));
    send.write_all(&opening).await.unwrap();
    send.write_all(&[200, 0, 0]).await.unwrap();
    assert_eq!(closed(&connection, "silence").await, VIOLATION);
    host.noted("silence", ("violation", "operator"), 1).await;
    host.survives("silence").await;
}

/// Makes a call that is answered until it is hung up, and returns the first word of the answer.
async fn watch(link: &Link) -> (Reply, (LinkWriter, LinkReader)) {
    let (mut writer, mut reader) = link.open_control().await.unwrap();
    writer.write(&Opening { minor: MINOR }).await.unwrap();
    writer.write(&Call::Watch).await.unwrap();
    let reply = within("reply", reader.read::<Reply>()).await.unwrap();
    (reply.unwrap(), (writer, reader))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_together_make_so_many_calls_at_once_and_one_more_is_told_so() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Operator, OTHER).await;
    enrol(&host, Role::Publisher, BAD).await;
    let mut links = Vec::new();
    let mut calls = Vec::new();
    for seed in [OTHER, BAD] {
        for _ in 0..8 {
            let link = host.dial(&key(seed), Alpn::Node).await;
            for _ in 0..4 {
                let (reply, call) = watch(&link).await;
                assert!(
                    matches!(reply, Reply::Status(_)),
                    "{}: {reply:?}",
                    calls.len()
                );
                calls.push(call);
            }
            links.push(link);
        }
    }
    assert_eq!(calls.len(), 64);
    let name = Some("third".parse().unwrap());
    let (role, ttl_s) = (Role::Operator, 600);
    let invited = host.call(&Call::InviteAs { role, name, ttl_s }).await;
    let Reply::Invited(invited) = invited else {
        panic!("no token");
    };
    let third = key(9);
    let token: Token = invited.token.parse().unwrap();
    join(host.at, &third, &token, None).await.unwrap();
    let link = host.dial(&third, Alpn::Node).await;
    let refused = ask(&link, &Call::Status).await.unwrap();
    assert!(
        matches!(&refused, Reply::Failed(failure) if failure.kind.as_str() == "busy"),
        "{refused:?}"
    );
    // A command on the source's own host has places of its own.
    let health = host.call(&Call::Health { ready: true }).await;
    assert_eq!(health, Reply::Healthy);
    drop((calls, links));
    let answered =
        async { while !matches!(ask(&link, &Call::Status).await, Ok(Reply::Status(_))) {} };
    within("a place", answered).await;
    host.survives("64 calls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_has_a_few_connections_with_a_few_streams_and_no_more() {
    let mut host = Host::begin().await;
    enrol(&host, Role::Operator, BAD).await;
    let mut links = Vec::new();
    for n in 0..8 {
        let link = host.dial(&key(BAD), Alpn::Node).await;
        let reply = ask(&link, &Call::Status).await;
        assert!(matches!(reply, Ok(Reply::Status(_))), "{n}: {reply:?}");
        links.push(link);
    }
    let ninth = host.dial(&key(BAD), Alpn::Node).await;
    let closed = within("the ninth", ninth.closed()).await;
    assert_eq!(closed.code(), Some(CloseCode::Busy));
    // Streams that say nothing are opened as far as the transport lets them, and no further.
    let connection = dial(host.at, &key(OTHER), "codevol/1").await;
    drop(connection);
    let link = links.pop().unwrap();
    let mut streams = Vec::new();
    let opened = async {
        loop {
            let (mut writer, reader) = link.open_control().await.unwrap();
            writer.write(&Opening { minor: MINOR }).await.unwrap();
            streams.push((writer, reader));
        }
    };
    let bounded = tokio::time::timeout(std::time::Duration::from_millis(500), opened).await;
    assert!(bounded.is_err());
    assert!(streams.len() <= 8, "{} streams", streams.len());
    // Others are heard all the while.
    let reply = ask(&links[0], &Call::Status).await;
    assert!(matches!(reply, Ok(Reply::Status(_))), "{reply:?}");
    drop(links);
    host.survives("many connections").await;
}
