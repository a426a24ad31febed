//! A release that was found broken is not sent or activated again by itself.

use codevol_peer::key;
use codevol_protocol::evidence::Verdict;
use codevol_protocol::message::{FromSource, Step};

use crate::host::Host;
use crate::member::{Member, report, verification};

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_release_is_not_sent_to_those_who_come_later() {
    let mut host = Host::begin().await;
    let live = *host.good.held.last().unwrap();
    host.publish("broken").await;
    let broken = host.good.stages().await;
    host.good.activates(broken, Verdict::Broken).await;
    host.good
        .hears(|order| matches!(order, FromSource::Return { release, .. } if *release == live))
        .await;
    let returned = Step::Returned(verification(Verdict::Good));
    host.good.say(&report(live, returned)).await;
    // Who holds nothing is sent what is live.
    let mut late = host.member("late", &key(7)).await;
    assert_eq!(late.stages().await, live);
    late.activates(live, Verdict::Good).await;
    // Who comes back with the broken one is not told to activate it.
    let key = key(8);
    host.enrol("held", &key).await;
    let held = vec![live, broken];
    let mut held = Member::connect(host.at, &host.source_key, &key, held).await;
    let order = held
        .hears(|order| {
            matches!(
                order,
                FromSource::Activate { .. } | FromSource::Return { .. }
            )
        })
        .await;
    assert!(
        matches!(order, FromSource::Activate { release, .. } if release == live),
        "{order:?}"
    );
    late.link.close(codevol_transport::CloseCode::Done, "");
    held.link.close(codevol_transport::CloseCode::Done, "");
    host.survives("after the broken one").await;
}
