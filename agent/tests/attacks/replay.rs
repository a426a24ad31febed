//! What was good once, or elsewhere.

use codevol_protocol::id::FleetId;
use codevol_protocol::release::UnixMillis;

use crate::craft::{PUBLISHER, Push, key};
use crate::scene::{Answer, Scene, files_at};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_is_refused_though_well_signed() {
    let mut scene = Scene::begin().await;
    let next = files_at(5, "a newer one");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "r5").await;
    // The second of them was never heard of here, the first was another release.
    for (seq, kind) in [(1, "forked"), (3, "replayed")] {
        let older = files_at(seq, "never seen here");
        let push = older.push(Some(&scene.live));
        let what = format!("r{seq} after r{}", scene.live.record.seq.0);
        scene.link.push(&push).await;
        let Answer::Failed(failure) = scene.answer(older.id(), &what).await else {
            panic!("{what}: taken");
        };
        assert_eq!(failure.kind.as_str(), kind, "{failure:?}");
        assert!(!failure.retryable, "{what}");
        scene.survives(&what, failure.kind.as_str()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seq_that_was_taken_by_another_release_is_an_alarm() {
    let mut scene = Scene::begin().await;
    let other = files_at(1, "another first release");
    let failure = scene.refuses("the live seq", &other.push(None)).await;
    assert_eq!(failure.kind.as_str(), "forked");
    // Also where it is the seq of one that is only staged.
    let staged = files_at(scene.next(), "staged");
    scene.link.push(&staged.push(Some(&scene.live))).await;
    assert!(matches!(
        scene.answer(staged.id(), "staged").await,
        Answer::Staged
    ));
    let other = files_at(scene.next(), "other");
    scene.link.push(&other.push(Some(&scene.live))).await;
    let answer = scene.answer(other.id(), "the staged seq").await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    let lines = scene.node.lines("forked");
    assert!(
        lines.iter().all(|line| line.contains("\"push\"")),
        "{lines:?}"
    );
    scene.is_unharmed("the staged seq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seq_too_far_ahead_is_refused() {
    let mut scene = Scene::begin().await;
    for seq in [1_000_002 + scene.live.record.seq.0, u64::MAX] {
        let ahead = files_at(seq, "far ahead");
        let push = ahead.push(Some(&scene.live));
        let failure = scene.refuses(&format!("r{seq}"), &push).await;
        assert_eq!(failure.kind.as_str(), "replayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_another_fleet_is_refused() {
    let mut scene = Scene::begin().await;
    let mut other = files_at(scene.next(), "another fleet's");
    other.record.fleet = FleetId::of(b"another fleet");
    let push = other.push(Some(&scene.live));
    assert_eq!(
        scene.refuses("another fleet", &push).await.kind.as_str(),
        "refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_or_the_bytes_of_an_older_release_are_not_those_of_a_newer_one() {
    let mut scene = Scene::begin().await;
    let (older, newer) = (scene.live.clone(), files_at(2, "two"));
    let push = Push {
        head: newer.push(None).head,
        ..older.push(None)
    };
    let failure = scene.refuses("the older manifest", &push).await;
    assert_eq!(failure.kind.as_str(), "refused", "{failure:?}");
    // `same_manifest` says the same without sending it.
    let newer = files_at(scene.next(), "three");
    let mut push = newer.push(Some(&scene.live));
    push.head.same_manifest = true;
    push.manifest.clear();
    push.pieces.clear();
    let failure = scene.refuses("the base's manifest", &push).await;
    assert_eq!(failure.kind.as_str(), "refused", "{failure:?}");
    let newer = files_at(scene.next(), "four");
    let push = Push {
        pieces: older.push(None).pieces,
        ..newer.push(None)
    };
    scene.link.push(&push).await;
    let answer = scene.answer(newer.id(), "the older blobs").await;
    assert!(matches!(answer, Answer::Missing(_)), "{answer:?}");
    assert!(!scene.node.holds(&newer));
    scene.is_unharmed("the older blobs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_releases_does_not_hang_on_any_clock() {
    let mut scene = Scene::begin().await;
    for (seq, created_at) in [(2, u64::MAX), (3, 0), (4, 4_000_000_000_000)] {
        let mut next = files_at(seq, &format!("at {created_at}"));
        next.record.created_at = UnixMillis(created_at);
        scene.link.push(&next.push(Some(&scene.live))).await;
        scene.goes_live(next, "any time").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_held_is_staged_again_without_a_byte_written() {
    let mut scene = Scene::begin().await;
    let again = scene.live.clone();
    scene.link.push(&again.push(None)).await;
    assert!(matches!(
        scene.answer(again.id(), "again").await,
        Answer::Staged
    ));
    scene.is_unharmed("again").await;
    // Signed once more, it is the same release.
    let mut push = again.push(None);
    push.head.release = again.record.sign(&key(PUBLISHER));
    scene.link.push(&push).await;
    assert!(matches!(
        scene.answer(again.id(), "signed again").await,
        Answer::Staged
    ));
    scene.is_unharmed("signed again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_does_not_let_an_older_release_in() {
    let mut scene = Scene::begin().await;
    let two = files_at(2, "two");
    scene.link.push(&two.push(Some(&scene.live))).await;
    scene.goes_live(two, "r2").await;
    scene.node.stop().await;
    for entry in std::fs::read_dir(scene.node.state()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("recovery")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(scene.node.root().join(".codevol/records")).unwrap();
    scene.node.run().unwrap();
    scene.link = scene.source.accept().await;
    scene.link.greet().await;
    let older = files_at(1, "older");
    scene.link.push(&older.push(None)).await;
    let answer = scene.answer(older.id(), "r1").await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    scene.node.assert_live(&scene.live, "r1");
}
