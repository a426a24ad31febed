//! Operators and publishers: commands from a machine that is not the source's host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use codevol_tests::{Fleet, Machine};

#[test]
fn an_operator_does_from_a_laptop_what_the_source_host_does() {
    let fleet = Fleet::start(1);
    let laptop = Machine::join(&fleet.source, "alice-laptop", "operator");
    assert!(laptop.status().is_live_everywhere(1));
    fleet.source.save("second.py", "x = 2\n");
    fleet.source.wait_live_everywhere(2);
    for args in [
        &["log"][..],
        &["log", "r2"],
        &["diff", "r1", "r2"],
        &["verify"],
        &["ping", "dag-01"],
        &["ignored"],
        &["ignored", "--why", "second.py"],
        &["node", "ls"],
        &["health", "--ready"],
        &["invite", "--name", "dag-09"],
        &["freeze", "-m", "from a laptop"],
        &["thaw"],
        &["doctor"],
    ] {
        laptop.run(args).exits(0);
    }
    // A long call streams its steps, and the record and the journal name the member.
    let back = laptop.run(&["rollback", "r1", "-y", "--json"]).exits(0);
    let last: serde_json::Value =
        serde_json::from_str(back.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "rollout.done", "{back}");
    let status = fleet.source.wait_live_everywhere(3);
    assert_eq!(status.volume()["release"]["author"], "alice-laptop");
    let told = fleet.source.run(&["log", "r3", "--json"]).exits(0);
    assert!(told.stdout.contains("alice-laptop"), "{told}");
    // The laptop is a member that runs nothing: nobody waits for it.
    let nodes = fleet.source.run(&["node", "ls", "--json"]).exits(0).json();
    let nodes = nodes["nodes"].as_array().unwrap().clone();
    assert!(nodes.iter().any(|node| node["role"] == "operator"));
    assert_eq!(status.volume()["nodes"].as_array().unwrap().len(), 1);

    // Its own connection is cut, too: what it hears of that is the end of it.
    drop(laptop.run(&["node", "rm", "alice-laptop", "-y"]));
    let refused = laptop.run(&["status", "--json"]).exits(77);
    assert_eq!(refused.json()["kind"], "not-permitted", "{refused}");
}

#[test]
fn ci_publishes_by_its_environment_alone_and_does_nothing_else() {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    let ci = Machine::join(&fleet.source, "ci", "publisher");
    let joined = fs::read_to_string(ci.path().join("state/membership.json")).unwrap();
    let joined: serde_json::Value = serde_json::from_str(&joined).unwrap();
    let source_key = joined["value"]["source_key"].as_str().unwrap();
    let (listen, key_file) = (fleet.source.listen(), ci.key_file());
    let key_file = key_file.to_str().unwrap();
    let env = [
        ("CODEVOL_SOURCE", listen.as_str()),
        ("CODEVOL_SOURCE_KEY", source_key),
        ("CODEVOL_KEY_FILE", key_file),
    ];
    let status = ci.run_by_environment(&env, &["status", "--json"]).exits(0);
    assert_eq!(status.json()["schema"], "codevol.status/1");
    for args in [
        &["rollback", "-y"][..],
        &["node", "ls"],
        &["invite"],
        &["freeze"],
        &["log"],
    ] {
        let refused = ci.run_by_environment(&env, args).exits(77);
        assert!(refused.stderr.contains("publisher"), "{refused}");
    }
    // A part of it is named, and a key that others can read is none.
    let part = ci.run_by_environment(&env[..2], &["status"]).exits(78);
    assert!(part.stderr.contains("CODEVOL_KEY_FILE"), "{part}");
    fs::set_permissions(key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = ci.run_by_environment(&env, &["status"]).exits(78);
    assert!(open.stderr.contains("chmod 600"), "{open}");
    let stranger = [("CODEVOL_SOURCE_KEY", source_key)];
    ci.run_by_environment(&stranger, &["status"]).exits(78);
}

#[test]
fn a_token_says_what_may_be_said_to_join() {
    let fleet = Fleet::without_agents();
    let invited = fleet.source.run(&["invite", "--name", "dag-01"]).exits(0);
    let agents = invited.stdout.trim_end();
    let operators = fleet
        .source
        .run(&["invite", "--role", "operator", "--name", "alice"])
        .exits(0);
    let operators = operators.stdout.trim_end();
    let alice = Machine::join(&fleet.source, "bob", "operator");
    let file = alice.path().join("other.toml");
    let join = |args: &[&str]| {
        let all = [&["-C", file.to_str().unwrap(), "join"], args].concat();
        alice.run_by_environment(&[], &all)
    };
    join(&[agents]).exits(2);
    join(&[operators, "--root", "/tmp/none"]).exits(2);
    // Neither used its token. The machine that has joined does not do so twice.
    join(&[operators]).exits(4);
    let state = alice.path().join("other-state");
    join(&[operators, "--state-dir", state.to_str().unwrap()]).succeeds();
    let mode = fs::metadata(state.join("node.key")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}
