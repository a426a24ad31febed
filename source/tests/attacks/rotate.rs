//! Another key for a node: at no step without one, at the end with only the new one.

use codevol_peer::{NOT_ENROLLED, closed, dial, key};
use codevol_protocol::key::SecretKey;
use codevol_protocol::message::{FromAgent, FromSource};
use codevol_transport::CloseCode;

use crate::host::Host;
use crate::member::Member;

const OLD: u8 = 7;
const NEW: u8 = 8;

async fn connect(host: &Host, seed: u8) -> Member {
    Member::connect(host.at, &host.source_key, &key(seed), Vec::new()).await
}

/// Announces a key, and returns why it is not taken.
async fn announce(member: &mut Member, next: &SecretKey) -> Option<String> {
    let key = next.public();
    member.say(&FromAgent::Rotate { key }).await;
    let is_answer = |said: &FromSource| matches!(said, FromSource::Rotating { .. });
    let FromSource::Rotating {
        key: named,
        refused,
    } = member.hears(is_answer).await
    else {
        unreachable!("it was looked for");
    };
    assert_eq!(named, key);
    refused.map(String::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_at_any_step_comes_back_and_its_old_key_does_not() {
    let mut host = Host::begin().await;
    let mut node = host.member("node", &key(OLD)).await;
    assert_eq!(announce(&mut node, &key(NEW)).await, None);
    // It dies before it dials by the new one, and knows nothing of it any more.
    drop(node);
    let mut node = connect(&host, OLD).await;
    // It says it once more, and dies before it hears the answer.
    node.say(&FromAgent::Rotate {
        key: key(NEW).public(),
    })
    .await;
    drop(node);
    let mut node = connect(&host, OLD).await;
    assert_eq!(announce(&mut node, &key(NEW)).await, None);
    let other = connect(&host, NEW).await;
    // The older link of the same node is replaced, and its key is nobody's.
    assert_eq!(node.closed("replaced").await, CloseCode::Replaced);
    let old = dial(host.at, &key(OLD), "codevol/1").await;
    assert_eq!(closed(&old, "old key").await, NOT_ENROLLED);
    drop(other);
    let node = connect(&host, NEW).await;
    assert!(node.is_open());
    host.survives("rotated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_anothers_is_not_taken_and_nothing_changes() {
    let mut host = Host::begin().await;
    let _other = host.member("other", &key(NEW)).await;
    let mut node = host.member("node", &key(OLD)).await;
    for taken in [NEW, OLD] {
        let why = announce(&mut node, &key(taken)).await;
        assert_eq!(why.as_deref(), Some("that key is enrolled already"));
    }
    assert!(node.is_open());
    drop(node);
    let node = connect(&host, OLD).await;
    assert!(node.is_open());
    host.survives("taken").await;
}
