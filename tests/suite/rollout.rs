//! Releases that go through the fleet in waves: who is touched, who is not, and who is waited for.

use codevol_tests::{Agent, Dagster, Defines, Fleet, FleetStatus, Start};
use serde_json::Value;

/// Restarts the source with these keys of `[volume.rollout]`.
fn with_policy(fleet: &mut Fleet, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        let key = format!("VOLUME__0__ROLLOUT__{key}");
        fleet.source.set(&key, value);
    }
    fleet.source.process().terminate();
    fleet.source.start();
    fleet.source.wait_live_everywhere(1);
}

/// Saves a second release whose code runs these lines when it is imported.
fn save_second(fleet: &Fleet, lines: &str) {
    let defines = Defines::asset("second").and(lines);
    fleet.source.save("pipes/orders.py", defines.text());
}

fn fails_on(node: &str) -> String {
    format!("assert '/{node}/' not in __file__, 'not here'")
}

/// What its code server said that it is: another one when it has loaded anything since.
fn server_id(status: &FleetStatus, node: &str) -> Value {
    let id = status.node(node)["code_servers"][0]["server_id"].clone();
    assert!(id.is_string(), "{status}");
    id
}

/// A node that runs r1 as before, with r2 staged beside it.
#[track_caller]
fn assert_untouched(fleet: &Fleet, number: usize, before: &FleetStatus) {
    let (agent, after) = (&fleet.agents[number], fleet.source.status());
    let name = agent.name();
    assert_eq!(agent.current_seq(), Some(1), "{after}");
    assert_eq!(server_id(&after, name), server_id(before, name), "{after}");
    assert_eq!(after.node(name)["staged"][0], 2, "{after}");
}

#[test]
fn a_broken_canary_is_taken_back_and_nobody_else_is_touched() {
    let Some(fleet) = Fleet::with_dagster(3) else {
        return;
    };
    let before = fleet.source.status();
    save_second(&fleet, &fails_on("dag-01"));
    let pushed = fleet.source.run(&["push", "--json"]).exits(1);
    let last = pushed.last_json();
    assert_eq!(last["error"]["node"], "dag-01", "{pushed}");
    assert_eq!(last["returned"], true, "{pushed}");
    assert_eq!((&last["wave"], &last["waves"]), (&1.into(), &2.into()));
    assert_untouched(&fleet, 1, &before);
    assert_untouched(&fleet, 2, &before);
    let status = fleet.source.wait_live_everywhere(1);
    assert_eq!(status.quarantined(), [2], "{status}");
    assert_eq!(fleet.servers[0].assets(), ["first"]);
}

#[test]
fn a_broken_second_wave_takes_the_first_back_and_the_third_is_not_touched() {
    let Some(mut fleet) = Fleet::with_dagster(3) else {
        return;
    };
    with_policy(&mut fleet, &[("CANARY", "1"), ("WAVE", "1")]);
    let before = fleet.source.status();
    save_second(&fleet, &fails_on("dag-02"));
    let pushed = fleet.source.run(&["push"]).exits(1);
    for expected in ["node dag-02, wave 2 of 3", "dag-03 was not touched"] {
        assert!(pushed.stderr.contains(expected), "{pushed}");
    }
    let status = fleet.source.wait_live_everywhere(1);
    assert_eq!(status.quarantined(), [2], "{status}");
    // The first wave had loaded it, and loaded r1 again.
    assert_ne!(server_id(&status, "dag-01"), server_id(&before, "dag-01"));
    for (agent, server) in fleet.agents.iter().zip(&fleet.servers) {
        assert_eq!(agent.current_seq(), Some(1));
        assert_eq!(server.assets(), ["first"]);
    }
    assert_untouched(&fleet, 2, &before);
}

