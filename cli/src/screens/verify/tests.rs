//! The screen, the document and the exit status of `verify`.

use std::slice::from_ref;

use codevol_protocol::drift::Drifted;
use codevol_protocol::evidence::{CodeServerKind, CodeServerState};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{Failure, Verification};
use insta::{assert_json_snapshot, assert_snapshot};

use super::*;
use crate::screens::sample::{HOSTILE, NOW, plain, text};

fn verification(verdict: Verdict) -> Verification {
    let (state, evidence) = match verdict {
        Verdict::Good => (CodeServerState::Good, Evidence::Proven),
        Verdict::Unproven => (CodeServerState::Unproven, Evidence::Activated),
        Verdict::Broken => (CodeServerState::Broken, Evidence::Activated),
    };
    let failure = Failure::new("unproven", "cannot connect to it: connection refused");
    Verification {
        verdict,
        evidence,
        code_servers: vec![CodeServerReport {
            address: text("127.0.0.1:4000"),
            kind: CodeServerKind::CodeServer,
            state,
            server_id: Some(text("f3")),
            load_ms: Some(1_210),
        }],
        failure: (verdict != Verdict::Good).then_some(failure),
        elapsed_ms: 12,
    }
}

fn looked() -> Looked {
    Looked {
        active: Some((Seq(42), ReleaseId::of(b"42"))),
        drifted: Drifted::default(),
        contents: Vec::new(),
        verification: Some(verification(Verdict::Good)),
        releases: 1,
        files: 204,
        bytes: 409_123,
        elapsed_ms: 312,
        failure: None,
    }
}

fn node(name: &str, looked: Option<Looked>) -> NodeVerified {
    NodeVerified {
        name: name.parse().unwrap(),
        answer: if looked.is_some() {
            Answer::Answered
        } else {
            Answer::Offline
        },
        looked,
    }
}

fn drift(release: u64, path: &str, kind: DriftKind) -> Drift {
    Drift {
        release: Seq(release),
        path: text(path),
        kind,
    }
}

fn drifted() -> Looked {
    let drift = [
        drift(42, "current", DriftKind::Flipped),
        drift(42, "assets/orders.py", DriftKind::Changed),
        drift(42, "assets/old.py", DriftKind::Missing),
        drift(42, "notes.txt", DriftKind::Foreign),
        drift(41, "assets/orders.py", DriftKind::Changed),
    ];
    Looked {
        drifted: Drifted::cut(drift, 3),
        releases: 5,
        ..looked()
    }
}

fn verified(source: Option<SourceVerified>) -> Verified {
    Verified {
        volume: "pipes".parse().unwrap(),
        at: NOW,
        deep: source.is_some(),
        source,
    }
}

fn exit(nodes: &[NodeVerified], source: Option<SourceVerified>) -> ExitStatus {
    Standing::of(nodes, &verified(source)).exit()
}

