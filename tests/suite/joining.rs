//! How a node becomes a member, how it is refused, and how it is put out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_tests::{
    Agent, Defines, Ended, Fleet, Machine, Place, Source, project, wait_for, wait_until,
};

fn source() -> Source {
    let place = Arc::new(Place::new());
    let mut source = Source::init(&place);
    project(&source, &Defines::asset("first"));
    source.start();
    source
}

#[test]
fn a_token_works_once() {
    let source = source();
    let token = source.invite("dag-01");
    let agent = Agent::new(source.place(), "dag-01");
    agent.enrol(&token, None).succeeds();
    let other = Agent::new(source.place(), "dag-02");
    let refused = other.run_join(&token, &["--json"]).exits(77);
    assert_eq!(refused.json()["schema"], "codevol.error/1", "{refused}");
    assert!(
        !other.file().exists(),
        "a refused join leaves no configuration"
    );
}

#[test]
fn a_token_for_another_name_is_refused() {
    let source = source();
    let token = source.invite("dag-01");
    Agent::new(source.place(), "dag-02")
        .enrol(&token, None)
        .exits(77);
}

#[test]
fn an_expired_token_is_refused() {
    let source = source();
    let invited = source
        .run(&["invite", "--name", "dag-01", "--ttl", "1s"])
        .exits(0);
    let issued = Instant::now();
    wait_until("the token has expired", || {
        issued.elapsed() > Duration::from_millis(1_100)
    });
    let agent = Agent::new(source.place(), "dag-01");
    agent.enrol(invited.stdout.trim_end(), None).exits(77);
}

#[test]
fn a_damaged_token_is_refused_whichever_part_is_damaged() {
    let source = source();
    let token = source.invite("dag-01");
    let agent = Agent::new(source.place(), "dag-01");
    let last = token.len() - 1;
    for position in [0, 4, 5, token.len() / 4, token.len() / 2, last - 1, last] {
        let mut damaged = token.clone().into_bytes();
        damaged[position] = if damaged[position] == b'b' {
            b'c'
        } else {
            b'b'
        };
        let damaged = String::from_utf8(damaged).unwrap();
        let refused = agent.enrol(&damaged, None);
        assert_eq!(refused.code, Some(77), "{position}: {refused}");
    }
    agent.enrol(&token[..last], None).exits(77);
    agent.enrol(&format!("{token}a"), None).exits(77);
    agent.enrol("", None).exits(77);
    // None of this burnt the token, which none of them could name.
    agent.enrol(&token, None).succeeds();
}

#[test]
fn a_token_is_read_from_a_file_or_from_standard_input() {
    let source = source();
    source.save("../token", format!("{}\n", source.invite("dag-01")));
    let file = source.place().path().join("token");
    let agent = Agent::new(source.place(), "dag-01");
    agent
        .enrol(&format!("@{}", file.display()), None)
        .succeeds();

    let agent = Agent::new(source.place(), "dag-02");
    let mut join = agent.command();
    join.args(["join", "-", "--root"]).arg(agent.root());
    Ended::run_with(join, &format!("{}\n", source.invite("dag-02"))).succeeds();
}

#[test]
fn joining_a_source_that_is_gone_is_unreachable() {
    let mut source = source();
    let token = source.invite("dag-01");
    source.process().terminate();
    let agent = Agent::new(source.place(), "dag-01");
    agent.enrol(&token, None).exits(69);
    assert!(!agent.file().exists());
    // The same token works when it is back.
    source.start();
    agent.enrol(&token, None).succeeds();
}

#[test]
fn joining_twice_or_into_a_root_that_is_not_empty_is_refused() {
    let source = source();
    let agent = Agent::join(&source, "dag-01", None);
    agent.enrol(&source.invite("dag-02"), None).exits(4);
    let other = Agent::new(source.place(), "dag-03");
    source.save("../dag-03/root/precious.py", "x = 1\n");
    let token = source.invite("dag-03");
    other.enrol(&token, None).exits(4);
    std::fs::remove_file(other.root().join("precious.py")).unwrap();
    other.enrol(&token, None).succeeds();
}

#[test]
fn the_state_of_a_source_is_nobody_elses() {
    let mut source = source();
    let state = source.place().path().join("source/state");
    let into_it = ["--state-dir", state.to_str().unwrap()];
    let agent = Agent::new(source.place(), "dag-01");
    let token = source.invite("dag-01");
    let refused = agent.run_join(&token, &into_it).exits(4);
    assert!(refused.stderr.contains("--state-dir"), "{refused}");
    let laptop = Machine::new(&source, "alice");
    let invite = ["invite", "--name", "alice", "--role", "operator"];
    let invited = source.run(&invite).exits(0);
    let join = ["join", invited.stdout.trim_end()];
    laptop.run(&[&join[..], &into_it].concat()).exits(4);
    for of_a_member in ["enrolment.json", "membership.json"] {
        assert!(!state.join(of_a_member).exists(), "{of_a_member}");
    }
    // Neither a token nor the source is the worse for it.
    source.process().terminate();
    source.start();
    agent.enrol(&token, None).succeeds();
    laptop.run(&join).succeeds();
}

