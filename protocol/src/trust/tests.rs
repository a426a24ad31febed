//! Only a publisher's signature over this very record, for this fleet and volume, is believed.

use super::*;
use crate::id::{BlobId, ReleaseId};
use crate::manifest::tests::tree;
use crate::name::Text;
use crate::release::{Origin, Seq, UnixMillis};

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

const OPERATOR: u8 = 1;
const PUBLISHER: u8 = 2;

fn trust() -> Trust {
    Trust {
        fleet: FleetId::of(b"fleet"),
        epoch: 3,
        sources: vec![key(9).public()],
        publishers: vec![Publisher {
            key: key(PUBLISHER).public(),
            volumes: None,
        }],
        revoked: Vec::new(),
    }
}

fn pipes() -> VolumeName {
    "pipes".parse().unwrap()
}

fn release() -> Release {
    let manifest = tree(&[("a.py", "1")]);
    Release {
        fleet: FleetId::of(b"fleet"),
        volume: pipes(),
        epoch: 3,
        seq: Seq(2),
        parent: Some(ReleaseId::of(b"r1")),
        manifest: manifest.id(),
        manifest_bytes: manifest.encode().len() as u64,
        entries: 1,
        total_bytes: 1,
        ignore_rules: BlobId::of(b""),
        created_at: UnixMillis(0),
        origin: Origin::Watch,
        author: Text::cut("alice"),
        host: Text::cut("src01"),
        message: Text::default(),
        git: None,
        fingerprints: Vec::new(),
    }
}

#[test]
fn a_publishers_release_is_believed() {
    let signed = release().sign(&key(PUBLISHER));
    let verified = trust().verify_release(&signed, &pipes()).unwrap();
    assert_eq!(
        (verified.release(), verified.id()),
        (&release(), signed.id())
    );
    assert_eq!(
        verified.dir_name(),
        format!("000002-{}", signed.id().short())
    );
}

#[test]
fn a_release_signed_by_anyone_else_is_refused() {
    let stranger = release().sign(&key(7));
    assert_eq!(
        trust().verify_release(&stranger, &pipes()),
        Err(ReleaseRefused::NotAPublisher(key(7).public()))
    );
    // A source's node key is no publisher key.
    let node = release().sign(&key(9));
    assert!(matches!(
        trust().verify_release(&node, &pipes()),
        Err(ReleaseRefused::NotAPublisher(_))
    ));
    let revoked = Trust {
        revoked: vec![key(PUBLISHER).public()],
        ..trust()
    };
    let signed = release().sign(&key(PUBLISHER));
    assert_eq!(
        revoked.verify_release(&signed, &pipes()),
        Err(ReleaseRefused::Revoked(key(PUBLISHER).public()))
    );
}

#[test]
fn a_signature_over_other_bytes_or_another_kind_of_record_is_refused() {
    let good = release().sign(&key(PUBLISHER));
    for at in 0..good.record.len() {
        let mut bad = good.clone();
        bad.record[at] ^= 1;
        let result = trust().verify_release(&bad, &pipes());
        assert_eq!(result, Err(ReleaseRefused::Signature(BadSignature)));
    }
    let mut other_kind = good.clone();
    other_kind.signature = key(PUBLISHER).sign(Domain::Trust, &good.record);
    assert_eq!(
        trust().verify_release(&other_kind, &pipes()),
        Err(ReleaseRefused::Signature(BadSignature))
    );
}

#[test]
fn a_release_for_another_fleet_or_volume_is_refused() {
    let elsewhere = Release {
        fleet: FleetId::of(b"other"),
        ..release()
    }
    .sign(&key(PUBLISHER));
    assert!(matches!(
        trust().verify_release(&elsewhere, &pipes()),
        Err(ReleaseRefused::OtherFleet(_))
    ));
    let signed = release().sign(&key(PUBLISHER));
    assert!(matches!(
        trust().verify_release(&signed, &"lake".parse().unwrap()),
        Err(ReleaseRefused::OtherVolume { .. })
    ));
    let scoped = Trust {
        publishers: vec![Publisher {
            key: key(PUBLISHER).public(),
            volumes: Some(vec!["lake".parse().unwrap()]),
        }],
        ..trust()
    };
    assert!(matches!(
        scoped.verify_release(&signed, &pipes()),
        Err(ReleaseRefused::NotForVolume { .. })
    ));
}

