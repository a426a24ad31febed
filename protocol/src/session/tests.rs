//! Each breach is a violation of its own; the ordinary talk is none.

use super::*;
use crate::dependency::{DependencyReport, Environment, Found};
use crate::drift::{Depth, Drifted};
use crate::evidence::{Evidence, Verdict};
use crate::id::BlobId;
use crate::limits::{DRIFTS_MAX, ENVIRONMENTS_MAX};
use crate::message::{Failure, SourceHello, Verification, VolumeHello};
use crate::name::Text;

fn pipes() -> VolumeName {
    "pipes".parse().unwrap()
}

fn r(n: u8) -> ReleaseId {
    ReleaseId::of(&[n])
}

fn hello(held: Vec<ReleaseId>) -> FromAgent {
    FromAgent::Hello(AgentHello {
        minor: 0,
        build: Text::default(),
        trust_epoch: 1,
        volumes: vec![VolumeHello {
            volume: pipes(),
            newest: None,
            held,
            active: None,
            partial: None,
        }],
    })
}

fn report(release: ReleaseId, step: Step) -> FromAgent {
    FromAgent::Report(Report {
        volume: pipes(),
        release,
        step,
    })
}

fn staged() -> Step {
    Step::Staged {
        received_bytes: 1,
        elapsed_ms: 1,
    }
}

fn verification() -> Verification {
    Verification {
        verdict: Verdict::Good,
        evidence: Evidence::Proven,
        code_servers: Vec::new(),
        failure: None,
        elapsed_ms: 1,
    }
}

fn greeted() -> SourceSession {
    let mut session = SourceSession::default();
    session.handle(&hello(vec![r(1)])).unwrap();
    session
}

#[test]
fn a_push_is_staged_activated_verified() {
    let mut session = greeted();
    session.pushed(r(2));
    for step in [
        Step::Receiving { bytes: 1 },
        staged(),
        Step::Activated { elapsed_us: 1 },
        Step::Verified(verification()),
    ] {
        assert_eq!(session.handle(&report(r(2), step)), Ok(()));
    }
    assert_eq!(
        session.handle(&report(r(1), Step::Returned(verification()))),
        Ok(())
    );
}

#[test]
fn nothing_comes_before_hello_and_hello_comes_once() {
    let mut fresh = SourceSession::default();
    assert_eq!(
        fresh.handle(&report(r(1), staged())),
        Err(Violation::NotGreeted)
    );
    assert_eq!(
        greeted().handle(&hello(Vec::new())),
        Err(Violation::RepeatedHello)
    );
}

#[test]
fn an_agent_speaks_only_of_what_it_holds_or_was_pushed() {
    for message in [
        report(r(9), staged()),
        FromAgent::Held {
            volume: pipes(),
            added: vec![r(9)],
            removed: Vec::new(),
        },
        FromAgent::Refused {
            volume: pipes(),
            release: r(9),
            failure: Failure::new("refused", "no"),
        },
    ] {
        assert_eq!(
            greeted().handle(&message),
            Err(Violation::UnknownRelease(r(9)))
        );
    }
}

#[test]
fn a_release_that_hello_did_not_name_is_mended_like_any_other() {
    let missing = |volume| FromAgent::Missing {
        volume,
        release: r(9),
        blobs: vec![BlobId::of(b"")],
    };
    let mut session = greeted();
    assert_eq!(session.handle(&missing(pipes())), Ok(()));
    let lake: VolumeName = "lake".parse().unwrap();
    assert_eq!(
        session.handle(&missing(lake.clone())),
        Err(Violation::UnknownVolume(lake))
    );
    // Asked for, it is no licence to speak of that release.
    assert_eq!(
        session.handle(&report(r(9), staged())),
        Err(Violation::UnknownRelease(r(9)))
    );
}

#[test]
fn what_an_agent_says_of_its_environments_is_bounded_and_of_its_volumes() {
    let environments = |volume: VolumeName, count| FromAgent::Environments {
        volume,
        environments: vec![
            Environment {
                python: Text::default(),
                version: Text::default(),
                packages: Vec::new(),
            };
            count
        ],
    };
    let dependencies = |volume: VolumeName, count| FromAgent::Dependencies {
        volume,
        report: DependencyReport {
            release: r(1),
            refused: false,
            found: Found {
                unjudged: vec![Text::default(); count],
                ..Found::default()
            },
        },
    };
    let lake = || "lake".parse::<VolumeName>().unwrap();
    for (good, too_many, elsewhere) in [
        (
            environments(pipes(), ENVIRONMENTS_MAX),
            environments(pipes(), ENVIRONMENTS_MAX + 1),
            environments(lake(), 1),
        ),
        (
            dependencies(pipes(), DRIFTS_MAX),
            dependencies(pipes(), DRIFTS_MAX + 1),
            dependencies(lake(), 1),
        ),
    ] {
        assert_eq!(greeted().handle(&good), Ok(()));
        let refused = greeted().handle(&too_many);
        assert!(
            matches!(refused, Err(Violation::TooMany { .. })),
            "{refused:?}"
        );
        let refused = greeted().handle(&elsewhere);
        assert_eq!(refused, Err(Violation::UnknownVolume(lake())));
    }
}

#[test]
fn a_release_is_activated_only_after_it_was_staged() {
    let mut session = greeted();
    session.pushed(r(2));
    assert_eq!(
        session.handle(&report(r(2), Step::Activated { elapsed_us: 1 })),
        Err(Violation::OutOfOrder {
            step: "activated",
            expected: "staged"
        })
    );
}

