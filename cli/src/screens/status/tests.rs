mod documents;

use codevol_protocol::evidence::{CodeServerState, Evidence};
use codevol_protocol::release::{Origin, Seq};
use codevol_protocol::status::{
    AskedAt, Drift, DriftKind, FrozenStatus, HoldStatus, LinkState, NodeError, NodeState,
    NodeStatus, NotInGit, Phase, Quarantined, RolloutStatus, Skipped, SourceLink, VolumeStatus,
    WatchState, WatchStatus,
};
use insta::assert_snapshot;

use super::{render, render_host};
use crate::screens::sample::{
    HOSTILE, NOW, before, code_server, error, git, node, plain, status, text, volume,
};

fn shown(volumes: Vec<VolumeStatus>) -> String {
    plain(&render(&status(volumes), NOW))
}

fn hold(release: u64, why: &str, asked_at: AskedAt) -> HoldStatus {
    HoldStatus {
        release: Seq(release),
        why: text(why),
        by: text("alice"),
        at: before(120),
        asked_at,
    }
}

fn offline(name: &str, release: u64) -> NodeStatus {
    NodeStatus {
        state: NodeState::Offline,
        lag: 1,
        evidence: None,
        last_seen_at: Some(before(840)),
        ..node(name, release)
    }
}

#[test]
fn a_fleet_in_order_is_a_table_and_no_more() {
    let mut second = node("dag-02", 42);
    second
        .code_servers
        .push(code_server(CodeServerState::Good, Some(2_900)));
    assert_snapshot!(shown(vec![volume(42, vec![node("dag-01", 42), second])]), @r#"
    pipes   r42  push by alice, 2h ago, "null customer ids"             live on 2 of 2

      NODE    RELEASE       STATE  CODE SERVER       EVIDENCE  LAG  SEEN
      dag-01  r42 4b0f60af  live   loaded in 1.2s    proven    -    now
      dag-02  r42 4b0f60af  live   2 loaded in 2.9s  proven    -    now
    "#);
}

#[test]
fn who_is_offline_is_told_to_catch_up() {
    let nodes = vec![
        node("dag-01", 42),
        node("dag-02", 42),
        offline("dag-03", 41),
    ];
    let mut volume = volume(42, nodes);
    let release = volume.release.as_mut().unwrap();
    (release.origin, release.git) = (Origin::HotFix, git(true));
    volume.not_in_git.push(NotInGit {
        release: Seq(42),
        paths: vec!["assets/orders.py".parse().unwrap()],
        git: git(true),
    });
    assert_snapshot!(shown(vec![volume]), @r#"
    pipes   r42  hot-fix by alice, 2h ago, "null customer ids"          live on 2 of 3

      NODE    RELEASE       STATE    CODE SERVER     EVIDENCE  LAG  SEEN
      dag-01  r42 4b0f60af  live     loaded in 1.2s  proven    -    now
      dag-02  r42 4b0f60af  live     loaded in 1.2s  proven    -    now
      dag-03  r41           offline  ?               -         1    14m ago

    # Health
    #   dag-03 has not been seen for 14m; it will catch up to r42 when it returns
    #   r42 is a hot-fix that is not in git (9c1d0aa, dirty)
    "#);
}

/// One node of each kind that is not as it should be.
fn troubled() -> Vec<NodeStatus> {
    let unverified = NodeStatus {
        state: NodeState::Unverified,
        evidence: Some(Evidence::Activated),
        code_servers: vec![
            code_server(CodeServerState::Unproven, None),
            code_server(CodeServerState::Good, Some(900)),
        ],
        error: Some(error("dag-01", 42, "verify")),
        ..node("dag-01", 42)
    };
    let failed = NodeStatus {
        state: NodeState::Failed,
        code_servers: vec![code_server(CodeServerState::Broken, None)],
        ..node("dag-02", 41)
    };
    let drifting = NodeStatus {
        held: Some(hold(40, "debugging here", AskedAt::Node)),
        drift: vec![
            Drift {
                release: Seq(42),
                path: text("a.py"),
                kind: DriftKind::Changed,
            },
            Drift {
                release: Seq(42),
                path: text("b.py"),
                kind: DriftKind::Missing,
            },
        ],
        code_servers: Vec::new(),
        ..node("dag-03", 42)
    };
    let never = NodeStatus {
        release: None,
        last_seen_at: None,
        ..offline("dag-04", 0)
    };
    vec![unverified, failed, drifting, never]
}

#[test]
fn all_that_is_wrong_is_said_with_what_mends_it() {
    let mut volume = volume(42, troubled());
    volume.head = Some(Seq(44));
    volume.frozen = Some(FrozenStatus {
        why: text("rolled back from r43"),
        by: text("alice"),
        at: before(7_200),
    });
    volume.quarantined = vec![Quarantined {
        release: Seq(43),
        node: "dag-02".parse().unwrap(),
        message: text("ModuleNotFoundError: No module named 'polars'"),
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
    assert_snapshot!(shown(vec![volume]), @r#"
    pipes   r42  push by alice, 2h ago, "null customer ids"             live on 1 of 4

      NODE    RELEASE       STATE       CODE SERVER      EVIDENCE   LAG  SEEN
      dag-01  r42 4b0f60af  unverified  1 of 2 unproven  activated  -    now
      dag-02  r41           failed      broken           proven     -    now
      dag-03  r42 4b0f60af  live        -                proven     -    now
      dag-04  -             offline     ?                -          1    never

    # Health
    #   frozen by alice, 2h ago: rolled back from r43; `codevol thaw` ends it
    #   dag-01 runs r42, but nothing proves it: assets/orders.py:17: ModuleNotFoundError: No module named 'polars'; that server's Python (/opt/venv, 3.11) lacks a package the release imports; codevol sends code, not packages
    #   dag-02 failed: it says no more
    #   dag-03 is held on r40 by alice on its own host, 2m ago: debugging here; rollouts leave it out until `codevol thaw --node dag-03`
    #   on dag-03 2 paths are not as released: a.py (changed) and b.py (missing); `codevol diff --node dag-03` shows how
    #   dag-04 was never seen; it will catch up to r42 when it returns
    #   r43 is broken on dag-02: ModuleNotFoundError: No module named 'polars'; `codevol retry r43` tries it again
    #   r44 is published, and waits for a thaw
    #   1 path is in no release: `run.sock` (socket is not carried)
    #   the tree is polled: a change is seen up to a second late; this file system reports no events
    "#);
}

#[test]
fn who_does_not_come_to_what_is_live_is_named_with_what_keeps_it() {
    let full = |release| {
        Some(NodeError {
            message: text("cannot write `releases`: no space left on device"),
            location: None,
            hint: None,
            ..error("dag-01", release, "stage")
        })
    };
    let behind = NodeStatus {
        state: NodeState::Behind,
        error: full(42),
        ..node("dag-01", 41)
    };
    let staged_after_all = NodeStatus {
        state: NodeState::Staged,
        staged: vec![Seq(42), Seq(41)],
        error: full(42),
        ..node("dag-02", 41)
    };
    let of_another = NodeStatus {
        state: NodeState::Behind,
        error: full(40),
        ..node("dag-03", 41)
    };
    let never = NodeStatus {
        state: NodeState::Joining,
        release: None,
        last_seen_at: None,
        ..node("dag-04", 0)
    };
    let nodes = vec![behind, staged_after_all, of_another, never];
    let shown = shown(vec![volume(42, nodes)]);
    let health: Vec<&str> = shown.lines().filter(|line| line.starts_with('#')).collect();
    assert_snapshot!(health.join("\n"), @"
    # Health
    #   dag-01 has not got r42, in step stage: cannot write `releases`: no space left on device
    #   dag-04 has joined and was never seen: `codevol agent` on its host connects it
    ");
}

#[test]
fn a_rollout_shows_how_far_it_is() {
    let mut volume = volume(42, vec![node("dag-01", 42)]);
    volume.head = Some(Seq(43));
    volume.rollout = Some(RolloutStatus {
        release: Seq(43),
        phase: Phase::Verify,
        wave: 1,
        waves: 2,
        started_at: before(3),
    });
    assert_snapshot!(shown(vec![volume]), @r#"
    pipes   r42  push by alice, 2h ago, "null customer ids"             live on 1 of 1
    rollout of r43: verifies, wave 1 of 2, for 3.0s

      NODE    RELEASE       STATE  CODE SERVER     EVIDENCE  LAG  SEEN
      dag-01  r42 4b0f60af  live   loaded in 1.2s  proven    -    now
    "#);
}

#[test]
fn who_is_waited_for_and_who_stays_after_a_stop_are_named() {
    let stays = NodeStatus {
        state: NodeState::Behind,
        ..node("dag-01", 43)
    };
    let mut volume = volume(42, vec![stays, offline("dag-02", 42)]);
    volume.head = Some(Seq(44));
    volume.waits_for = vec!["dag-02".parse().unwrap()];
    volume.quarantined = vec![Quarantined {
        release: Seq(43),
        node: "dag-02".parse().unwrap(),
        message: text("NameError"),
    }];
    let shown = shown(vec![volume]);
    let health: Vec<&str> = shown.lines().filter(|line| line.starts_with('#')).collect();
    assert_snapshot!(health.join("\n"), @r#"
    # Health
    #   dag-02 has not been seen for 14m
    #   r43 is broken on dag-02: NameError; `codevol retry r43` tries it again
    #   dag-01 stays on r43, as the rollout was to stop; `codevol retry r43`, or push what mends it
    #   r44 waits for dag-02: `require_online` is "all"; `codevol node rm` for one that is gone for good
    "#);
}

#[test]
fn who_is_held_is_not_told_to_catch_up() {
    let held = NodeStatus {
        held: Some(hold(41, "rolled back by hand", AskedAt::Source)),
        ..offline("dag-01", 41)
    };
    let shown = shown(vec![volume(42, vec![held])]);
    let health: Vec<&str> = shown.lines().filter(|line| line.starts_with('#')).collect();
    assert_snapshot!(health.join("\n"), @"
    # Health
    #   dag-01 has not been seen for 14m
    #   dag-01 is held on r41 by alice, 2m ago: rolled back by hand; rollouts leave it out until `codevol thaw --node dag-01`
    ");
}

#[test]
fn a_head_that_waits_says_what_for() {
    let mut volume = volume(42, vec![node("dag-01", 42)]);
    volume.head = Some(Seq(43));
    assert_snapshot!(shown(vec![volume]), @r#"
    pipes   r42  push by alice, 2h ago, "null customer ids"             live on 1 of 1

      NODE    RELEASE       STATE  CODE SERVER     EVIDENCE  LAG  SEEN
      dag-01  r42 4b0f60af  live   loaded in 1.2s  proven    -    now

    # Health
    #   r43 is published, but not live; `codevol retry r43` rolls it out
    "#);
}

#[test]
fn nothing_published_and_nobody_enrolled_are_said() {
    let mut empty = volume(1, Vec::new());
    (empty.head, empty.live, empty.release) = (None, None, None);
    let mut held = volume(1, Vec::new());
    held.live = None;
    assert_snapshot!(shown(vec![empty, held, volume(1, Vec::new())]), @r#"
    pipes   nothing is published

    # Health
    #   no node is enrolled; `codevol invite` makes a token for one

    pipes   r1  push by alice, 2h ago, "null customer ids"              not live yet

    # Health
    #   r1 is published, but not live; `codevol retry r1` rolls it out
    #   no node is enrolled; `codevol invite` makes a token for one

    pipes   r1  push by alice, 2h ago, "null customer ids"              live on no server

    # Health
    #   no node is enrolled; `codevol invite` makes a token for one
    "#);
    assert_snapshot!(shown(Vec::new()), @"no volume is configured");
}

#[test]
fn an_agent_says_how_it_stands_with_its_source() {
    let mut own = status(vec![volume(42, vec![node("dag-01", 42)])]);
    own.listen = None;
    let states = [
        LinkState::Connected,
        LinkState::Connecting,
        LinkState::Refused,
    ];
    let lines = states.map(|state| {
        let address = text("10.0.0.1:7443");
        own.source = Some(SourceLink { address, state });
        plain(&render(&own, NOW)).lines().next().unwrap().to_owned()
    });
    assert_snapshot!(lines.join("\n"), @"
    source 10.0.0.1:7443   connected
    source 10.0.0.1:7443   not connected: this server goes on with what it has, and dials again
    source 10.0.0.1:7443   refused: the source does not know this node's key; `codevol join TOKEN` enrols it anew
    ");
}

#[test]
fn remote_strings_stay_on_their_line_and_draw_nothing() {
    let mut hostile = node("dag-01", 42);
    hostile.state = NodeState::Failed;
    let mut wrong = error("dag-01", 42, "verify");
    (wrong.message, wrong.location) = (text(HOSTILE), Some(text(HOSTILE)));
    hostile.error = Some(wrong);
    hostile.held = Some(HoldStatus {
        by: text(HOSTILE),
        ..hold(42, HOSTILE, AskedAt::Source)
    });
    hostile.drift = vec![Drift {
        release: Seq(42),
        path: text(HOSTILE),
        kind: DriftKind::Foreign,
    }];
    let mut volume = volume(42, vec![hostile]);
    let release = volume.release.as_mut().unwrap();
    (release.author, release.message) = (text(HOSTILE), text(HOSTILE));
    volume.skipped = vec![Skipped {
        path: text(HOSTILE),
        why: text(HOSTILE),
    }];
    let lines = shown(vec![volume]);
    assert_eq!(lines.lines().count(), 10, "{lines}");
    assert!(
        !lines.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{lines:?}"
    );
}

#[test]
fn what_is_found_of_this_host_stands_below_and_is_neutralised() {
    let found = ["127.0.0.1:4000 runs as root".to_owned(), HOSTILE.to_owned()];
    let shown = plain(&render_host(&found));
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some(""));
    assert_eq!(lines.next(), Some("# This host"));
    assert_eq!(lines.next(), Some("#   127.0.0.1:4000 runs as root"));
    assert_eq!(lines.count(), 1, "{shown}");
    assert!(!render_host(&found).contains(HOSTILE), "{shown}");
}
