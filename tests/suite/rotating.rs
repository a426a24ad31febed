//! Another key for a node, without a new token, whatever dies meanwhile.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use codevol_tests::{Agent, Fleet, Place, Source, wait_for, wait_until};

fn state(agent: &Agent) -> PathBuf {
    agent.place().path().join(agent.name()).join("state")
}

/// Returns the key by which the source knows the node.
fn key_of(source: &Source) -> String {
    let nodes = source.run(&["node", "ls", "--json"]).exits(0).json();
    nodes["nodes"][0]["key"].as_str().unwrap().to_owned()
}

/// Waits until the node has another key than this, and nothing is left of the way there.
fn wait_for_another(fleet: &Fleet, old: &str) -> String {
    let agent = &fleet.agents[0];
    wait_for("the node has another key", || {
        let key = key_of(&fleet.source);
        let is_over = key != old && !state(agent).join("node.key.next").exists();
        is_over.then_some(key.clone()).ok_or(key)
    })
}

fn goes_on(fleet: &Fleet, n: u64) {
    fleet
        .source
        .save("pipes/orders.py", format!("ORDERS = {n}\n"));
    fleet.source.wait_live_everywhere(n);
}

#[test]
fn a_node_gets_another_key_without_a_new_token() {
    let mut fleet = Fleet::start(1);
    let old = key_of(&fleet.source);
    let rotated = fleet.agents[0].run(&["node", "rotate"]).exits(0);
    assert!(rotated.stdout.contains("which is revoked"), "{rotated}");
    let new = wait_for_another(&fleet, &old);
    goes_on(&fleet, 2);
    fleet.agent().process().kill();
    fleet.agent().start();
    goes_on(&fleet, 3);
    assert_eq!(key_of(&fleet.source), new);
    let audit = fleet.source.run(&["audit", "verify"]).exits(0);
    assert!(!audit.stdout.is_empty(), "{audit}");
    // Whoever has a copy of the old key is nobody.
    let refused = fleet.source.run(&["node", "rotate"]).exits(2);
    assert!(refused.stderr.contains("pinned by every node"), "{refused}");
    fleet.source.process().kill();
    wait_until("the link is down", || {
        fleet.agents[0].status().0["source"]["state"] != "connected"
    });
    let silent = fleet.agents[0].run(&["node", "rotate"]).exits(69);
    assert!(
        silent.stderr.contains("the source is not connected"),
        "{silent}"
    );
}

/// Puts a key file in a place, as the agent itself would have.
fn put(bytes: &[u8], to: &Path, like: &Path) {
    let stat = fs::metadata(like).unwrap();
    let mut file = File::create(to).unwrap();
    file.set_permissions(stat.permissions()).unwrap();
    file.write_all(bytes).unwrap();
    chown(to, Some(stat.uid()), Some(stat.gid())).unwrap();
}

#[test]
fn an_agent_that_was_killed_at_any_step_ends_what_it_began() {
    let mut fleet = Fleet::start(1);
    let first = key_of(&fleet.source);
    let folder = state(&fleet.agents[0]);
    let (key, next) = (folder.join("node.key"), folder.join("node.key.next"));
    // The next key is made, and nobody was told.
    fleet.agent().process().kill();
    let place = Arc::new(Place::new());
    let _other = Source::init(&place);
    let made = fs::read(place.path().join("source/state/node.key")).unwrap();
    put(&made, &next, &key);
    fleet.agent().start();
    let second = wait_for_another(&fleet, &first);
    goes_on(&fleet, 2);
    assert_eq!(fs::read(&key).unwrap(), made);

    // The source has revoked the old one, and the new one has not its name yet.
    fleet.agents[0].run(&["node", "rotate"]).succeeds();
    let third = wait_for_another(&fleet, &second);
    fleet.agent().process().kill();
    let newest = fs::read(&key).unwrap();
    put(&newest, &next, &key);
    put(&made, &key, &next);
    fleet.agent().start();
    goes_on(&fleet, 3);
    assert_eq!(wait_for_another(&fleet, &second), third);
    assert_eq!(fs::read(&key).unwrap(), newest);

    // The source is killed meanwhile, or has just been.
    for n in 4..7 {
        let before = key_of(&fleet.source);
        let mut rotate = fleet.agents[0].command();
        rotate
            .args(["node", "rotate"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut rotate = rotate.spawn().unwrap();
        fleet.source.process().kill();
        fleet.agent().process().kill();
        rotate.wait().unwrap();
        fleet.source.start();
        fleet.agent().start();
        goes_on(&fleet, n);
        let asked = fleet.agents[0].run(&["node", "rotate"]);
        assert_eq!(asked.code, Some(0), "{asked}");
        wait_for_another(&fleet, &before);
    }
}
