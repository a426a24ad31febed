//! What was: a release's story, what ran where, and the journal that both are read from.

use codevol_tests::{Defines, Fleet, Source};
use serde_json::Value;

/// Returns the steps of a release: `staged dag-01`, `live 2`.
fn steps(source: &Source, release: &str) -> Vec<String> {
    let told = source.run(&["log", release, "--json"]).exits(0).json();
    let step = |step: &Value| {
        let word = step["step"].as_str().unwrap();
        match (step["node"].as_str(), word) {
            (Some(node), "returned") => format!("{word} {node} to r{}", step["release"]),
            (Some(node), _) => format!("{word} {node}"),
            (None, "live") => format!("{word} r{}", step["release"]),
            (None, _) => word.to_owned(),
        }
    };
    told["steps"].as_array().unwrap().iter().map(step).collect()
}

fn has_in_order(steps: &[String], expected: &[&str]) {
    let mut rest = steps.iter();
    for word in expected {
        assert!(
            rest.any(|step| step == word),
            "{word} is not next: {steps:#?}"
        );
    }
}

#[test]
fn the_story_of_a_release_goes_from_its_push_to_its_rollback() {
    let fleet = Fleet::start(2);
    let source = &fleet.source;
    source.save("pipes/orders.py", "ORDERS = 2\n");
    source.run(&["push"]).succeeds();
    source
        .run(&["rollback", "-m", "wrong figures", "--yes"])
        .succeeds();
    source.run(&["thaw"]).succeeds();
    let told = steps(source, "r2");
    for node in ["dag-01", "dag-02"] {
        let (staged, activated) = (format!("staged {node}"), format!("activated {node}"));
        let verified = format!("verified {node}");
        let words = ["published", &staged, &activated, &verified, "live r2"];
        has_in_order(&told, &words);
    }
    has_in_order(&told, &["live r2", "rolled-back", "frozen", "live r3"]);
    has_in_order(&steps(source, "r3"), &["published", "live r3", "thawed"]);
    let screen = source.run(&["log", "r2"]).exits(0).stdout;
    assert!(screen.contains("rolled back from r2 to r1"), "{screen}");
}

#[test]
fn what_ran_where_is_found_for_each_moment_of_a_story() {
    let mut fleet = Fleet::start(1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let ran = |source: &Source, at: &str| {
        let found = source.run(&["log", "--at", at, "--node", "dag-01", "--json"]);
        found.exits(0).json()["nodes"][0].clone()
    };
    let told = fleet.source.run(&["log", "r2", "--json"]).exits(0).json();
    let time = |word: &str| {
        let step = told["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["step"] == word);
        step.unwrap()["at"].as_str().unwrap().to_owned()
    };
    // What was recorded may share its millisecond with what came next: the first and the last do not.
    let published = ran(&fleet.source, &time("published"));
    assert_eq!(published["release"], 1, "{published}");
    assert_eq!(published["found"], "good", "{published}");
    let live = ran(&fleet.source, &time("live"));
    assert_eq!(live["release"], 2, "{live}");
    assert_eq!(live["since"], time("activated").as_str(), "{live}");
    // The journal outlives the daemon.
    fleet.source.crash_and_restart();
    let after = ran(&fleet.source, &time("live"));
    assert_eq!(after, live);
    let before = fleet
        .source
        .run(&["log", "--at", "2020-01-01T00:00:00Z", "--json"])
        .exits(4);
    assert_eq!(before.json()["kind"], "not-found", "{before}");
    let unknown = fleet
        .source
        .run(&["log", "--at", "0s ago", "--node", "dag-09", "--json"]);
    assert_eq!(unknown.exits(4).json()["kind"], "not-found");
}

#[test]
fn a_diff_compares_releases_and_the_tree_and_always_ends_well() {
    let fleet = Fleet::start_with(0, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ONE = 1\nTWO = 2\n");
    });
    let source = &fleet.source;
    source.run(&["push"]).succeeds();
    let same = source.run(&["diff"]).exits(0).stdout;
    assert_eq!(same, "r1 and tree are the same\n");
    source.save("pipes/orders.py", "ONE = 1\nTWO = 22\n");
    let expected = "changed pipes/orders.py (file)\n--- r1/pipes/orders.py\n\
        +++ tree/pipes/orders.py\n@@ -1,2 +1,2 @@\n ONE = 1\n-TWO = 2\n+TWO = 22\n";
    // Nothing of it is coloured where no terminal reads.
    assert_eq!(source.run(&["diff"]).exits(0).stdout, expected);
    source.run(&["push"]).succeeds();
    let releases = source.run(&["diff", "r1", "r2"]).exits(0).stdout;
    assert_eq!(releases, expected.replace("tree/", "r2/"));
    source.save("pipes/logo.png", b"\0\x01");
    let tree = source.run(&["diff", "r1", "--json"]).exits(0).json();
    let paths: Vec<&str> = tree["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["pipes/logo.png", "pipes/orders.py"], "{tree}");
    assert_eq!(tree["files"][0]["content"], "binary", "{tree}");
    let missing = source.run(&["diff", "r9", "--json"]).exits(4);
    assert_eq!(missing.json()["kind"], "not-found", "{missing}");
}

#[test]
fn the_journals_of_a_source_and_an_agent_are_whole_while_they_run_and_after_a_crash() {
    let mut fleet = Fleet::start(1);
    let whole = |host: &codevol_tests::Host| {
        let checked = host.run(&["audit", "verify", "--json"]).exits(0).json();
        assert_eq!(checked["bad"], Value::Null, "{checked}");
        checked["lines"].as_u64().unwrap()
    };
    let lines = whole(&fleet.source);
    assert!(lines > 0);
    assert!(whole(&fleet.agents[0]) > 0);
    fleet.source.process().kill();
    fleet.agents[0].process().kill();
    assert!(whole(&fleet.source) >= lines);
    assert!(whole(&fleet.agents[0]) > 0);
}

#[test]
fn the_story_of_a_broken_release_tells_who_found_it_and_who_went_back() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    let broken = Defines::asset("second").and("raise RuntimeError('no figures')");
    fleet.source.save("pipes/orders.py", broken.text());
    fleet.source.run(&["push"]).exits(1);
    let words = [
        "published",
        "staged dag-01",
        "activated dag-01",
        "broken dag-01",
        "quarantined dag-01",
        "returned dag-01 to r1",
        "rollout-failed",
    ];
    let told = steps(&fleet.source, "r2");
    has_in_order(&told, &words[..4]);
    has_in_order(&told, &words[4..5]);
    has_in_order(&told, &words[5..]);
    let screen = fleet.source.run(&["log", "r2"]).exits(0).stdout;
    assert!(screen.contains("RuntimeError"), "{screen}");
}
