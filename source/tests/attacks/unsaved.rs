//! The rollout's state cannot be saved: nothing that follows from it is done or called done, and
//! the source stops, so that what is on the disk decides.

use std::fs;
use std::path::PathBuf;

use codevol_peer::within;
use codevol_protocol::call::{Call, FailureSort, Reply};
use codevol_protocol::evidence::Verdict;
use codevol_protocol::message::FromSource;
use codevol_protocol::name::Text;
use codevol_tests::save;

use crate::follow::follow;
use crate::host::Host;
use crate::member::{report, staged};

fn register(host: &Host) -> PathBuf {
    host.state().join("volumes/pipes/rollout")
}

fn aside(host: &Host) -> PathBuf {
    host.state().join("rollout")
}

/// No file can take the place of a directory, whoever the user is.
fn break_register(host: &Host) {
    fs::rename(register(host), aside(host)).unwrap();
    fs::create_dir(register(host)).unwrap();
}

/// The cause is gone.
async fn mend_and_restart(host: &mut Host) {
    fs::remove_dir(register(host)).unwrap();
    fs::rename(aside(host), register(host)).unwrap();
    host.restarts().await;
}

fn records(host: &Host) -> usize {
    fs::read_dir(host.state().join("volumes/pipes/log"))
        .unwrap()
        .count()
}

async fn is_frozen(host: &Host) -> bool {
    let Reply::Status(status) = host.call(&Call::Status).await else {
        panic!("no status");
    };
    status.volumes.iter().any(|volume| volume.frozen.is_some())
}

/// What the good member is told until its link ends.
async fn last_words(host: &mut Host) -> Vec<FromSource> {
    let mut heard = Vec::new();
    while let Ok(Some(message)) = within("end", host.good.reader.read::<FromSource>()).await {
        heard.push(message);
    }
    heard
}

/// The answer says that the source stops.
fn is_no_promise(reply: Option<Reply>) {
    let Some(Reply::Failed(failure)) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(failure.sort, FailureSort::Unavailable, "{failure:?}");
    assert_eq!(failure.message.as_str(), "the source is stopping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_is_not_saved_is_not_confirmed() {
    let mut host = Host::begin().await;
    break_register(&host);
    let freeze = Call::Freeze {
        volume: None,
        message: Text::cut("maintenance"),
    };
    is_no_promise(host.call_that_may_end(&freeze).await);
    mend_and_restart(&mut host).await;
    assert!(!is_frozen(&host).await);
    host.survives("thawed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_whose_freeze_is_not_saved_publishes_nothing() {
    let mut host = Host::begin().await;
    host.survives("two").await;
    let before = records(&host);
    break_register(&host);
    let rollback = Call::Rollback {
        volume: None,
        // Named, since the source may not have heard yet that r2 is live.
        to: Some("r1".parse().unwrap()),
        message: Text::default(),
        wait: false,
    };
    is_no_promise(host.call_that_may_end(&rollback).await);
    mend_and_restart(&mut host).await;
    assert_eq!(records(&host), before);
    assert!(!is_frozen(&host).await);
    host.survives("not rolled back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_saved_is_not_activated_and_a_restart_finishes_it() {
    let mut host = Host::begin().await;
    host.publish("two").await;
    let (head, _) = host.good.receives().await;
    let release = head.release.id();
    // The task answers when it has saved that the rollout began.
    assert!(!is_frozen(&host).await);
    break_register(&host);
    host.good.say(&report(release, staged())).await;
    let heard = last_words(&mut host).await;
    let activates = |message: &FromSource| matches!(message, FromSource::Activate { .. });
    assert!(!heard.iter().any(activates), "{heard:?}");
    mend_and_restart(&mut host).await;
    host.good.activates(release, Verdict::Good).await;
    host.good.hears_live(release).await;
    host.survives("saved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_rollout_that_cannot_be_saved_hears_that_the_source_stops() {
    let mut host = Host::begin().await;
    save(&host.tree().join("defs.py"), b"two");
    let mut reader = follow(&host).await;
    let (head, _) = host.good.receives().await;
    let release = head.release.id();
    // The task answers when it has saved that the rollout began.
    assert!(!is_frozen(&host).await);
    break_register(&host);
    host.good.say(&report(release, staged())).await;
    let last = async {
        loop {
            match reader.read::<Reply>().await.unwrap_or_default() {
                Some(Reply::Plan(_) | Reply::Event(_)) => {}
                last => return last,
            }
        }
    };
    is_no_promise(within("last word", last).await);
    mend_and_restart(&mut host).await;
    host.good.activates(release, Verdict::Good).await;
    host.good.hears_live(release).await;
    host.survives("saved").await;
}
