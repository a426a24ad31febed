//! What nobody needs any more: shown, deleted, and kept as long as somebody uses it.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use codevol_tests::{Fleet, Place, wait_until};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

fn named(releases: &Value) -> Vec<u64> {
    let releases = releases.as_array().unwrap().iter();
    releases
        .map(|named| named["release"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_source_keeps_what_it_is_told_to_and_the_records_of_all() {
    let fleet = Fleet::start_in(Place::in_memory(), 0, |source| {
        source.set("VOLUME__0__KEEP", "2");
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    let source = &fleet.source;
    // What was live of late is kept besides: the newest twenty.
    for n in 1..=26 {
        source.save("pipes/orders.py", format!("ORDERS = {n}\n"));
        source.run(&["push"]).succeeds();
    }
    let asked = source.run(&["gc"]).exits(2);
    assert!(asked.stderr.contains("`--yes`"), "{asked}");
    let dry = source.run(&["gc", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(
        (&dry["schema"], &dry["dry_run"]),
        (&"codevol.gc/1".into(), &true.into())
    );
    let would = named(&dry["releases"]);
    assert_eq!(would, [1, 2, 3, 4, 5, 6], "{dry}");
    assert!(dry["bytes"].as_u64().unwrap() > 0, "{dry}");
    source.run(&["diff", "r1", "r26"]).succeeds();

    let done = source.run(&["gc", "--yes", "--json"]).exits(0).json();
    assert_eq!(done["dry_run"], false);
    assert_eq!(done["bytes"], dry["bytes"]);
    assert_eq!(named(&done["releases"]), would);
    let again = source.run(&["gc", "--yes"]).exits(0);
    assert_eq!(again.stdout, "Nothing of pipes is to be deleted\n");
    let gone = source.run(&["rollback", "r1", "--yes"]).exits(4);
    assert!(gone.stderr.contains("not kept any more"), "{gone}");
    let log = source.run(&["log", "-n", "26", "--json"]).exits(0).json();
    assert_eq!(log["releases"].as_array().unwrap().len(), 26);
    source.run(&["verify", "--deep"]).succeeds();
}

#[test]
fn an_agent_deletes_no_release_that_a_process_uses() {
    let mut fleet = Fleet::start_with(1, |source| {
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    for n in 2..=6 {
        fleet
            .source
            .save("pipes/orders.py", format!("ORDERS = {n}\n"));
        fleet.source.wait_live_everywhere(n);
    }
    let agent = fleet.agent();
    // All were live today.
    let dry = agent.run(&["gc", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(named(&dry["releases"]), [0; 0], "{dry}");

    // Of which it knows nothing any more, as after a day.
    agent.process().terminate();
    let state = agent.place().path().join("dag-01/state");
    fs::remove_file(state.join("recovery-pipes")).unwrap();
    agent.set("VOLUME__0__KEEP", "1");
    let releases = agent.releases();
    let folder = |n: usize| agent.root().join("releases").join(&releases[n - 1]);
    let locked = File::open(folder(2).join(".codevol-release.json")).unwrap();
    flock(&locked, FlockOperation::LockShared).unwrap();
    let mut user = Command::new("sh");
    user.args(["-c", "sleep 600; :", "sh"]).arg(folder(3));
    let mut user = user.stdin(Stdio::null()).spawn().unwrap();
    agent.start();
    // It tidies up by itself, too, a moment after its start: what it has deleted by then is not named.
    let dry = agent.run(&["gc", "--dry-run", "--json"]).exits(0).json();
    let named_to_go = named(&dry["releases"]);
    assert!([vec![1, 4, 5], vec![]].contains(&named_to_go), "{dry}");
    assert_eq!(named(&dry["in_use"]), [2, 3], "{dry}");
    assert_eq!(dry["bytes"].as_u64().unwrap() > 0, !named_to_go.is_empty());

    let done = agent.run(&["gc", "--yes"]).exits(0);
    assert!(
        done.stdout
            .ends_with("In use, and kept until that ends: r2 and r3\n"),
        "{done}"
    );
    assert_eq!(
        agent.releases(),
        [1, 2, 5].map(|n: usize| releases[n].clone())
    );
    drop(locked);
    user.kill().unwrap();
    user.wait().unwrap();
    agent.run(&["gc", "--yes"]).succeeds();
    wait_until("only what is live is held", || agent.releases().len() == 1);
    assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 6\n");
}
