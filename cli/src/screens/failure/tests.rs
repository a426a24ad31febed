use codevol_protocol::release::Seq;
use codevol_protocol::status::{Event, NodeState, Outcome, OutcomeKind};
use insta::assert_snapshot;

use super::report;
use crate::screens::rollout::Rollout;
use crate::screens::sample::{
    HOSTILE, activated, error, failed, outcome, plain, returned, staged, text,
};

fn rollout(events: &[Event]) -> Rollout {
    let mut rollout = Rollout::new(Seq(43));
    for event in events {
        rollout.take(event);
    }
    rollout
}

fn broken(nodes: &[(&str, NodeState)]) -> Outcome {
    Outcome {
        returned: true,
        error: Some(error("dag-01", 43, "verify")),
        ..outcome(OutcomeKind::Failed, 43, 42, nodes)
    }
}

const NODES: [(&str, NodeState); 3] = [
    ("dag-01", NodeState::Live),
    ("dag-02", NodeState::Live),
    ("dag-03", NodeState::Live),
];

fn first_wave() -> Rollout {
    rollout(&[
        staged(43, "dag-01"),
        staged(43, "dag-02"),
        activated(43, "dag-01"),
        failed(43, "dag-01", "verify"),
        returned(42, "dag-01"),
    ])
}

#[test]
fn a_broken_release_shows_the_users_own_error_and_where_the_servers_are() {
    let report = report(&first_wave(), &broken(&NODES), false);
    assert_snapshot!(plain(&report.render()), @"
    error: r43 is broken on dag-01; dag-01 is back on r42 (proven)
      node dag-01, in step verify; dag-02 and dag-03 were not touched

      assets/orders.py:17
        ModuleNotFoundError: No module named 'polars'
      [12 Dagster frames hidden, -v shows your own]

    hint: that server's Python (/opt/venv, 3.11) lacks a package the release imports; codevol sends code, not packages
    ");
    assert_eq!(report.kind, "broken");
}

#[test]
fn a_later_wave_is_named_and_who_stays_where_a_rollout_stops() {
    let told = rollout(&[
        activated(43, "dag-02"),
        activated(43, "dag-01"),
        failed(43, "dag-01", "verify"),
        returned(42, "dag-01"),
    ]);
    let mut outcome = broken(&NODES);
    (outcome.wave, outcome.waves) = (Some(2), Some(3));
    let second_line = |outcome: &Outcome| {
        let screen = plain(&report(&told, outcome, false).render());
        screen.lines().nth(1).unwrap().to_owned()
    };
    assert_snapshot!(second_line(&outcome), @"  node dag-01, wave 2 of 3; dag-03 was not touched");
    let dag_02 = "dag-02".parse().unwrap();
    outcome.nodes.insert(dag_02, NodeState::Behind);
    assert_snapshot!(second_line(&outcome), @"  node dag-01, wave 2 of 3; dag-03 was not touched; dag-02 stays on r43");
}

#[test]
fn verbose_shows_the_whole_traceback() {
    let report = report(&first_wave(), &broken(&NODES), true);
    assert_snapshot!(plain(&report.render()), @r#"
    error: r43 is broken on dag-01; dag-01 is back on r42 (proven)
      node dag-01, in step verify; dag-02 and dag-03 were not touched

      assets/orders.py:17
          File "assets/orders.py", line 17, in <module>
            import polars as pl
        ModuleNotFoundError: No module named 'polars'
      [12 Dagster frames hidden]

    hint: that server's Python (/opt/venv, 3.11) lacks a package the release imports; codevol sends code, not packages
    "#);
}

#[test]
fn all_who_went_back_are_named() {
    let rollout = rollout(&[
        activated(43, "dag-01"),
        activated(43, "dag-02"),
        failed(43, "dag-01", "verify"),
        returned(42, "dag-01"),
        returned(42, "dag-02"),
    ]);
    let report = report(&rollout, &broken(&NODES), false);
    assert_snapshot!(report.message, @"r43 is broken on dag-01; dag-01 and dag-02 are back on r42 (proven)");
}

#[test]
fn a_first_release_that_is_broken_stays() {
    let rollout = rollout(&[activated(43, "dag-01"), failed(43, "dag-01", "verify")]);
    let mut outcome = broken(&[("dag-01", NodeState::Failed)]);
    (outcome.live, outcome.returned) = (None, false);
    assert_snapshot!(report(&rollout, &outcome, false).message, @"r43 is broken on dag-01; it stays on dag-01: there is nothing better to go back to");
}

#[test]
fn a_release_that_cannot_be_staged_is_not_called_broken() {
    let mut outcome = broken(&NODES);
    outcome.returned = false;
    outcome.error = Some(error("dag-01", 43, "stage"));
    assert_snapshot!(report(&rollout(&[]), &outcome, false).message, @"r43 could not be staged on dag-01; r42 is still live");
}

#[test]
fn a_release_that_is_refused_for_its_packages_names_them_and_the_command_that_installs_them() {
    let mut outcome = broken(&NODES);
    outcome.returned = false;
    let mut refused = error("dag-01", 43, "stage");
    (refused.kind, refused.traceback, refused.hidden_frames) = (text("dependencies"), None, 0);
    refused.location = Some(text("requirements.txt:3"));
    refused.message = text("`/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3)");
    refused.hint = Some(text(
        "`/opt/venv/bin/python -m pip install 'polars==1.2'` on that server, then `codevol retry r43`",
    ));
    outcome.error = Some(refused);
    let report = report(&rollout(&[]), &outcome, false);
    assert_snapshot!(plain(&report.render()), @"
    error: r43 needs packages that dag-01 lacks; r42 is still live
      node dag-01, in step stage; dag-02 and dag-03 were not touched

      requirements.txt:3
        `/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3)

    hint: `/opt/venv/bin/python -m pip install 'polars==1.2'` on that server, then `codevol retry r43`
    ");
    assert_eq!(report.kind, "dependencies");
}

#[test]
fn a_failure_that_nobody_explains_says_so() {
    let outcome = outcome(OutcomeKind::Failed, 43, 42, &NODES);
    assert_snapshot!(plain(&report(&rollout(&[]), &outcome, false).render()), @"
    error: r43 did not go live; r42 is live
    hint: `codevol status` says why
    ");
}

#[test]
fn a_hostile_traceback_draws_nothing() {
    let mut outcome = broken(&NODES);
    let mut hostile = error("dag-01", 43, "verify");
    hostile.traceback = Some(text(HOSTILE));
    hostile.location = Some(text(HOSTILE));
    hostile.hint = Some(text(HOSTILE));
    hostile.step = text(HOSTILE);
    outcome.error = Some(hostile);
    let screen = plain(&report(&first_wave(), &outcome, true).render());
    let raw = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
    assert!(!screen.contains(raw), "{screen:?}");
}
