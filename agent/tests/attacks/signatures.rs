//! Releases that nobody whom the agent believes has signed, for it, as they stand.

use codevol_protocol::codec;
use codevol_protocol::id::FleetId;
use codevol_protocol::key::Domain;
use codevol_protocol::message::FromSource;
use codevol_protocol::release::{Release, Seq, SignedRelease};
use codevol_protocol::trust::Trust;

use crate::craft::{
    Crafted, LAKE_PUBLISHER, OPERATOR, PUBLISHER, Push, REVOKED, SOURCE, STRANGER, key, lake,
    pipes, signed, trust,
};
use crate::scene::{Answer, Scene, files_at};

/// Makes a bad record out of a good release.
type Forge<'a> = dyn Fn(&Crafted) -> SignedRelease + 'a;

/// Pushes each of these in the place of a good release, which then is taken.
async fn all_are_refused(cases: &[(&str, &Forge<'_>)]) {
    let mut scene = Scene::begin().await;
    for (what, forge) in cases {
        let good = files_at(scene.next(), what);
        let mut push = good.push(Some(&scene.live));
        push.head.release = forge(&good);
        let failure = scene.refuses(what, &push).await;
        assert_eq!(failure.kind.as_str(), "refused", "{what}: {failure:?}");
        assert!(!failure.retryable, "{what}");
    }
}

fn by(seed: u8) -> impl Fn(&Crafted) -> SignedRelease {
    move |good| good.record.sign(&key(seed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_not_signed_by_a_publisher_of_the_volume_is_refused() {
    let of_lake = |good: &Crafted| {
        let record = Release {
            volume: lake(),
            ..good.record.clone()
        };
        record.sign(&key(LAKE_PUBLISHER))
    };
    all_are_refused(&[
        ("an untrusted key", &by(STRANGER)),
        ("a key for another volume", &by(LAKE_PUBLISHER)),
        ("another volume's release by its own publisher", &of_lake),
        ("a revoked key", &by(REVOKED)),
        ("the source's node key", &by(SOURCE)),
        ("the operator's key", &by(OPERATOR)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_hold_is_refused() {
    let publisher = key(PUBLISHER).public();
    let none = |good: &Crafted| {
        let record = codec::encode(&(good.record.encode(), publisher, Vec::<u8>::new()));
        codec::decode(&record).unwrap()
    };
    let zeros = |good: &Crafted| {
        let record = codec::encode(&(good.record.encode(), publisher, vec![0_u8; 64]));
        codec::decode(&record).unwrap()
    };
    let of_other_bytes = |good: &Crafted| {
        let signature = key(PUBLISHER).sign(Domain::Release, b"other bytes");
        signed(&good.record.encode(), &publisher, &signature)
    };
    let as_trust = |good: &Crafted| {
        let record = good.record.encode();
        let signature = key(PUBLISHER).sign(Domain::Trust, &record);
        signed(&record, &publisher, &signature)
    };
    let in_another_name = |good: &Crafted| {
        let record = good.record.encode();
        let signature = key(STRANGER).sign(Domain::Release, &record);
        signed(&record, &publisher, &signature)
    };
    all_are_refused(&[
        ("no signature", &none),
        ("a signature of zeros", &zeros),
        ("a signature over other bytes", &of_other_bytes),
        ("a signature over another kind of record", &as_trust),
        (
            "a stranger's signature in a publisher's name",
            &in_another_name,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_changed_anywhere_in_a_record_is_refused() {
    let mut scene = Scene::begin().await;
    let good = files_at(2, "good");
    let record = good.record.encode();
    let signature = key(PUBLISHER).sign(Domain::Release, &record);
    for at in 0..record.len() {
        let mut changed = record.clone();
        changed[at] ^= 1;
        let mut push = good.push(Some(&scene.live));
        push.head.release = signed(&changed, &key(PUBLISHER).public(), &signature);
        scene.link.push(&push).await;
        let answer = scene.answer(push.head.release.id(), "one byte").await;
        assert!(matches!(answer, Answer::Failed(_)), "byte {at}: {answer:?}");
        assert!(!scene.node.holds(&good));
    }
    scene.is_unharmed("one byte").await;
    scene.noted("one byte", "refused", record.len()).await;
    scene.link.push(&good.push(Some(&scene.live))).await;
    scene.goes_live(good, "the release itself").await;
}

fn changed(change: impl Fn(&mut Release)) -> impl Fn(&Crafted) -> SignedRelease {
    move |good| {
        let mut record = good.record.clone();
        change(&mut record);
        record.sign(&key(PUBLISHER))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_add_up_is_refused_though_well_signed() {
    let version = |good: &Crafted| {
        let mut record = good.record.encode();
        record[0] = 2;
        let signature = key(PUBLISHER).sign(Domain::Release, &record);
        signed(&record, &key(PUBLISHER).public(), &signature)
    };
    let field = |good: &Crafted| {
        let record = [&good.record.encode()[..], &[0]].concat();
        let signature = key(PUBLISHER).sign(Domain::Release, &record);
        signed(&record, &key(PUBLISHER).public(), &signature)
    };
    all_are_refused(&[
        ("an unknown version", &version),
        ("an unknown field", &field),
        (
            "another fleet",
            &changed(|r| r.fleet = FleetId::of(b"other")),
        ),
        ("an entry too many", &changed(|r| r.entries += 1)),
        ("an entry too few", &changed(|r| r.entries -= 1)),
        ("a byte too many", &changed(|r| r.total_bytes += 1)),
        ("a byte too few", &changed(|r| r.total_bytes -= 1)),
        (
            "entries over the limit",
            &changed(|r| r.entries = 1_000_001),
        ),
        (
            "a manifest over the limit",
            &changed(|r| r.manifest_bytes = (256 << 20) + 1),
        ),
        (
            "bytes over the limit",
            &changed(|r| r.total_bytes = (64 << 30) + 1),
        ),
        ("no parent", &changed(|r| r.parent = None)),
        ("seq 0", &changed(|r| r.seq = Seq(0))),
        ("seq 1 with a parent", &changed(|r| r.seq = Seq(1))),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_believed_no_more_once_it_was_revoked() {
    let mut scene = Scene::begin().await;
    let newer = Trust {
        epoch: 2,
        revoked: vec![key(PUBLISHER).public()],
        ..trust()
    };
    let signed = newer.sign(&key(OPERATOR));
    scene.link.say(&FromSource::Trust(signed)).await;
    // The trust record may be taken a moment after the push was: what was staged meanwhile was
    // signed by a key that was good then.
    let mut seq = 2;
    let failure = loop {
        let push = files_at(seq, "by a revoked publisher").push(Some(&scene.live));
        scene.link.push(&push).await;
        match scene.answer(push.head.release.id(), "revoked").await {
            Answer::Failed(failure) => break failure,
            Answer::Staged => seq += 1,
            Answer::Missing(blobs) => panic!("{blobs:?}"),
        }
    };
    assert_eq!(failure.kind.as_str(), "refused");
    assert!(failure.message.as_str().contains("revoked"), "{failure:?}");
    scene.is_unharmed("revoked").await;
    // It is remembered.
    scene.node.stop().await;
    scene.node.run().unwrap();
    scene.link = scene.source.accept().await;
    scene.link.greet().await;
    assert_eq!(scene.link.hello.trust_epoch, 2);
    let push = files_at(seq + 1, "after a restart").push(Some(&scene.live));
    scene.link.push(&push).await;
    let answer = scene.answer(push.head.release.id(), "restarted").await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_record_that_the_operator_did_not_sign_for_this_fleet_is_not_taken() {
    let mut scene = Scene::begin().await;
    let usurper = |trust: Trust| Trust {
        publishers: vec![codevol_protocol::trust::Publisher {
            key: key(STRANGER).public(),
            volumes: None,
        }],
        ..trust
    };
    let newer = Trust {
        epoch: 2,
        ..usurper(trust())
    };
    let other = Trust {
        fleet: FleetId::of(b"other"),
        ..newer.clone()
    };
    let older = Trust {
        epoch: 0,
        ..newer.clone()
    };
    for (what, record) in [
        ("signed by a stranger", newer.sign(&key(STRANGER))),
        ("signed by the publisher", newer.sign(&key(PUBLISHER))),
        ("of another fleet", other.sign(&key(OPERATOR))),
        ("of an older epoch", older.sign(&key(OPERATOR))),
    ] {
        scene.link.say(&FromSource::Trust(record)).await;
        scene.survives(what, "refused").await;
        // The control stream is in order: a push after the answer to this comes after the record.
        let mut push = files_at(scene.next(), what).push(Some(&scene.live));
        push.head.release = files_at(scene.next(), what).record.sign(&key(STRANGER));
        scene.refuses(what, &push).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_the_name_of_another_volume_is_refused_or_a_breach() {
    let mut scene = Scene::begin().await;
    // A good release of `lake`, said to be of `pipes`.
    let mut good = files_at(scene.next(), "lake's");
    good.record.volume = lake();
    let push = Push {
        head: codevol_protocol::message::PushHead {
            volume: pipes(),
            ..good.push(Some(&scene.live)).head
        },
        ..good.push(Some(&scene.live))
    };
    scene.refuses("lake's release as one of pipes", &push).await;
    let mut push = good.push(None);
    push.head.volume = lake();
    scene.link.push(&push).await;
    scene.closes("a volume that this node does not hold").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_which_anybody_can_sign_is_none() {
    let mut scene = Scene::begin().await;
    let publisher = key(PUBLISHER).public();
    let neutral = |first: u8, last: u8| {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    for (what, forged) in [
        ("a key of small order", neutral(1, 0)),
        ("another key of small order", neutral(0, 0)),
        ("a key in other bytes than its own", neutral(1, 0x80)),
    ] {
        let good = files_at(scene.next(), what).push(Some(&scene.live));
        let mut bytes = good.bytes();
        let at = bytes
            .windows(32)
            .position(|found| found == publisher.as_bytes());
        bytes[at.unwrap()..][..32].copy_from_slice(&forged);
        scene.link.push_bytes(&bytes).await;
        // No key, no record: what comes behind it is not read.
        scene.closes(what).await;
    }
}
