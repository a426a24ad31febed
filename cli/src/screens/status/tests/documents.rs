//! The documents of `status`: each key of each part.

use codevol_protocol::dependency::{Skew, SkewVersion};
use codevol_protocol::release::Seq;
use codevol_protocol::status::{
    AskedAt, Drift, DriftKind, FrozenStatus, NotInGit, Phase, Quarantined, RolloutStatus, Skipped,
    VolumeStatus, WatchState, WatchStatus,
};
use insta::assert_json_snapshot;

use super::hold;
use crate::screens::sample::{self, before, error, git, node, status, text, volume};

#[test]
fn the_document_of_a_hold_has_every_key() {
    assert_json_snapshot!(hold(41, "why", AskedAt::Node), @r#"
    {
      "release": 41,
      "why": "why",
      "by": "alice",
      "at": "2025-11-24T15:58:00.000Z",
      "asked_at": "node"
    }
    "#);
}

#[test]
fn the_document_has_every_key() {
    let mut volume = volume(42, Vec::new());
    volume.release = None;
    assert_json_snapshot!(status(vec![volume]), @r#"
    {
      "schema": "codevol.status/1",
      "fleet": "9ab388bedc43eaf44150107d17ad090f6b1c34610f5740778ddb95d9f06576ee",
      "listen": "127.0.0.1:7443",
      "source": null,
      "volumes": [
        {
          "name": "pipes",
          "head": 42,
          "live": 42,
          "frozen": null,
          "rollout": null,
          "waits_for": [],
          "quarantined": [],
          "skipped": [],
          "watch": {
            "mode": "inotify",
            "state": "ok",
            "advice": null
          },
          "release": null,
          "skew": [],
          "nodes": [],
          "not_in_git": []
        }
      ]
    }
    "#);
}

#[test]
fn the_document_of_a_release_has_every_key() {
    let mut release = sample::release(42);
    release.git = git(true);
    assert_json_snapshot!(release, @r#"
    {
      "seq": 42,
      "id": "4b0f60afa9d399433d1a25341ced3ab1140e5674bfdf6991c218760593932f52",
      "manifest": "83d9dab06011479163c7c4d5fa735f911bac86729f56aaa115b7eed2eb66e022",
      "parent": "dd4c9bc7c49de68985e4fa6b0db6c29d15a1eb2ada57df1801d3b71a460edb1a",
      "origin": "push",
      "author": "alice",
      "message": "null customer ids",
      "created_at": "2025-11-24T14:00:00.000Z",
      "files": 204,
      "bytes": 409123,
      "git": {
        "commit": "9c1d0aa4f0e1d2c3b4a5968778695a4b3c2d1e0f",
        "branch": "main",
        "dirty": true
      }
    }
    "#);
}

#[test]
fn the_document_of_a_node_has_every_key() {
    let mut node = node("dag-01", 42);
    node.error = Some(error("dag-01", 41, "verify"));
    node.drift = vec![Drift {
        release: Seq(42),
        path: text("a.py"),
        kind: DriftKind::Changed,
    }];
    assert_json_snapshot!(node, @r#"
    {
      "name": "dag-01",
      "state": "live",
      "release": 42,
      "staged": [
        42
      ],
      "lag": 0,
      "evidence": "proven",
      "last_seen_at": "2025-11-24T16:00:00.000Z",
      "held": null,
      "drift": [
        {
          "release": 42,
          "path": "a.py",
          "kind": "changed"
        }
      ],
      "drift_more": 0,
      "environments": [
        {
          "python": "/opt/venv/bin/python",
          "version": "3.11.7",
          "dagster": "1.11.2",
          "packages": 212
        }
      ],
      "dependencies": null,
      "code_servers": [
        {
          "address": "127.0.0.1:4000",
          "kind": "code-server",
          "state": "good",
          "server_id": "f3",
          "load_ms": 1210
        }
      ],
      "error": {
        "node": "dag-01",
        "release": 41,
        "step": "verify",
        "kind": "broken",
        "message": "ModuleNotFoundError: No module named 'polars'",
        "location": "assets/orders.py:17",
        "traceback": "  File \"assets/orders.py\", line 17, in <module>\n    import polars as pl\n",
        "hidden_frames": 12,
        "hint": "that server's Python (/opt/venv, 3.11) lacks a package the release imports; codevol sends code, not packages"
      }
    }
    "#);
}

#[test]
fn the_document_of_dependencies_has_every_key() {
    assert_json_snapshot!(sample::dependencies(42), @r#"
    {
      "release": 42,
      "refused": false,
      "packages": [
        {
          "name": "pandas",
          "wanted": ">=2.1",
          "installed": "2.0",
          "python": "/opt/venv/bin/python",
          "file": "requirements.txt",
          "line": 4
        },
        {
          "name": "polars",
          "wanted": "==1.2",
          "installed": null,
          "python": "/opt/venv/bin/python",
          "file": "requirements.txt",
          "line": 3
        }
      ],
      "imports": [
        {
          "module": "duckdb",
          "python": "/opt/venv/bin/python",
          "file": "assets/orders.py",
          "line": 17
        }
      ],
      "unjudged": [],
      "left_out": 0,
      "mend": [
        "/opt/venv/bin/python -m pip install 'pandas>=2.1' 'polars==1.2'"
      ]
    }
    "#);
}

/// A volume of which everything is said that can be.
fn filled() -> VolumeStatus {
    let mut volume = volume(42, Vec::new());
    volume.frozen = Some(FrozenStatus {
        why: text("rolled back from r43"),
        by: text("alice"),
        at: before(7_200),
    });
    volume.rollout = Some(RolloutStatus {
        release: Seq(43),
        phase: Phase::Verify,
        wave: 1,
        waves: 2,
        started_at: before(3),
    });
    volume.waits_for = vec!["dag-02".parse().unwrap()];
    volume.quarantined = vec![Quarantined {
        release: Seq(41),
        node: "dag-01".parse().unwrap(),
        message: text("NameError"),
    }];
    volume.skipped = vec![Skipped {
        path: text("run.sock"),
        why: text("socket is not carried"),
    }];
    volume.watch = Some(WatchStatus {
        mode: text("poll"),
        state: WatchState::Polling,
        advice: Some(text("this file system reports no events")),
    });
    volume.release = None;
    volume.skew = vec![Skew {
        name: text("dagster"),
        versions: vec![SkewVersion {
            version: Some(text("1.11.2")),
            count: 2,
            nodes: vec!["dag-01".parse().unwrap()],
        }],
    }];
    volume.not_in_git = vec![NotInGit {
        release: Seq(42),
        paths: vec!["assets/orders.py".parse().unwrap()],
        git: git(true),
    }];
    volume
}

#[test]
fn each_part_of_a_volumes_document_has_every_key() {
    assert_json_snapshot!(filled(), @r#"
    {
      "name": "pipes",
      "head": 42,
      "live": 42,
      "frozen": {
        "why": "rolled back from r43",
        "by": "alice",
        "at": "2025-11-24T14:00:00.000Z"
      },
      "rollout": {
        "release": 43,
        "phase": "verify",
        "wave": 1,
        "waves": 2,
        "started_at": "2025-11-24T15:59:57.000Z"
      },
      "waits_for": [
        "dag-02"
      ],
      "quarantined": [
        {
          "release": 41,
          "node": "dag-01",
          "message": "NameError"
        }
      ],
      "skipped": [
        {
          "path": "run.sock",
          "why": "socket is not carried"
        }
      ],
      "watch": {
        "mode": "poll",
        "state": "polling",
        "advice": "this file system reports no events"
      },
      "release": null,
      "skew": [
        {
          "name": "dagster",
          "versions": [
            {
              "version": "1.11.2",
              "count": 2,
              "nodes": [
                "dag-01"
              ]
            }
          ]
        }
      ],
      "nodes": [],
      "not_in_git": [
        {
          "release": 42,
          "paths": [
            "assets/orders.py"
          ],
          "git": {
            "commit": "9c1d0aa4f0e1d2c3b4a5968778695a4b3c2d1e0f",
            "branch": "main",
            "dirty": true
          }
        }
      ]
    }
    "#);
}
