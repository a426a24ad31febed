//! Members that are asked to look at their disks: one that answers, one that is too old to be asked,
//! one that says what was not asked.

use std::path::PathBuf;

use codevol_peer::{key, within};
use codevol_protocol::call::{Call, Reply};
use codevol_protocol::drift::{Answer, DriftReport, Drifted, Looked, NodeVerified, Word};
use codevol_protocol::message::{AgentHello, FromAgent, FromSource, VolumeHello};
use codevol_protocol::name::Text;
use codevol_protocol::release::Seq;
use codevol_protocol::status::{Drift, DriftKind};
use codevol_transport::{Alpn, CloseCode, control};
use tokio::task::JoinSet;

use crate::host::Host;
use crate::member::pipes;

fn drifted() -> Drifted {
    let drift = Drift {
        release: Seq(1),
        path: Text::cut("defs.py"),
        kind: DriftKind::Changed,
    };
    Drifted::cut([drift], 0)
}

fn looked() -> Looked {
    Looked {
        active: None,
        drifted: drifted(),
        contents: Vec::new(),
        verification: None,
        releases: 1,
        files: 2,
        bytes: 7,
        elapsed_ms: 1,
        failure: None,
    }
}

/// Asks for a verification in the background; what the nodes found comes of it.
fn verify(host: &Host) -> JoinSet<Vec<NodeVerified>> {
    JoinSet::from_iter([verified(host.state().with_file_name("source.sock"))])
}

async fn verified(socket: PathBuf) -> Vec<NodeVerified> {
    let call = Call::Verify {
        volume: None,
        deep: false,
    };
    let asked = async {
        let (mut reader, mut writer) = control::connect(&socket).await.unwrap();
        writer.write(&call).await.unwrap();
        let mut nodes = Vec::new();
        loop {
            match reader.read::<Reply>().await.unwrap().unwrap() {
                Reply::NodeVerified(node) => nodes.push(*node),
                Reply::Verifying(_) => {}
                Reply::Verified(_) => return nodes,
                other => panic!("{other:?}"),
            }
        }
    };
    within("verify", asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_asked_once_and_its_answer_is_told() {
    let mut host = Host::begin().await;
    let asking = verify(&host);
    let ask = loop {
        if let FromSource::Verify { ask, .. } = host.good.hears(|_| true).await {
            break ask;
        }
    };
    let answer = |ask| FromAgent::Looked {
        volume: pipes(),
        ask,
        word: Word::Ended(Box::new(looked())),
    };
    // What was not asked is nobody's business.
    host.good.say(&answer(ask + 1)).await;
    host.good.say(&answer(ask)).await;
    host.good.say(&answer(ask)).await;
    let nodes = asking.join_all().await.remove(0);
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!(nodes[0].answer, Answer::Answered);
    assert_eq!(nodes[0].looked, Some(looked()));
    host.survives("answers that nobody asked for").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_is_not_waited_for() {
    let mut host = Host::begin().await;
    let asking = verify(&host);
    let asked = |order: &FromSource| matches!(order, FromSource::Verify { .. });
    host.good.hears(asked).await;
    host.good.link.close(CloseCode::Shutdown, "");
    let nodes = asking.join_all().await.remove(0);
    assert_eq!(nodes[0].answer, Answer::Offline, "{nodes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_minor_before_is_not_asked_what_it_does_not_know() {
    let mut host = Host::begin().await;
    host.enrol("older", &key(7)).await;
    let link = host.dial(&key(7), Alpn::Node).await;
    let (mut writer, mut reader) = link.open_control().await.unwrap();
    let hello = FromAgent::Hello(AgentHello {
        minor: 1,
        build: Text::cut("older"),
        trust_epoch: 1,
        volumes: vec![VolumeHello {
            volume: pipes(),
            newest: None,
            held: Vec::new(),
            active: None,
            partial: None,
        }],
    });
    writer.write(&hello).await.unwrap();
    let greeting = within("greeting", reader.read::<FromSource>()).await;
    assert!(matches!(greeting, Ok(Some(FromSource::Hello(_)))));
    let asking = verify(&host);
    let asked = |order: &FromSource| matches!(order, FromSource::Verify { .. });
    let FromSource::Verify { ask, .. } = host.good.hears(asked).await else {
        unreachable!("it was waited for");
    };
    let word = Word::Ended(Box::new(looked()));
    let volume = pipes();
    host.good
        .say(&FromAgent::Looked { volume, ask, word })
        .await;
    let mut nodes = asking.join_all().await.remove(0);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let answers: Vec<Answer> = nodes.iter().map(|node| node.answer).collect();
    assert_eq!(answers, [Answer::Answered, Answer::TooOld]);
    link.close(CloseCode::Shutdown, "");
    let rest = async {
        while let Ok(Some(message)) = reader.read::<FromSource>().await {
            assert!(message.since() <= 1, "{message:?}");
        }
    };
    within("the end", rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_that_a_member_tells_stands_in_the_status() {
    let mut host = Host::begin().await;
    let report = |drifted| {
        FromAgent::Drift(DriftReport {
            volume: pipes(),
            drifted,
            restored: 0,
        })
    };
    host.good.say(&report(drifted())).await;
    let shown = async {
        loop {
            let Reply::Status(status) = host.call(&Call::Status).await else {
                panic!("no status");
            };
            let node = status.volumes[0].nodes[0].clone();
            if !node.drift.is_empty() {
                return node;
            }
            tokio::task::yield_now().await;
        }
    };
    let node = within("drift in status", shown).await;
    assert_eq!(node.drift, drifted().paths);
    assert_eq!(node.drift_more, 0);
}
