//! Who may connect, and who may no more.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use codevol_peer::{NOT_ENROLLED, REPLACED, REVOKED, closed, dial, key};
use codevol_protocol::call::{Call, Reply};
use codevol_source::identity::Identity;
use codevol_transport::CloseCode;

use crate::host::Host;
use crate::member::Member;

const NODE: u8 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_enrolled_is_closed_before_any_stream() {
    let mut host = Host::begin().await;
    let stranger = dial(host.at, &key(NODE), "codevol/1").await;
    assert_eq!(closed(&stranger, "stranger").await, NOT_ENROLLED);
    // Strangers are no line of the journal.
    let journal = fs::read_to_string(host.state().join("journal/journal.jsonl")).unwrap();
    assert!(
        !journal.contains("stranger") && !journal.contains("close"),
        "{journal}"
    );
    host.survives("stranger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_is_cut_off_within_a_second_and_stays_out() {
    let mut host = Host::begin().await;
    let node = host.member("leaver", &key(NODE)).await;
    let name = "leaver".parse().unwrap();
    let removed = Instant::now();
    let reply = host.call(&Call::RemoveNode { name }).await;
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(node.closed("removed").await, CloseCode::Revoked);
    assert!(
        removed.elapsed() < Duration::from_secs(1),
        "{:?}",
        removed.elapsed()
    );
    assert_eq!(
        u32::from(CloseCode::Revoked),
        u32::try_from(REVOKED).unwrap()
    );
    let again = dial(host.at, &key(NODE), "codevol/1").await;
    assert_eq!(closed(&again, "removed").await, NOT_ENROLLED);
    host.survives("removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_while_it_connects_is_cut_off_too() {
    let mut host = Host::begin().await;
    for round in 0..20_u8 {
        let (name, key) = (format!("n{round}"), key(NODE + round));
        host.enrol(&name, &key).await;
        let name = name.parse().unwrap();
        let remove = Call::RemoveNode { name };
        let dial = dial(host.at, &key, "codevol/1");
        let (connection, reply) = tokio::join!(dial, host.call(&remove));
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
        let code = closed(&connection, "removed").await;
        assert!([NOT_ENROLLED, REVOKED].contains(&code), "{code}");
    }
    host.survives("removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_with_one_key_the_newer_stays_and_turns_are_an_alarm() {
    let mut host = Host::begin().await;
    let mut older = host.member("twin", &key(NODE)).await;
    for turn in 1..=3 {
        let newer = Member::connect(host.at, &host.source_key, &key(NODE), Vec::new()).await;
        let code = older.closed("older").await;
        assert_eq!(u64::from(u32::from(code)), REPLACED, "turn {turn}");
        assert!(newer.is_open());
        older = newer;
        if turn == 1 {
            assert_eq!(host.lines("replaced", "twin"), 0);
        }
    }
    host.noted("turns", ("replaced", "twin"), 1).await;
    older.link.close(CloseCode::Done, "");
    host.survives("turns").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_keys_others_can_read_does_not_start() {
    let host = Host::begin().await;
    for file in ["node.key", "operator.key", "publisher.key"] {
        let file = host.state().join(file);
        fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        assert!(Identity::open(&host.state()).is_err(), "{file:?}");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    assert!(Identity::open(&host.state()).is_ok());
}
