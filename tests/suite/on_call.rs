//! The person on call, who works with codevol alone: one story over five hosts with addresses of their
//! own, three of them with real code servers.

use std::fs;

use codevol_tests::{Defines, Fleet, FleetStatus, Machine};
use serde_json::Value;

const NODES: [&str; 3] = ["dag-01", "dag-02", "dag-03"];

/// Pushes a file of the laptop as the tree's `pipes/orders.py`, and returns the command's exit status
/// and its last line.
fn push(laptop: &Machine, text: &Defines, message: &str) -> (i32, Value) {
    let file = laptop.save("orders.py", text.text());
    let file = file.to_str().unwrap();
    let args = ["push", "--as", "pipes/orders.py", file, "-m", message];
    let pushed = laptop.run(&[&args[..], &["--json"]].concat());
    (pushed.code.unwrap(), pushed.last_json())
}

#[track_caller]
fn assert_proven(status: &FleetStatus, seq: u64) {
    assert!(status.is_live_everywhere(seq), "{status}");
    for node in NODES {
        assert_eq!(status.node(node)["evidence"], "proven", "{status}");
    }
}

#[track_caller]
fn assert_serve(fleet: &Fleet, asset: &str) {
    for server in &fleet.servers {
        assert_eq!(server.assets(), [asset]);
    }
}

/// What ran on each node at a moment, by the journal.
fn ran_at(laptop: &Machine, time: &str) -> Vec<(String, u64)> {
    let told = laptop.run(&["log", "--at", time, "--json"]).exits(0).json();
    let nodes = told["nodes"].as_array().unwrap().iter();
    let ran = nodes.map(|node| (node["node"].as_str().unwrap().to_owned(), &node["release"]));
    ran.map(|(node, seq)| (node, seq.as_u64().unwrap()))
        .collect()
}

/// When a step of a release was taken, by its story.
fn time_of(laptop: &Machine, release: &str, step: &str) -> String {
    let told = laptop.run(&["log", release, "--json"]).exits(0).json();
    let mut steps = told["steps"].as_array().unwrap().iter();
    let found = steps.find(|each| each["step"] == step).unwrap_or(&told);
    assert!(found["at"].is_string(), "no `{step}` in {told:#}");
    found["at"].as_str().unwrap().to_owned()
}

/// Tuesday, 3 a.m.: the fix is live on all three, and in the source's tree.
fn a_fix_goes_live(fleet: &Fleet, laptop: &Machine) {
    let (code, last) = push(laptop, &Defines::asset("fixed"), "null customer ids");
    assert_eq!(
        (code, &last["event"]),
        (0, &"rollout.done".into()),
        "{last}"
    );
    let status = laptop.status();
    assert_proven(&status, 2);
    assert_serve(fleet, "fixed");
    let release = &status.volume()["release"];
    assert_eq!(release["origin"], "hot-fix");
    assert_eq!(release["author"], "alice");
    assert_eq!(release["message"], "null customer ids");
    let written = fs::read_to_string(fleet.source.tree().join("pipes/orders.py"));
    assert_eq!(written.unwrap(), Defines::asset("fixed").text());
}

/// The next one does not load: it is taken back on all three, with nobody's help.
fn a_broken_one_is_taken_back(fleet: &Fleet, laptop: &Machine) {
    let broken = Defines::asset("worse").and("import a_module_that_nobody_has");
    let (code, last) = push(laptop, &broken, "faster");
    assert_eq!((code, &last["returned"]), (1, &true.into()), "{last}");
    assert_serve(fleet, "fixed");
    let status = laptop.status();
    assert_proven(&status, 2);
    assert_eq!(status.quarantined(), [3]);
    let story = laptop.run(&["log", "r3"]).exits(0);
    assert!(story.stdout.contains("a_module_that_nobody_has"), "{story}");
}

/// One server falls off the network: the others go on, and it catches up.
fn a_server_is_cut_off(fleet: &Fleet, laptop: &Machine) {
    let lost = &fleet.agents[2];
    lost.uplink().cut_off();
    let (code, last) = push(laptop, &Defines::asset("better"), "faster, and loads");
    assert_eq!(
        (code, &last["nodes"]["dag-03"]),
        (3, &"offline".into()),
        "{last}"
    );
    assert_eq!(lost.current_seq(), Some(2));
    lost.uplink().reconnect();
    fleet.source.wait_live_everywhere(4);
    fleet.servers[2].wait_serves(&["better"]);
}

/// It was the wrong fix: back to what ran on Monday, and nothing new until somebody says so.
fn all_of_it_is_taken_back(fleet: &Fleet, laptop: &Machine) {
    let back = ["rollback", "r1", "-m", "wrong figures", "--yes"];
    laptop.run(&back).succeeds();
    assert_proven(&laptop.status(), 5);
    assert_serve(fleet, "first");
    let stray = Defines::asset("stray");
    fleet.source.save("pipes/orders.py", stray.text());
    let frozen = laptop.run(&["push", "--json"]).exits(4).json();
    assert_eq!(frozen["kind"], "frozen", "{frozen}");
}

/// Friday: what ran on Tuesday, who wanted it, and what was seen of it.
fn it_is_told_of_later(fleet: &Fleet, laptop: &Machine) {
    let all_ran = |seq| NODES.map(|node| (node.to_owned(), seq)).to_vec();
    for (release, seq) in [("r2", 2), ("r5", 5)] {
        let time = time_of(laptop, release, "live");
        assert_eq!(ran_at(laptop, &time), all_ran(seq));
    }
    let story = laptop.run(&["log", "r2"]).exits(0).stdout;
    for said in [&["alice", "null customer ids", "proven"][..], &NODES].concat() {
        assert!(story.contains(said), "no `{said}` in {story}");
    }
    let diff = laptop.run(&["diff", "r1", "r2"]).exits(0).stdout;
    for line in ["-def first():", "+def fixed():"] {
        assert!(diff.contains(line), "no `{line}` in {diff}");
    }
    fleet.source.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_fix_from_a_laptop_goes_live_is_judged_taken_back_and_told_of_later() {
    let Some(fleet) = Fleet::with_dagster_on_network(3) else {
        return;
    };
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    assert_proven(&laptop.status(), 1);
    a_fix_goes_live(&fleet, &laptop);
    a_broken_one_is_taken_back(&fleet, &laptop);
    a_server_is_cut_off(&fleet, &laptop);
    all_of_it_is_taken_back(&fleet, &laptop);
    it_is_told_of_later(&fleet, &laptop);
    // What was wrong is mended in the tree, and saves go live again.
    laptop.run(&["thaw", "-m", "mended"]).succeeds();
    let mended = Defines::asset("mended");
    fleet.source.save("pipes/orders.py", mended.text());
    for server in &fleet.servers {
        server.wait_serves(&["mended"]);
    }
}