#[test]
fn what_differs_is_listed_node_by_node() {
    let unverified = Looked {
        verification: Some(verification(Verdict::Unproven)),
        ..looked()
    };
    let nodes = [
        node("dag-01", Some(looked())),
        node("dag-02", Some(drifted())),
        node("dag-03", Some(unverified)),
        node("dag-04", None),
    ];
    let mut source = SourceVerified::new(300, &[BlobId::of(b"b")].into(), &[].into());
    source.failure = Some(text("it was given up"));
    assert_snapshot!(plain(&render(&nodes, &verified(Some(source)))), @r#"
    pipes   drift on 1 of 4   every release that is held

      NODE    RELEASE  DISK        CODE SERVER  EVIDENCE   LOOKED AT
      dag-01  r42      clean       good         proven     204 files, 399.5 KiB in 312 ms
      dag-02  r42      drifted     good         proven     204 files of 5 releases, 399.5 KiB in 312 ms
      dag-03  r42      unverified  unproven     activated  204 files, 399.5 KiB in 312 ms
      dag-04  -        offline     -            -          -

    drift on dag-02; `codevol diff --node dag-02` shows how
      flipped  current
      changed  assets/orders.py
      missing  assets/old.py
      foreign  notes.txt
      changed  r41 assets/orders.py
      and 3 more

    dag-03: its code server is not good: cannot connect to it: connection refused
    dag-04 is not connected

    source  300 blobs read
      1 damaged: 10e5cf3d
      releases with these files cannot be sent any more: restore the source's state folder from a backup
      not all of it was read: it was given up
    "#);
}

#[test]
fn a_fleet_that_is_as_released_is_said_in_a_line_and_a_table() {
    let nodes = [node("dag-01", Some(looked()))];
    assert_snapshot!(plain(&render(&nodes, &verified(None))), @r#"
    pipes   as released on 1 of 1   the release that each node runs

      NODE    RELEASE  DISK   CODE SERVER  EVIDENCE  LOOKED AT
      dag-01  r42      clean  good         proven    204 files, 399.5 KiB in 312 ms
    "#);
    assert_snapshot!(plain(&render(&[], &verified(None))), @"pipes   no node is enrolled");
}

#[test]
fn the_document_of_a_node_has_every_key() {
    let node = node("dag-02", Some(drifted()));
    assert_json_snapshot!(NodeDocument::of(&node), @r#"
    {
      "name": "dag-02",
      "state": "drifted",
      "release": 42,
      "releases": 5,
      "files": 204,
      "bytes": 409123,
      "elapsed_ms": 312,
      "drift": [
        {
          "release": 42,
          "path": "current",
          "kind": "flipped"
        },
        {
          "release": 42,
          "path": "assets/orders.py",
          "kind": "changed"
        },
        {
          "release": 42,
          "path": "assets/old.py",
          "kind": "missing"
        },
        {
          "release": 42,
          "path": "notes.txt",
          "kind": "foreign"
        },
        {
          "release": 41,
          "path": "assets/orders.py",
          "kind": "changed"
        }
      ],
      "drift_more": 3,
      "evidence": "proven",
      "code_servers": [
        {
          "address": "127.0.0.1:4000",
          "kind": "code-server",
          "state": "good",
          "server_id": "f3",
          "load_ms": 1210
        }
      ],
      "error": null
    }
    "#);
}

#[test]
fn the_document_of_a_node_that_did_not_answer_has_every_key() {
    let node = node("dag-02", None);
    assert_json_snapshot!(NodeDocument::of(&node), @r#"
    {
      "name": "dag-02",
      "state": "offline",
      "release": null,
      "releases": null,
      "files": null,
      "bytes": null,
      "elapsed_ms": null,
      "drift": [],
      "drift_more": 0,
      "evidence": null,
      "code_servers": [],
      "error": null
    }
    "#);
}

#[test]
fn the_exit_status_says_what_was_found_and_who_could_be_asked() {
    let (clean, away) = (node("a", Some(looked())), node("b", None));
    let drifts = node("c", Some(drifted()));
    let unverified = Looked {
        verification: Some(verification(Verdict::Broken)),
        ..looked()
    };
    let unverified = node("d", Some(unverified));
    let failed = Looked {
        failure: Some(Failure::new("io", "the disk failed")),
        ..looked()
    };
    let failed = node("e", Some(failed));
    assert_eq!(exit(&[], None), ExitStatus::Done);
    assert_eq!(exit(from_ref(&clean), None), ExitStatus::Done);
    assert_eq!(
        exit(&[clean.clone(), away.clone()], None),
        ExitStatus::Partial
    );
    assert_eq!(
        exit(&[clean.clone(), unverified], None),
        ExitStatus::Partial
    );
    assert_eq!(exit(&[clean.clone(), failed], None), ExitStatus::Partial);
    assert_eq!(exit(from_ref(&away), None), ExitStatus::Unreachable);
    assert_eq!(exit(&[away, drifts], None), ExitStatus::Drift);
    let damaged = SourceVerified::new(1, &[BlobId::of(b"b")].into(), &[].into());
    let whole = SourceVerified::new(1, &[].into(), &[].into());
    assert_eq!(exit(from_ref(&clean), Some(damaged)), ExitStatus::Drift);
    assert_eq!(exit(&[clean], Some(whole)), ExitStatus::Done);
}

#[test]
fn hostile_paths_and_errors_stay_on_their_line_and_draw_nothing() {
    let mut looked = drifted();
    looked.drifted = Drifted::cut([drift(42, HOSTILE, DriftKind::Foreign)], 0);
    let mut failed = self::looked();
    failed.failure = Some(Failure::new("io", HOSTILE));
    let nodes = [node("dag-01", Some(looked)), node("dag-02", Some(failed))];
    let screen = plain(&render(&nodes, &verified(None)));
    assert!(
        !screen.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{screen:?}"
    );
}

#[test]
fn many_paths_are_cut_and_counted() {
    let many = (0..30).map(|n| drift(42, &format!("{n}.py"), DriftKind::Changed));
    let looked = Looked {
        drifted: Drifted::cut(many, 5),
        ..looked()
    };
    let screen = plain(&render(&[node("dag-01", Some(looked))], &verified(None)));
    assert!(screen.ends_with("  and 15 more"), "{screen}");
}
