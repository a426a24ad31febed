//! Nodes that are away: without a source, behind, on a root or a lock of another. Without code servers.

use codevol_tests::{Agent, Fleet, wait_until};

#[test]
fn without_a_source_the_agents_keep_what_they_have_and_stay_ready() {
    let mut fleet = Fleet::start(2);
    let before: Vec<_> = fleet.agents.iter().map(Agent::current).collect();
    fleet.source.process().terminate();
    for agent in &fleet.agents {
        wait_until("the agent knows that the source is gone", || {
            agent.status().0["source"]["state"] != "connected"
        });
        agent.run(&["health", "--ready"]).succeeds();
    }
    let after: Vec<_> = fleet.agents.iter().map(Agent::current).collect();
    assert_eq!(before, after);
    // An agent that starts while there is no source is ready as well.
    fleet.agents[0].process().kill();
    fleet.agents[0].start();
    fleet.agents[0].run(&["health", "--ready"]).succeeds();
    assert_eq!(fleet.agents[0].current(), before[0]);
}

#[test]
fn a_second_agent_on_one_root_exits_78_and_says_who_holds_it() {
    let mut fleet = Fleet::start(1);
    let mut second = Agent::join(&fleet.source, "dag-02", None);
    let root = fleet.agent().root().to_str().unwrap().to_owned();
    second.set("VOLUME__0__ROOT", &root);
    second.spawn();
    let ended = second.process().wait();
    let said = second.process().log();
    assert_eq!(ended.code(), Some(78), "{said}");
    let holder = format!("process {}", fleet.agent().process().id());
    assert!(said.contains(&holder), "no `{holder}` in: {said}");
    assert!(said.contains(&root), "no `{root}` in: {said}");
    fleet.agent().run(&["health", "--ready"]).succeeds();
}

#[test]
fn the_lock_of_a_killed_agent_refuses_nobody() {
    let mut fleet = Fleet::start(1);
    fleet.agent().process().kill();
    assert!(fleet.agent().root().join(".codevol/lock").exists());
    fleet.agent().start();
    fleet.source.wait_live_everywhere(1);
}

#[test]
fn a_node_that_was_offline_during_a_rollout_converges_to_live_when_back() {
    let mut fleet = Fleet::start(2);
    fleet.agents[1].process().terminate();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let status = fleet
        .source
        .wait("r2 is live without it", |status| status.live() == 2);
    assert_eq!(status.node("dag-02")["release"], 1, "{status}");
    fleet.agents[1].start();
    fleet.source.wait_live_everywhere(2);
    assert_eq!(
        fleet.agents[1].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
}

#[test]
fn an_agent_that_was_away_converges_to_live_on_a_frozen_volume() {
    let mut fleet = Fleet::start(2);
    fleet.agents[1].process().terminate();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet
        .source
        .wait("r2 is live without it", |status| status.live() == 2);
    fleet.source.run(&["freeze", "-m", "month end"]).succeeds();
    fleet.agents[1].start();
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.volume()["frozen"]["why"], "month end", "{status}");
    assert_eq!(
        fleet.agents[1].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
}

#[test]
fn a_node_that_was_removed_and_goes_on_dialling_is_counted_and_told_of_at_each_doubling() {
    let mut fleet = Fleet::start(1);
    fleet
        .source
        .run(&["node", "rm", "dag-01", "--yes"])
        .succeeds();
    let source = fleet.source.process();
    wait_until("the source has counted four", || {
        let log = source.log();
        let told = log
            .lines()
            .filter(|line| line.contains("strangers were turned away"));
        told.count() == 3
    });
}