#[test]
fn a_rollout_that_stops_leaves_the_good_where_they_are() {
    let Some(mut fleet) = Fleet::with_dagster(3) else {
        return;
    };
    let keys = [("CANARY", "1"), ("WAVE", "1"), ("ON_BROKEN", "stop")];
    with_policy(&mut fleet, &keys);
    let before = fleet.source.status();
    save_second(&fleet, &fails_on("dag-02"));
    let pushed = fleet.source.run(&["push", "--json"]).exits(1);
    let last = pushed.last_json();
    assert_eq!(last["returned"], false, "{pushed}");
    assert_eq!(last["live"], 1, "{pushed}");
    fleet.source.crash_and_restart();
    let status = fleet.source.wait("all have come back", |status| {
        let states = ["dag-01", "dag-02", "dag-03"].map(|node| status.state(node).to_owned());
        states == ["behind", "live", "live"]
    });
    assert_eq!(status.node("dag-01")["evidence"], "proven", "{status}");
    assert_eq!(fleet.servers[0].assets(), ["second"]);
    assert_eq!(fleet.servers[1].assets(), ["first"]);
    assert_untouched(&fleet, 2, &before);
    let shown = fleet.source.run(&["status"]).exits(0);
    assert!(shown.stdout.contains("dag-01 stays on r2"), "{shown}");
    // A release that is good brings them together again.
    fleet
        .source
        .save("pipes/orders.py", Defines::asset("third").text());
    fleet.source.wait_live_everywhere(3);
}

#[test]
fn a_source_killed_in_the_second_wave_goes_on_with_it() {
    let Some(mut fleet) = Fleet::with_dagster(2) else {
        return;
    };
    save_second(&fleet, "import time\ntime.sleep(3)");
    let rollout = |status: &FleetStatus| status.volume()["rollout"].clone();
    let before = fleet.source.wait("the second wave loads it", |status| {
        rollout(status)["wave"] == 2 && rollout(status)["phase"] == "verify"
    });
    fleet.source.crash_and_restart();
    let after = rollout(&fleet.source.status());
    if after["release"] == 2 {
        assert_eq!(after["wave"], 2, "{after}");
        assert_eq!(after["started_at"], rollout(&before)["started_at"]);
    }
    fleet.source.wait_live_everywhere(2);
    assert_eq!(fleet.servers[1].assets(), ["second"]);
}

#[test]
fn a_node_that_dies_between_stage_and_activate_is_left_behind_and_catches_up() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    fleet.add(&dagster, "dag-01", Start::Module);
    fleet.servers[0].wait();
    fleet
        .agents
        .push(Agent::join_and_start(&fleet.source, "dag-02", None));
    fleet.source.wait_live_everywhere(1);
    save_second(&fleet, "import time\ntime.sleep(3)");
    fleet
        .source
        .wait("the canary loads what the other has staged", |status| {
            status.volume()["rollout"]["phase"] == "verify"
                && status.node("dag-02")["staged"][0] == 2
        });
    fleet.agents[1].process().kill();
    let status = fleet.source.wait("r2 is live", |status| status.live() == 2);
    assert_eq!(status.state("dag-02"), "offline", "{status}");
    assert_eq!(fleet.agents[1].current_seq(), Some(1));
    fleet.agents[1].start();
    fleet.source.wait_live_everywhere(2);
    assert_eq!(fleet.agents[1].current_seq(), Some(2));
}

#[test]
fn a_fleet_without_code_servers_has_one_wave() {
    let fleet = Fleet::start(2);
    save_second(&fleet, "");
    let pushed = fleet.source.run(&["push", "--json"]).exits(0);
    let last = pushed.last_json();
    assert_eq!((&last["wave"], &last["waves"]), (&1.into(), &1.into()));
}

#[test]
fn where_all_must_be_online_a_release_waits_for_the_one_that_is_away() {
    let mut fleet = Fleet::start(2);
    with_policy(&mut fleet, &[("REQUIRE_ONLINE", "all")]);
    fleet.agents[1].process().kill();
    fleet.source.wait("dag-02 is away", |status| {
        status.state("dag-02") == "offline"
    });
    save_second(&fleet, "");
    let status = fleet
        .source
        .wait("r2 is published", |status| status.head() == 2);
    assert_eq!(status.live(), 1, "{status}");
    assert_eq!(status.volume()["waits_for"], serde_json::json!(["dag-02"]));
    let shown = fleet.source.run(&["status"]).exits(0);
    assert!(shown.stdout.contains("r2 waits for dag-02"), "{shown}");
    fleet.agents[1].start();
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.volume()["waits_for"], serde_json::json!([]));
}
