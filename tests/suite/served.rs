//! What people do to a fleet while real code servers serve it.

use std::process::{Child, Stdio};

use codevol_tests::{Defines, Fleet, FleetStatus, Machine};

/// Begins a hot-fix from a laptop, and does not wait for its end.
fn begin_push(laptop: &Machine, text: &Defines) -> Child {
    let file = laptop.save("orders.py", text.text());
    let mut push = laptop.command();
    let args = ["push", "--json", "--as", "pipes/orders.py"];
    push.args(args).arg(file).stdin(Stdio::null());
    push.stdout(Stdio::piped()).stderr(Stdio::piped());
    push.spawn().unwrap()
}

#[test]
fn a_freeze_over_a_push_lets_that_end_and_nothing_new_begin() {
    let Some(fleet) = Fleet::with_dagster(2) else {
        return;
    };
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let slow = Defines::asset("second").and("import time\ntime.sleep(3)");
    let push = begin_push(&laptop, &slow);
    let canary = |status: &FleetStatus| {
        let rollout = &status.volume()["rollout"];
        (&rollout["phase"], &rollout["wave"]) == (&"verify".into(), &1.into())
    };
    fleet.source.wait("the canary loads it", canary);
    fleet.source.run(&["freeze", "-m", "month end"]).succeeds();
    fleet.source.save("pipes/extra.py", "EXTRA = 1\n");
    let pushed = push.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&pushed.stdout);
    assert_eq!(pushed.status.code(), Some(0), "{said}");
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.volume()["frozen"]["why"], "month end", "{status}");
    for server in &fleet.servers {
        assert_eq!(server.assets(), ["second"]);
    }
    let refused = laptop.run(&["push", "--json"]).exits(4).json();
    assert_eq!(refused["kind"], "frozen", "{refused}");
    assert_eq!(fleet.source.status().head(), 2);
    laptop.run(&["thaw"]).succeeds();
    fleet.source.wait_live_everywhere(3);
    assert!(fleet.agents[1].read("pipes/extra.py").is_some());
}

#[test]
fn an_edit_in_the_way_of_a_hot_fix_stays_and_servers_serve_what_they_served() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    let (source, server) = (&fleet.source, &fleet.servers[0]);
    let laptop = Machine::join(source, "alice", "operator");
    source.save("pipes/orders.py", Defines::asset("second").text());
    source.wait_live_everywhere(2);
    source.run(&["rollback", "r1", "-y"]).succeeds();
    let edit = Defines::asset("somebody_is_at_it");
    source.save("pipes/orders.py", edit.text());
    let fixed = laptop.save("orders.py", Defines::asset("fixed").text());
    let push = ["push", "--as", "pipes/orders.py", fixed.to_str().unwrap()];
    let refused = laptop.run(&[&push[..], &["--json"]].concat()).exits(4);
    assert_eq!(refused.json()["kind"], "conflict", "{refused}");
    let stands = || std::fs::read_to_string(source.tree().join("pipes/orders.py")).unwrap();
    assert_eq!(stands(), edit.text());
    let status = source.wait_live_everywhere(3);
    assert_eq!(status.head(), 3, "nothing was published: {status}");
    assert_eq!(server.assets(), ["first"]);
    let shown = laptop.run(&["diff"]).exits(0).stdout;
    assert!(shown.contains("+def somebody_is_at_it():"), "{shown}");
    laptop.run(&[&push[..], &["--force"]].concat()).succeeds();
    assert_eq!(stands(), Defines::asset("fixed").text());
    source.wait_live_everywhere(4);
    assert_eq!(server.assets(), ["fixed"]);
}

#[test]
fn a_server_that_is_cut_off_is_taken_back_on_its_own_host_and_goes_on_when_it_is_thawed() {
    let Some(fleet) = Fleet::with_dagster_on_network(2) else {
        return;
    };
    let (source, lost) = (&fleet.source, &fleet.agents[1]);
    let save = |name| source.save("pipes/orders.py", Defines::asset(name).text());
    save("second");
    source.wait_live_everywhere(2);
    lost.uplink().cut_off();
    source.wait("the lost host is offline", |status| {
        status.state("dag-02") == "offline"
    });
    let back = ["rollback", "-m", "orders are wrong", "--yes", "--json"];
    let went = lost.run(&back).exits(0).json();
    let found = (&went["active"], &went["evidence"], &went["held"]);
    assert_eq!(found, (&1.into(), &"proven".into(), &true.into()));
    assert_eq!(fleet.servers[1].assets(), ["first"]);
    save("third");
    source.wait("r3 is live", |status| status.live() == 3);
    lost.uplink().reconnect();
    let status = source.wait("it has staged what the others run", |status| {
        let staged = &status.node("dag-02")["staged"];
        staged[0] == 3 && status.state("dag-02") == "behind"
    });
    let held = &status.node("dag-02")["held"];
    assert_eq!(held["why"], "orders are wrong", "{status}");
    assert_eq!(fleet.servers[0].assets(), ["third"]);
    assert_eq!(fleet.servers[1].assets(), ["first"]);
    source.run(&["thaw", "--node", "dag-02"]).succeeds();
    source.wait_live_everywhere(3);
    assert_eq!(fleet.servers[1].assets(), ["third"]);
}
