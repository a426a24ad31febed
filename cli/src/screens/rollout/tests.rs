use std::time::Duration;

use codevol_protocol::dependency::DependencyWarning;
use codevol_protocol::evidence::Evidence;
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::status::{Event, EventKind, NodeState, OutcomeKind};
use insta::assert_snapshot;

use super::{Rollout, done, event_line, warning};
use crate::screens::sample::{
    HOSTILE, NOW, activated, event, failed, outcome, plain, returned, staged, text, verified,
};

fn rollout(events: &[Event]) -> Rollout {
    let mut rollout = Rollout::new(Seq(42));
    for event in events {
        rollout.take(event);
    }
    rollout
}

#[test]
fn each_node_shows_its_steps_while_they_go_on() {
    let rollout = rollout(&[
        staged(42, "dag-01"),
        staged(42, "dag-02"),
        Event {
            wave: Some(2),
            ..staged(42, "dag-03")
        },
        failed(42, "dag-04", "stage"),
        activated(42, "dag-01"),
        activated(42, "dag-02"),
        verified(42, "dag-01"),
        event(EventKind::NodeOffline, 42, "dag-05"),
    ]);
    assert_snapshot!(rollout.going_on(UnixMillis(NOW.0 + 800)), @"
    rolling out r42

      NODE    STAGE     ACTIVATE          VERIFY
      dag-01  ok 412 B  ok 3 ms           proven 1.2s
      dag-02  ok 412 B  ok 3 ms           ... 800 ms
      dag-03  ok 412 B  waits for wave 2
      dag-04  failed
      dag-05  ...                         offline
    ");
}

#[test]
fn a_long_list_of_nodes_leaves_room_on_the_terminal() {
    let events: Vec<Event> = (0..40)
        .map(|n| staged(42, &format!("dag-{n:02}")))
        .collect();
    let screen = rollout(&events).going_on(NOW);
    assert!(screen.lines().count() < 24, "{screen}");
    assert!(screen.contains("and 25 more"), "{screen}");
}

#[test]
fn an_ended_rollout_shows_evidence_or_the_state() {
    let mut unproven = verified(42, "dag-02");
    unproven.evidence = Some(Evidence::Activated);
    let rollout = rollout(&[
        staged(42, "dag-01"),
        activated(42, "dag-01"),
        verified(42, "dag-01"),
        staged(42, "dag-02"),
        activated(42, "dag-02"),
        unproven,
        failed(42, "dag-04", "activate"),
    ]);
    let nodes = [
        ("dag-01", NodeState::Live),
        ("dag-02", NodeState::Unverified),
        ("dag-03", NodeState::Offline),
        ("dag-04", NodeState::Failed),
        ("dag-05", NodeState::Live),
    ];
    let outcome = outcome(OutcomeKind::Done, 42, 42, &nodes);
    assert_snapshot!(plain(&rollout.ended(&outcome).unwrap()), @"
    NODE    STAGE     ACTIVATE  VERIFY
    dag-01  ok 412 B  ok 3 ms   proven 1.2s
    dag-02  ok 412 B  ok 3 ms   unverified
    dag-03  -         -         offline
    dag-04  -         failed    failed
    dag-05  -         -         live
    ");
}

#[test]
fn who_was_taken_back_shows_where_to() {
    let rollout = rollout(&[
        staged(42, "dag-01"),
        activated(42, "dag-01"),
        failed(42, "dag-01", "verify"),
        returned(41, "dag-01"),
        staged(42, "dag-02"),
        activated(42, "dag-02"),
        failed(42, "dag-02", "verify"),
    ]);
    let nodes = [("dag-01", NodeState::Live), ("dag-02", NodeState::Failed)];
    let outcome = outcome(OutcomeKind::Failed, 42, 41, &nodes);
    assert_snapshot!(plain(&rollout.ended(&outcome).unwrap()), @"
    NODE    STAGE     ACTIVATE  VERIFY
    dag-01  ok 412 B  ok 3 ms   back on r41
    dag-02  ok 412 B  ok 3 ms   broken
    ");
}

#[test]
fn what_happens_to_other_releases_is_passed_over() {
    let rollout = rollout(&[
        staged(41, "dag-01"),
        activated(41, "dag-02"),
        verified(41, "dag-03"),
    ]);
    assert_eq!(rollout, Rollout::new(Seq(42)));
}

#[test]
fn without_nodes_there_is_no_table() {
    assert_eq!(
        rollout(&[]).ended(&outcome(OutcomeKind::Done, 42, 42, &[])),
        None
    );
}

#[test]
fn the_end_counts_who_is_live_and_names_who_is_not() {
    let took = Duration::from_millis(4_200);
    let end = |nodes: &[(&str, NodeState)]| {
        done(Seq(42), &outcome(OutcomeKind::Done, 42, 42, nodes), took)
    };
    let live = [("dag-01", NodeState::Live), ("dag-02", NodeState::Live)];
    let partly = [
        ("dag-01", NodeState::Live),
        ("dag-02", NodeState::Offline),
        ("dag-03", NodeState::Offline),
        ("dag-04", NodeState::Unverified),
        ("dag-05", NodeState::Behind),
        ("dag-06", NodeState::Joining),
    ];
    let ends = [end(&live), end(&partly), end(&[])].join("\n\n");
    assert_snapshot!(ends, @"
    Live on 2 of 2 in 4.2s

    Live on 1 of 6 in 4.2s
      dag-02 and dag-03 are offline and will catch up
      dag-05 is on the way
      dag-04 is unverified: `codevol status` says why
      dag-06 is without a release yet: `codevol status` says why

    r42 is live, but on no server: no node is enrolled (`codevol invite`)
    ");
}

#[test]
fn who_is_held_is_not_on_the_way() {
    let nodes = [
        ("dag-01", NodeState::Live),
        ("dag-02", NodeState::Behind),
        ("dag-03", NodeState::Behind),
    ];
    let mut outcome = outcome(OutcomeKind::Done, 42, 42, &nodes);
    outcome.held = ["dag-01", "dag-02"]
        .map(|name| name.parse().unwrap())
        .into();
    assert_snapshot!(done(Seq(42), &outcome, Duration::from_secs(2)), @"
    Live on 1 of 3 in 2.0s
      dag-02 is held, and left out until `codevol thaw --node NAME`
      dag-03 is on the way
    ");
}

#[test]
fn a_newer_release_that_came_between_is_named() {
    let outcome = outcome(OutcomeKind::Done, 43, 43, &[("dag-01", NodeState::Live)]);
    assert_snapshot!(done(Seq(42), &outcome, Duration::from_secs(2)), @"
    r43 came after r42, and is live in its place
    Live on 1 of 1 in 2.0s
    ");
}

#[test]
fn off_a_terminal_each_event_is_a_line() {
    let mut unproven = verified(42, "dag-01");
    unproven.error = failed(42, "dag-01", "verify").error;
    let mut offline = event(EventKind::NodeOffline, 42, "dag-01");
    offline.release = None;
    let lines = [
        event(EventKind::ReleasePublished, 42, ""),
        staged(42, "dag-01"),
        activated(42, "dag-01"),
        verified(42, "dag-01"),
        unproven,
        failed(42, "dag-01", "verify"),
        returned(41, "dag-01"),
        offline,
        event(EventKind::StepsMissed, 42, ""),
        Event {
            error: failed(42, "dag-01", "stage").error,
            ..event(EventKind::NodeWarned, 42, "dag-01")
        },
    ];
    assert_snapshot!(lines.each_ref().map(event_line).join("\n"), @"
    pipes published r42
    dag-01 staged r42 (412 B, 9 ms)
    dag-01 activated r42 (3 ms)
    dag-01 verified r42 (proven, 1.2s)
    dag-01 cannot prove r42 (proven, 1.2s): ModuleNotFoundError: No module named 'polars'
    dag-01 failed with r42: ModuleNotFoundError: No module named 'polars'
    dag-01 is back on r41 (proven)
    dag-01 is offline
    pipes took steps that were missed here; its state tells of them: r42
    dag-01 warns of r42: ModuleNotFoundError: No module named 'polars'
    ");
}

#[test]
fn a_warning_names_the_servers_what_they_lack_and_what_mends_it() {
    let mut said = DependencyWarning {
        count: 2,
        nodes: ["dag-01", "dag-02"].map(|n| n.parse().unwrap()).to_vec(),
        message: text("`/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3)"),
        hint: Some(text("`pip install` on that server")),
    };
    assert_snapshot!(warning(&said), @"
    on dag-01 and dag-02: `/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3)
      `pip install` on that server
    ");
    said.count = 300;
    (said.message, said.hint) = (text(HOSTILE), None);
    let hostile = warning(&said);
    assert!(
        hostile.starts_with("on dag-01, dag-02 and 298 more: "),
        "{hostile}"
    );
    let raw = |c: char| c.is_control() || c == '\u{202e}';
    assert!(!hostile.contains(raw), "{hostile:?}");
}

#[test]
fn of_steps_that_were_not_heard_of_only_that_they_happened_is_shown() {
    let mut rollout = Rollout::new(Seq(42));
    let mut verified = event(EventKind::NodeVerified, 42, "dag-01");
    verified.evidence = Some(Evidence::Proven);
    for event in [
        event(EventKind::NodeStaged, 42, "dag-01"),
        event(EventKind::NodeActivated, 42, "dag-01"),
        verified,
    ] {
        rollout.take(&event);
    }
    let outcome = outcome(OutcomeKind::Done, 42, 42, &[("dag-01", NodeState::Live)]);
    let table = rollout.ended(&outcome).unwrap();
    let plain = anstream::adapter::strip_str(&table).to_string();
    let row = plain.lines().last().unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["dag-01", "ok", "ok", "proven"], "{table}");
}
