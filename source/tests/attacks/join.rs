//! Joiners with the wrong token, at the wrong door, or too late.

use codevol_peer::{NOT_ENROLLED, VIOLATION, closed, dial, frame, key, within};
use codevol_protocol::codec;
use codevol_protocol::message::{Join, JoinReply, MINOR};
use codevol_protocol::name::Text;
use codevol_protocol::token::{Token, TokenSecret};
use codevol_transport::{Alpn, CloseCode};

use crate::host::{Host, join};
use crate::member::hello;

const JOINER: u8 = 7;

fn call(token: &Token) -> Join {
    Join {
        minor: MINOR,
        token: token.id,
        secret: token.secret.clone(),
        name: None,
        host: Text::cut("host"),
        volume: None,
    }
}

async fn is_refused(host: &Host, token: &Token, name: Option<&str>, why: &str) {
    let reply = join(host.at, &key(JOINER), token, name).await.unwrap();
    let JoinReply::Refused(said) = reply else {
        panic!("{why}: {reply:?}");
    };
    assert!(said.as_str().contains(why), "{said:?}");
    is_no_member(host).await;
}

async fn is_no_member(host: &Host) {
    let connection = dial(host.at, &key(JOINER), "codevol/1").await;
    assert_eq!(closed(&connection, "no member").await, NOT_ENROLLED);
}

/// The token with one bit of its secret changed.
fn one_bit_off(token: &Token) -> Token {
    let mut secret = token.secret.0;
    secret[15] ^= 1;
    Token {
        secret: TokenSecret(secret),
        ..token.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_five_times_burns_the_token() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    for _ in 0..5 {
        is_refused(&host, &one_bit_off(&token), None, "is wrong").await;
    }
    is_refused(&host, &token, None, "burnt").await;
    host.survives("burnt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_key_in_and_that_one_again() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    let first = key(JOINER + 1);
    for _ in 0..2 {
        let reply = join(host.at, &first, &token, None).await.unwrap();
        assert!(matches!(reply, JoinReply::Welcome(_)), "{reply:?}");
    }
    is_refused(&host, &token, None, "used").await;
    host.survives("used").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_or_that_there_never_was_lets_nobody_in() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 0).await;
    is_refused(&host, &token, None, "expired").await;
    let token = host.invite("dag-02", 600).await;
    let unknown = Token {
        id: codevol_protocol::token::TokenId([9; 8]),
        ..token
    };
    is_refused(&host, &unknown, None, "not known").await;
    host.survives("expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_one_name() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    is_refused(&host, &token, Some("good"), "is for `dag-01`").await;
    is_refused(&host, &token, Some("dag-02"), "is for `dag-01`").await;
    host.survives("another name").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_shown_to_another_server_is_not_sent() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    let dialer = codevol_transport::Dialer::new(&key(JOINER));
    let other = key(JOINER + 1).public();
    let at = host.at.to_string();
    let dialled = dialer.dial(&at, Alpn::Join, &other, std::time::Duration::from_secs(20));
    let error = dialled.await.unwrap_err();
    assert!(
        matches!(error, codevol_transport::DialError::WrongKey { .. }),
        "{error:?}"
    );
    let reply = join(host.at, &key(JOINER), &token, None).await.unwrap();
    assert!(matches!(reply, JoinReply::Welcome(_)), "{reply:?}");
    host.survives("unspent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_good_at_its_own_door_alone() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    // A stranger with a good token at the members' door.
    let link = host.dial(&key(JOINER), Alpn::Node).await;
    if let Ok((mut writer, _reader)) = link.open_control().await {
        drop(writer.write(&call(&token)).await);
    }
    let reason = within("node door", link.closed()).await;
    assert_eq!(reason.code(), Some(CloseCode::NotEnrolled));
    // A member with a token there.
    host.enrol("member", &key(JOINER + 1)).await;
    let link = host.dial(&key(JOINER + 1), Alpn::Node).await;
    let (mut writer, _reader) = link.open_control().await.unwrap();
    drop(writer.write(&call(&token)).await);
    let reason = within("node door", link.closed()).await;
    assert_eq!(reason.code(), Some(CloseCode::Violation));
    host.noted("a token", ("violation", "member"), 1).await;
    // A member's hello at the joiners' door.
    let connection = dial(host.at, &key(JOINER + 1), "codevol-join/1").await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let greeting = frame(&codec::encode(&hello(Vec::new(), None)));
    send.write_all(&greeting).await.unwrap();
    assert_eq!(closed(&connection, "join door").await, VIOLATION);
    // The token was not spent on any of it.
    let reply = join(host.at, &key(JOINER), &token, None).await.unwrap();
    assert!(matches!(reply, JoinReply::Welcome(_)), "{reply:?}");
    host.survives("doors").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_none_lets_nobody_in() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    let good = frame(&codec::encode(&call(&token)));
    let cases = [
        ("length 0", vec![0; 4], false),
        ("length 2^32-1", vec![0xff; 4], false),
        ("noise", frame(&[0xa5; 64]), false),
        ("cut short", good[..good.len() - 1].to_vec(), true),
        ("silence", Vec::new(), false),
    ];
    for (what, bytes, ends) in cases {
        let connection = dial(host.at, &key(JOINER), "codevol-join/1").await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        drop(send.write_all(&bytes).await);
        if ends {
            send.finish().unwrap();
        }
        assert_eq!(closed(&connection, what).await, VIOLATION, "{what}");
        is_no_member(&host).await;
    }
    host.survives("no call").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cut_at_any_byte_lets_nobody_in_and_spends_nothing() {
    let mut host = Host::begin().await;
    let token = host.invite("dag-01", 600).await;
    let good = frame(&codec::encode(&call(&token)));
    for cut in 1..good.len() {
        let connection = dial(host.at, &key(JOINER), "codevol-join/1").await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&good[..cut]).await.unwrap();
        send.finish().unwrap();
        assert_eq!(closed(&connection, "cut").await, VIOLATION, "{cut}");
    }
    is_no_member(&host).await;
    let reply = join(host.at, &key(JOINER), &token, None).await.unwrap();
    assert!(matches!(reply, JoinReply::Welcome(_)), "{reply:?}");
    host.survives("cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_there_is_told_from_a_token_that_is_bad() {
    let host = Host::begin().await;
    let token = host.invite("new", 600).await;
    let asks = async |minor| {
        let key = key(9);
        let link = host.dial(&key, Alpn::Join).await;
        let (mut writer, mut reader) = link.open_control().await.unwrap();
        let call = Join {
            minor,
            token: token.id,
            secret: token.secret.clone(),
            name: None,
            host: Text::cut("host"),
            volume: Some("nope".parse().unwrap()),
        };
        writer.write(&call).await.unwrap();
        within("join", reader.read::<JoinReply>()).await.unwrap()
    };
    let why = Text::cut("the source has no volume `nope`");
    assert_eq!(
        asks(MINOR).await,
        Some(JoinReply::RefusedVolume(why.clone()))
    );
    // What the joiner does not know is not said to it.
    assert_eq!(asks(0).await, Some(JoinReply::Refused(why)));
    // And the token still works.
    let joined = join(host.at, &key(9), &token, None).await.unwrap();
    assert!(matches!(joined, JoinReply::Welcome(_)), "{joined:?}");
}
