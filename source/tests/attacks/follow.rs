//! Whoever follows a rollout without hearing all of its steps: it is said, and how far the nodes are is
//! told from their state.

use codevol_peer::within;
use codevol_protocol::call::{Call, Lines, Push, Reply};
use codevol_protocol::evidence::Verdict;
use codevol_protocol::name::Text;
use codevol_protocol::status::EventKind;
use codevol_tests::save;
use codevol_transport::{FrameReader, control};
use tokio::net::unix::OwnedReadHalf;

use crate::host::Host;
use crate::member::{report, staged};

/// More than the bus and a socket hold together, and no more than a busy host goes through before the step's
/// deadline.
const FLOOD: usize = 10_000;

/// Asks for a push that is followed, and reads no answer yet.
pub(crate) async fn follow(host: &Host) -> FrameReader<OwnedReadHalf> {
    let socket = host.state().with_file_name("source.sock");
    let (reader, mut writer) = control::connect(&socket).await.unwrap();
    let push = Push {
        volume: None,
        paths: Vec::new(),
        message: Text::default(),
        dry_run: false,
        thaw: false,
        yes: false,
        wait: true,
    };
    writer.write(&Call::Push(push)).await.unwrap();
    reader
}

/// The steps that are told up to the end.
async fn steps(reader: &mut FrameReader<OwnedReadHalf>) -> Vec<EventKind> {
    let mut steps = Vec::new();
    loop {
        match within("reply", reader.read()).await.unwrap() {
            Some(Reply::Event(event)) => steps.push(event.event),
            Some(Reply::Outcome(_)) => return steps,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_from_before_the_push_is_told_with_its_lines_and_steps() {
    let mut host = Host::begin().await;
    host.survives("two\nthree").await;
    let mut reader = follow(&host).await;
    let Some(Reply::Plan(plan)) = within("plan", reader.read()).await.unwrap() else {
        panic!("no plan");
    };
    assert!(plan.unchanged);
    let lines = Lines {
        added: 2,
        removed: 1,
        ..Lines::default()
    };
    assert_eq!(plan.lines, Some(lines));
    let told = steps(&mut reader).await;
    assert_eq!(told, [EventKind::NodeStaged, EventKind::NodeActivated]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_too_slow_is_told_that_it_missed_steps() {
    let mut host = Host::begin().await;
    save(&host.tree().join("defs.py"), b"two");
    let mut reader = follow(&host).await;
    let release = host.good.stages().await;
    for _ in 0..FLOOD {
        host.good.say(&report(release, staged())).await;
    }
    host.good.activates(release, Verdict::Good).await;
    host.good.hears_live(release).await;
    let plan: Option<Reply> = within("plan", reader.read()).await.unwrap();
    assert!(matches!(plan, Some(Reply::Plan(_))), "{plan:?}");
    let told = steps(&mut reader).await;
    let missed = told.iter().position(|kind| *kind == EventKind::StepsMissed);
    let after = told.split_at(missed.unwrap()).1;
    assert!(after.contains(&EventKind::NodeActivated), "{after:?}");
    host.survives("followed").await;
}