#[test]
fn a_state_or_a_configuration_inside_of_the_root_is_refused() {
    let source = source();
    let agent = Agent::new(source.place(), "dag-01");
    let token = source.invite("dag-01");
    let inside = agent.root().join("state");
    agent
        .run_join(&token, &["--state-dir", inside.to_str().unwrap()])
        .exits(78);
    let above = agent.root().parent().unwrap().to_str().unwrap();
    agent.run_join(&token, &["--state-dir", above]).exits(78);
    assert!(!agent.file().exists());
    agent.enrol(&token, None).succeeds();
}

#[test]
fn init_refuses_what_exists_and_what_lies_inside_of_the_tree() {
    let place = Arc::new(Place::new());
    let source = Source::new(&place, "source");
    let tree = source.tree().to_str().unwrap();
    source.run(&["init", tree]).exits(78);
    assert!(!source.file().exists());

    let source = Source::init(&place);
    let tree = source.tree().to_str().unwrap();
    source.run(&["init", tree]).exits(4);
}

#[test]
fn a_removed_node_is_cut_within_a_second_and_gets_nothing_new() {
    let fleet = Fleet::start(2);
    let removed = &fleet.agents[1];
    fleet
        .source
        .run(&["node", "rm", removed.name(), "--yes"])
        .succeeds();
    let asked = Instant::now();
    wait_until("the connection is cut", || {
        removed.status().0["source"]["state"] != "connected"
    });
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.run(&["push"]).succeeds();
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(2), "{status}");
    assert!(status.node(removed.name()).is_null(), "{status}");
    wait_for("the agent knows that it was put out", || {
        let own = removed.status();
        if own.0["source"]["state"] == "refused" {
            Ok(())
        } else {
            Err(own.to_string())
        }
    });
    assert_eq!(removed.current_seq(), Some(1));
}

#[test]
fn removing_a_node_asks_where_nobody_can_answer() {
    let fleet = Fleet::start(1);
    fleet.source.run(&["node", "rm", "dag-01"]).exits(2);
    let listed = fleet.source.run(&["node", "ls", "--json"]).exits(0).json();
    assert_eq!(listed["nodes"][0]["name"], "dag-01", "{listed}");
    assert_eq!(listed["nodes"][0]["online"], true, "{listed}");
}

#[test]
fn a_second_agent_on_one_root_is_refused() {
    let fleet = Fleet::start(1);
    let first = &fleet.agents[0];
    // It joined while its root was empty; then the root became another's.
    let mut second = Agent::join(&fleet.source, "dag-02", None);
    second.set("VOLUME__0__ROOT", first.root().to_str().unwrap());
    second.spawn();
    let ended = second.process().wait();
    assert_eq!(ended.code(), Some(78), "{}", second.process().log());
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    wait_until("the first one goes on", || first.current_seq() == Some(2));
}

#[test]
fn a_node_that_joined_and_never_connected_is_listed_as_joining() {
    let source = source();
    let agent = Agent::join(&source, "dag-01", None);
    let status = source.status();
    assert_eq!(status.state(agent.name()), "joining", "{status}");
}

#[test]
fn a_source_runs_without_the_operator_key_that_is_kept_elsewhere() {
    let place = Arc::new(Place::new());
    let mut source = Source::new(&place, "tree");
    source.save("pipes/orders.py", "ORDERS = 1\n");
    let tree = source.tree().to_str().unwrap().to_owned();
    let key = place.folder("safe").join("operator.key");
    let key = key.to_str().unwrap();
    let init = [
        "init",
        &tree,
        "--volume",
        "pipes",
        "--listen",
        "127.0.0.1:0",
    ];
    let inside = format!("{tree}/operator.key");
    let refused = source.run(&[&init[..], &["--operator-key", &inside]].concat());
    assert_eq!(refused.code, Some(78), "{refused}");
    let made = source
        .run(&[&init[..], &["--operator-key", key]].concat())
        .exits(0);
    assert!(made.stderr.contains("carry it off this host"), "{made}");
    std::fs::rename(key, format!("{key}.away")).unwrap();
    let state = place.path().join("source/state");
    assert!(!state.join("operator.key").exists());
    source.start();
    let agent = Agent::join_and_start(&source, "dag-01", None);
    source.wait_live_everywhere(1);
    assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 1\n");
}
