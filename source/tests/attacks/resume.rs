//! A transfer that was cut short goes on where the agent says; what it says is not trusted.

use codevol_peer::key;
use codevol_protocol::delta::Position;
use codevol_protocol::evidence::Verdict;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{Failure, FromAgent, Partial, Step};

use crate::host::Host;
use crate::member::{Member, pipes, report, staged};

const NODE: u8 = 7;

async fn connect(host: &Host, release: ReleaseId, entry: u64) -> Member {
    let next = Position { entry, segment: 0 };
    let partial = Some(Partial { release, next });
    let said = (Vec::new(), partial);
    Member::connect_with(host.at, &host.source_key, &key(NODE), said).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_begins_where_the_agent_left_off() {
    let mut host = Host::begin().await;
    host.enrol("node", &key(NODE)).await;
    let live = *host.good.held.last().unwrap();
    // Two files: manifest and both, manifest and the second, the manifest alone.
    for (entry, frames) in [(0, 3), (1, 2), (2, 1)] {
        let mut node = connect(&host, live, entry).await;
        let (head, found) = node.receives().await;
        assert_eq!((head.release.id(), head.start.entry), (live, entry));
        assert_eq!(found, frames, "from {entry}");
        node.link.close(codevol_transport::CloseCode::Done, "");
    }
    host.survives("resumed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_harms_nobody() {
    let mut host = Host::begin().await;
    host.enrol("node", &key(NODE)).await;
    let live = *host.good.held.last().unwrap();
    let mut node = connect(&host, live, u64::MAX).await;
    let (head, frames) = node.receives().await;
    assert_eq!((head.release.id(), frames), (live, 1));
    node.link.close(codevol_transport::CloseCode::Done, "");
    // A release that there is not: the live one from its beginning.
    let mut node = connect(&host, ReleaseId::of(b"nowhere"), 1).await;
    let (head, frames) = node.receives().await;
    assert_eq!((head.release.id(), head.start), (live, Position::default()));
    assert_eq!(frames, 3);
    node.link.close(codevol_transport::CloseCode::Done, "");
    host.survives("positions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_the_agent_has_lost_is_not_patched_upon_again() {
    let mut host = Host::begin().await;
    let live = *host.good.held.last().unwrap();
    host.publish("two").await;
    let (head, _) = host.good.receives().await;
    assert_eq!(head.base, Some(live));
    let (volume, release) = (pipes(), head.release.id());
    host.good
        .say(&FromAgent::Held {
            volume,
            added: Vec::new(),
            removed: vec![live],
        })
        .await;
    let failed = Step::StageFailed(Failure::new("refused", "its base is not held"));
    host.good.say(&report(release, failed)).await;
    let (again, frames) = host.good.receives().await;
    assert_eq!((again.release.id(), again.base), (release, None));
    // The manifest and both files.
    assert_eq!(frames, 3);
    host.good.say(&report(release, staged())).await;
    host.good.activates(release, Verdict::Good).await;
    host.good.hears_live(release).await;
    host.survives("whole").await;
}