#[test]
fn a_record_with_impossible_numbers_is_refused_though_well_signed() {
    let signed = |release: Release| release.sign(&key(PUBLISHER));
    for bad in [
        Release {
            entries: ENTRIES_MAX_PLUS_ONE,
            ..release()
        },
        Release {
            manifest_bytes: u64::MAX,
            ..release()
        },
        Release {
            total_bytes: u64::MAX,
            ..release()
        },
        Release {
            seq: Seq(0),
            ..release()
        },
        Release {
            seq: Seq(1),
            ..release()
        },
        Release {
            parent: None,
            ..release()
        },
    ] {
        assert!(matches!(
            trust().verify_release(&signed(bad), &pipes()),
            Err(ReleaseRefused::Record(_))
        ));
    }
}

const ENTRIES_MAX_PLUS_ONE: u64 = crate::limits::ENTRIES_MAX as u64 + 1;

#[test]
fn a_manifest_that_does_not_add_up_is_not_the_releases() {
    let manifest = tree(&[("a.py", "1")]);
    assert_eq!(release().admits(&manifest), Ok(()));
    let other = tree(&[("a.py", "2")]);
    assert_eq!(release().admits(&other), Err(ReleaseError::Totals("id")));
    for (bad, what) in [
        (
            Release {
                manifest_bytes: 1,
                ..release()
            },
            "length",
        ),
        (
            Release {
                entries: 2,
                ..release()
            },
            "entries",
        ),
        (
            Release {
                total_bytes: 2,
                ..release()
            },
            "total bytes",
        ),
    ] {
        assert_eq!(bad.admits(&manifest), Err(ReleaseError::Totals(what)));
    }
}

#[test]
fn a_trust_record_is_the_operators_of_this_fleet_and_not_older() {
    let held = trust();
    let signed = |trust: &Trust| trust.sign(&key(OPERATOR));
    let newer = Trust {
        epoch: 4,
        ..trust()
    };
    let operator = key(OPERATOR).public();
    assert_eq!(
        signed(&newer).verify_newer(&operator, &held),
        Ok(newer.clone())
    );
    assert_eq!(
        signed(&held).verify_newer(&operator, &held),
        Ok(held.clone())
    );
    let older = Trust {
        epoch: 2,
        ..trust()
    };
    assert_eq!(
        signed(&older).verify_newer(&operator, &held),
        Err(TrustError::Older {
            found: 2,
            newest: 3
        })
    );
    let other = Trust {
        fleet: FleetId::of(b"other"),
        ..newer.clone()
    };
    assert!(matches!(
        signed(&other).verify_newer(&operator, &held),
        Err(TrustError::OtherFleet { .. })
    ));
    assert_eq!(
        newer.sign(&key(7)).verify_newer(&operator, &held),
        Err(TrustError::Signature(BadSignature))
    );
}

#[test]
fn a_baseline_is_believed_of_nobody_not_of_a_publisher_either() {
    let baseline = Release {
        seq: Seq(0),
        parent: None,
        origin: Origin::Baseline,
        ..release()
    };
    let signed = baseline.sign(&key(PUBLISHER));
    assert_eq!(signed.read_baseline(), Ok(baseline.clone()));
    let numbered = Release {
        seq: Seq(1),
        ..baseline
    };
    for signed in [signed, numbered.sign(&key(PUBLISHER))] {
        let refused = trust().verify_release(&signed, &pipes());
        assert!(
            matches!(refused, Err(ReleaseRefused::Record(_))),
            "{refused:?}"
        );
        assert!(signed.read().is_err());
    }
    assert!(release().sign(&key(PUBLISHER)).read_baseline().is_err());
}
