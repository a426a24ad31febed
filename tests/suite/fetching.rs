//! What is live, fetched once, where no agent daemon runs.

use codevol_tests::{Address, Agent, Fleet};

#[test]
fn what_is_live_is_fetched_once_and_the_source_hears_of_it() {
    let fleet = Fleet::start_with(0, |source| {
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    let agent = Agent::join(&fleet.source, "build-01", None);
    let fetched = agent.run(&["fetch", "--once", "--json"]).exits(0).json();
    assert_eq!(fetched["schema"], "codevol.fetch/1");
    let volume = &fetched["volumes"][0];
    assert_eq!(
        (&volume["release"], &volume["state"]),
        (&1.into(), &"live".into())
    );
    assert_eq!(agent.current_seq(), Some(1));
    assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 1\n");
    // It has left at once, and what it said last was heard.
    let status = fleet.source.status();
    assert_eq!(status.state("build-01"), "offline", "{status}");
    assert_eq!(status.node("build-01")["release"], 1, "{status}");

    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait("r2 is live", |status| status.live() == 2);
    let fetched = agent.run(&["fetch", "--once"]).exits(0);
    assert!(
        fetched.stdout.starts_with("Fetched  pipes is on r2 "),
        "{fetched}"
    );
    assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 2\n");
    let usage = agent.run(&["fetch"]).exits(2);
    assert!(usage.stderr.contains("--once"), "{usage}");
}

#[test]
fn a_fetch_says_what_it_waited_for_in_vain() {
    let mut fleet = Fleet::start_with(1, |source| {
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    // The daemon runs, and does it by itself.
    let runs = fleet.agents[0].run(&["fetch", "--once"]).exits(4);
    assert!(
        runs.stderr.contains("the agent runs on this host"),
        "{runs}"
    );
    let absent = Agent::join(
        &fleet.source,
        "build-01",
        Some(&Address::Unix("/nowhere/x.sock".into())),
    );
    let unproven = absent.run(&["fetch", "--once"]).exits(3);
    assert!(unproven.stdout.contains("unverified"), "{unproven}");

    fleet
        .source
        .run(&["node", "rm", "build-01", "--yes"])
        .succeeds();
    let unknown = absent.run(&["fetch", "--once"]).exits(77);
    assert!(
        unknown.stderr.contains("does not know this node"),
        "{unknown}"
    );
    let late = Agent::join(&fleet.source, "build-02", None);
    fleet.source.process().kill();
    let silent = late.run(&["fetch", "--once", "--timeout", "2s"]).exits(69);
    assert!(silent.stderr.contains("not reached within 2s"), "{silent}");
    assert_eq!(late.current(), None);
}

#[test]
fn a_fetch_does_not_wait_where_a_person_holds_the_node() {
    let mut fleet = Fleet::start_with(1, |source| {
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait("r2 is live", |status| status.live() == 2);
    let agent = &mut fleet.agents[0];
    let back = ["rollback", "r1", "--yes", "-m", "by hand"];
    agent.run(&back).succeeds();
    agent.process().kill();
    let held = agent.run(&["fetch", "--once"]).exits(4);
    assert!(
        held.stderr.contains("is held on r1 of volume `pipes` by")
            && held.stderr.contains("by hand")
            && held.stderr.contains("codevol thaw"),
        "{held}"
    );
    assert_eq!(agent.current_seq(), Some(1));
}
