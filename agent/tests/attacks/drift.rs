//! A source that asks for looks at the disk, one that is too old to, and one that asks too much.

use std::fs;
use std::os::unix::fs::FileExt as _;

use codevol_protocol::drift::{Depth, Looked, Word};
use codevol_protocol::message::{FromAgent, FromSource, SourceHello, Step};
use codevol_protocol::name::Text;
use codevol_protocol::status::DriftKind;

use crate::craft::pipes;
use crate::node::Node;
use crate::scene::{Scene, files, files_at};
use crate::wire::Source;

fn verify(ask: u64, depth: Depth) -> FromSource {
    FromSource::Verify {
        volume: pipes(),
        ask,
        depth,
    }
}

async fn looked(scene: &mut Scene, wanted: u64) -> Looked {
    loop {
        if let Some(FromAgent::Looked { ask, word, .. }) = scene.link.hear().await.unwrap()
            && ask == wanted
            && let Word::Ended(looked) = word
        {
            return *looked;
        }
    }
}

/// Writes into a file of the live release where it stands.
fn damage(scene: &Scene, path: &str) {
    let path = scene.node.root().join("current").join(path);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"X", 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_hears_what_drifts_and_unasked_it_is_told() {
    let mut scene = Scene::begin().await;
    scene.link.say(&verify(1, Depth::Active)).await;
    let clean = looked(&mut scene, 1).await;
    assert!(
        clean.drifted.is_empty() && clean.failure.is_none(),
        "{clean:?}"
    );
    assert_eq!((clean.files, clean.releases), (2, 1));
    assert!(clean.verification.is_some());
    damage(&scene, "defs.py");
    let drifted = loop {
        match scene.link.hear().await.unwrap().unwrap() {
            FromAgent::Drift(report) if !report.drifted.is_empty() => break report.drifted,
            _ => {}
        }
    };
    let told = &drifted.paths[0];
    assert_eq!(
        (told.path.as_str(), told.kind),
        ("defs.py", DriftKind::Changed)
    );
    scene.link.say(&verify(2, Depth::Contents)).await;
    let found = looked(&mut scene, 2).await;
    assert_eq!(found.drifted, drifted);
    assert_eq!(found.contents[0].bytes.as_deref(), Some(&b"Xne"[..]));
    assert!(found.verification.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_the_minor_before_hears_nothing_that_it_does_not_know() {
    let source = Source::bind();
    let node = Node::start(source.addr(), tempfile::tempdir().unwrap());
    let mut link = source.accept().await;
    link.say(&FromSource::Hello(SourceHello {
        minor: 1,
        build: Text::cut("older"),
        node: "dag-01".parse().unwrap(),
    }))
    .await;
    let first = files("one");
    link.push(&first.push(None)).await;
    let mut activated = false;
    // An agent that speaks of drift does so at once; the verdict comes long after.
    loop {
        let message = link.hear().await.unwrap().unwrap();
        assert!(message.since() <= 1, "{message:?}");
        let FromAgent::Report(report) = message else {
            continue;
        };
        match report.step {
            Step::Staged { .. } if !activated => {
                activated = true;
                let (volume, release) = (pipes(), first.id());
                link.say(&FromSource::Activate { volume, release }).await;
            }
            Step::Verified(_) => break,
            _ => {}
        }
    }
    node.assert_live(&first, "an older source");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_no_release_names_and_questions_without_end_do_no_harm() {
    let mut scene = Scene::begin().await;
    for n in 0..50_u8 {
        let rules = vec![n; 1_000];
        let volume = pipes();
        scene.link.say(&FromSource::Rules { volume, rules }).await;
        scene.link.say(&verify(n.into(), Depth::Held)).await;
    }
    let kept = fs::read_dir(scene.node.root().join(".codevol/rules")).unwrap();
    assert_eq!(kept.count(), 0);
    let next = files_at(scene.next(), "two");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "after many questions").await;
    scene.is_unharmed("after many questions").await;
}