#[test]
fn a_volume_that_is_not_in_the_session_is_a_violation_at_both_ends() {
    let lake: VolumeName = "lake".parse().unwrap();
    let message = FromAgent::Report(Report {
        volume: lake.clone(),
        release: r(1),
        step: staged(),
    });
    assert_eq!(
        greeted().handle(&message),
        Err(Violation::UnknownVolume(lake.clone()))
    );
    let mut agent = agent();
    let activate = FromSource::Activate {
        volume: lake.clone(),
        release: r(1),
    };
    assert_eq!(
        agent.handle(&activate),
        Err(Violation::UnknownVolume(lake.clone()))
    );
    assert_eq!(agent.pushed(&lake), Err(Violation::UnknownVolume(lake)));
}

fn source_hello() -> FromSource {
    FromSource::Hello(SourceHello {
        minor: 0,
        build: Text::default(),
        node: "dag-01".parse().unwrap(),
    })
}

fn agent() -> AgentSession {
    let mut session = AgentSession::new(BTreeSet::from([pipes()]));
    session.handle(&source_hello()).unwrap();
    session
}

#[test]
fn a_source_greets_once_and_first() {
    let mut fresh = AgentSession::new(BTreeSet::from([pipes()]));
    let activate = FromSource::Activate {
        volume: pipes(),
        release: r(1),
    };
    assert_eq!(fresh.handle(&activate), Err(Violation::NotGreeted));
    assert_eq!(fresh.pushed(&pipes()), Err(Violation::NotGreeted));
    assert_eq!(
        agent().handle(&source_hello()),
        Err(Violation::RepeatedHello)
    );
    assert_eq!(agent().handle(&activate), Ok(()));
}

#[test]
fn lists_over_their_limits_are_violations() {
    let many: Vec<ReleaseId> = (0..=HELD_MAX as u64)
        .map(|i| ReleaseId::of(&i.to_le_bytes()))
        .collect();
    let mut fresh = SourceSession::default();
    assert!(matches!(
        fresh.handle(&hello(many)),
        Err(Violation::TooMany { what: "held", .. })
    ));
    let blobs = vec![BlobId::of(b""); MISSING_MAX + 1];
    let missing = FromAgent::Missing {
        volume: pipes(),
        release: r(1),
        blobs,
    };
    assert!(matches!(
        greeted().handle(&missing),
        Err(Violation::TooMany {
            what: "missing",
            ..
        })
    ));
}

fn drift_report(volume: VolumeName, paths: usize) -> FromAgent {
    let drift = crate::status::Drift {
        release: crate::release::Seq(1),
        path: Text::cut("a.py"),
        kind: crate::status::DriftKind::Changed,
    };
    FromAgent::Drift(DriftReport {
        volume,
        drifted: Drifted {
            paths: vec![drift; paths],
            more: 0,
        },
        restored: 0,
    })
}

#[test]
fn drift_is_reported_of_volumes_of_the_session_and_within_its_bound() {
    assert_eq!(greeted().handle(&drift_report(pipes(), DRIFT_MAX)), Ok(()));
    assert!(matches!(
        greeted().handle(&drift_report(pipes(), DRIFT_MAX + 1)),
        Err(Violation::TooMany { what: "drift", .. })
    ));
    let lake: VolumeName = "lake".parse().unwrap();
    assert_eq!(
        greeted().handle(&drift_report(lake.clone(), 0)),
        Err(Violation::UnknownVolume(lake.clone()))
    );
    let rules = |volume| FromAgent::Rules {
        volume,
        release: r(9),
    };
    assert_eq!(greeted().handle(&rules(pipes())), Ok(()));
    assert_eq!(
        greeted().handle(&rules(lake.clone())),
        Err(Violation::UnknownVolume(lake))
    );
}

#[test]
fn a_source_asks_of_its_volumes_and_sends_bounded_rules() {
    let verify = |volume| FromSource::Verify {
        volume,
        ask: 1,
        depth: Depth::Held,
    };
    assert_eq!(agent().handle(&verify(pipes())), Ok(()));
    assert!(agent().handle(&verify("lake".parse().unwrap())).is_err());
    let rules = |bytes: u64| FromSource::Rules {
        volume: pipes(),
        rules: vec![0; usize::try_from(bytes).unwrap()],
    };
    assert_eq!(agent().handle(&rules(IGNORE_RULES_BYTES_MAX)), Ok(()));
    assert!(agent().handle(&rules(IGNORE_RULES_BYTES_MAX + 1)).is_err());
    let mut fresh = AgentSession::new(BTreeSet::from([pipes()]));
    assert_eq!(fresh.handle(&verify(pipes())), Err(Violation::NotGreeted));
}

#[test]
fn a_ping_is_answered_once_and_so_many_may_wait() {
    let mut session = greeted();
    assert!(session.pinged(7));
    assert!(!session.pinged(7));
    let pong = FromAgent::Pong { nonce: 7 };
    assert_eq!(session.handle(&pong), Ok(()));
    assert_eq!(session.handle(&pong), Err(Violation::UnaskedPong));
    let asked = (0..1_000).filter(|nonce| session.pinged(*nonce)).count();
    assert_eq!(asked, PINGS_MAX);
    assert_eq!(session.handle(&FromAgent::Pong { nonce: 0 }), Ok(()));
    assert!(session.pinged(1_000));
    let early = SourceSession::default().handle(&pong);
    assert_eq!(early, Err(Violation::NotGreeted));
}

#[test]
fn a_source_pings_only_after_it_has_greeted() {
    let mut session = AgentSession::new(BTreeSet::from([pipes()]));
    let ping = FromSource::Ping { nonce: 1 };
    assert_eq!(session.handle(&ping), Err(Violation::NotGreeted));
    let hello = SourceHello {
        minor: 2,
        build: Text::default(),
        node: "dag-01".parse().unwrap(),
    };
    session.handle(&FromSource::Hello(hello)).unwrap();
    assert_eq!(session.handle(&ping), Ok(()));
}
