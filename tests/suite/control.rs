//! Taking hold of a fleet: looking on, freezing, having one node stay where it is.

use codevol_tests::{
    Agent, Defines, Fleet, FleetStatus, Host, Machine, Running, noise, save, wait_until,
};
use rustix::process::Signal;

/// `status --watch --json` that runs; it ends with the test.
struct Watching(Running);

impl Watching {
    fn start(host: &Host) -> Self {
        let mut command = host.command();
        command.args(["status", "--watch", "--json"]);
        Self(Running::start(command))
    }

    /// Reads until it tells of such a state.
    fn until(&self, holds: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        let status = |line: &str| FleetStatus(serde_json::from_str(line).unwrap());
        status(&self.0.next_line(|line| holds(&status(line))))
    }
}

#[test]
fn whoever_watches_sees_each_change_at_the_source_and_on_an_agents_host() {
    let mut fleet = Fleet::start(2);
    let mut at_source = Watching::start(&fleet.source);
    let mut at_agent = Watching::start(&fleet.agents[0]);
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let mut at_laptop = Watching::start(&laptop);
    at_source.until(|status| status.is_live_everywhere(1));
    at_agent.until(|status| status.live() == 1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    at_source.until(|status| status.is_live_everywhere(2));
    at_laptop.until(|status| status.is_live_everywhere(2));
    at_agent.until(|status| status.node("dag-01")["release"] == 2);
    fleet.source.run(&["freeze", "-m", "month end"]).succeeds();
    at_source.until(|status| status.volume()["frozen"]["why"] == "month end");
    fleet.agents[1].process().terminate();
    at_source.until(|status| status.state("dag-02") == "offline");
    fleet
        .source
        .run(&["thaw", "-m", "books are closed"])
        .succeeds();
    at_source.until(|status| status.volume()["frozen"].is_null());
    at_source.0.signal(Signal::INT);
    assert_eq!(at_source.0.wait().code(), Some(130));
    let story = fleet.source.run(&["log", "r2"]).exits(0).stdout;
    for said in ["month end", "books are closed"] {
        assert!(story.contains(said), "no `{said}` in {story}");
    }
    fleet.source.process().terminate();
    let ended = at_laptop.0.wait();
    assert_eq!(ended.code(), Some(69), "the source ended");
    at_agent.until(|status| status.0["source"]["state"] == "connecting");
    fleet.agents[0].process().terminate();
    let ended = at_agent.0.wait();
    assert_eq!(ended.code(), Some(69), "the agent ended");
}

/// A fleet of two with a large file, on r2.
fn on_r2() -> Fleet {
    let fleet = Fleet::start_with(2, |source| {
        source.save("pipes/table.bin", noise(1 << 20, 1));
    });
    fleet.source.save("pipes/table.bin", noise(1 << 20, 2));
    fleet.source.wait_live_everywhere(2);
    fleet
}

/// Has the next release go live without a node that is held.
fn publish_without(fleet: &Fleet, node: &str, seq: u64) -> FleetStatus {
    fleet
        .source
        .save("pipes/orders.py", format!("ORDERS = {seq}\n"));
    fleet
        .source
        .wait("it is live, and staged on the held node", |status| {
            let staged = status.node(node)["staged"].as_array();
            let staged = staged.is_some_and(|staged| staged.iter().any(|s| *s == seq));
            status.live() == seq && status.volume()["rollout"].is_null() && staged
        })
}

fn journal_of(host: &Host) -> String {
    let journal = host
        .file()
        .with_file_name("state")
        .join("journal/journal.jsonl");
    std::fs::read_to_string(journal).unwrap()
}

#[test]
fn one_node_goes_back_and_stays_there_until_it_is_thawed() {
    let mut fleet = on_r2();
    let went = fleet.source.run(&[
        "rollback",
        "r1",
        "--node",
        "dag-02",
        "-m",
        "look at orders",
        "--yes",
        "--json",
    ]);
    let went = went.exits(0).json();
    assert_eq!(went["schema"], "codevol.node-rollback/1", "{went}");
    assert_eq!((&went["from"], &went["active"]), (&2.into(), &1.into()));
    assert_eq!(
        (&went["held"], &went["state"]),
        (&true.into(), &"live".into())
    );
    assert_eq!(fleet.agents[1].current_seq(), Some(1));
    assert_eq!(fleet.agents[0].current_seq(), Some(2));
    let status = fleet.source.status();
    let held = &status.node("dag-02")["held"];
    assert_eq!(
        (&held["why"], &held["release"]),
        (&"look at orders".into(), &1.into())
    );
    assert_eq!(held["asked_at"], "source", "{status}");
    assert!(held["by"].is_string() && held["at"].is_string(), "{status}");
    assert_eq!(status.live(), 2, "{status}");
    assert!(status.volume()["frozen"].is_null(), "{status}");

    // Later rollouts leave it out; it stages all the same.
    let status = publish_without(&fleet, "dag-02", 3);
    assert_eq!(status.state("dag-02"), "behind", "{status}");
    assert_eq!(fleet.agents[1].current_seq(), Some(1));

    // It outlasts a restart of either.
    fleet.agents[1].process().kill();
    fleet.agents[1].start();
    fleet.source.crash_and_restart();
    let is_back = |status: &FleetStatus| {
        status.state("dag-02") == "behind" && status.state("dag-01") == "live"
    };
    let status = fleet.source.wait("both are back", is_back);
    assert_eq!(status.node("dag-02")["held"]["why"], "look at orders");
    assert_eq!(fleet.agents[1].current_seq(), Some(1));

    let thaw = ["thaw", "--node", "dag-02", "-m", "understood"];
    fleet.source.run(&thaw).succeeds();
    let status = fleet.source.wait_live_everywhere(3);
    assert!(status.node("dag-02")["held"].is_null(), "{status}");
    let again = fleet.source.run(&thaw).exits(0);
    assert!(again.stdout.contains("is not held"), "{again}");
    let story = fleet.source.run(&["log", "r1"]).exits(0).stdout;
    for said in ["held there", "look at orders", "held no more", "understood"] {
        assert!(story.contains(said), "no `{said}` in {story}");
    }
}

#[test]
fn a_rollback_of_one_node_moves_no_file_bytes() {
    let fleet = on_r2();
    let sent = || {
        let nodes = fleet.source.status();
        nodes.node("dag-02")["staged"].clone()
    };
    let (staged, releases) = (sent(), fleet.agents[1].releases());
    fleet
        .source
        .run(&["rollback", "--node", "dag-02", "--yes"])
        .succeeds();
    assert_eq!(
        fleet.agents[1].current_seq(),
        Some(1),
        "the one that was active before"
    );
    let table = fleet.agents[1].root().join("current/pipes/table.bin");
    assert_eq!(std::fs::read(table).unwrap(), noise(1 << 20, 1));
    assert_eq!((sent(), fleet.agents[1].releases()), (staged, releases));
    assert_eq!(fleet.source.status().head(), 2, "nothing was published");
}

#[test]
fn what_cannot_be_taken_back_is_refused_with_what_can() {
    let mut fleet = Fleet::start(2);
    let rollback = |fleet: &Fleet, args: &[&str]| {
        let args = [&["rollback", "--yes", "--json"], args].concat();
        fleet.source.run(&args)
    };
    let unknown = rollback(&fleet, &["--node", "dag-09"]).exits(4).json();
    assert_eq!(unknown["kind"], "not-found", "{unknown}");
    let not_held = rollback(&fleet, &["r7", "--node", "dag-01"])
        .exits(4)
        .json();
    assert_eq!(not_held["kind"], "not-held", "{not_held}");
    assert_eq!(not_held["hint"], "it holds r1", "{not_held}");
    let nothing = rollback(&fleet, &["--node", "dag-01"]).exits(4).json();
    assert_eq!(nothing["kind"], "not-held", "{nothing}");
    fleet.agents[0].process().terminate();
    fleet.source.wait("it is offline", |status| {
        status.state("dag-01") == "offline"
    });
    let offline = rollback(&fleet, &["r1", "--node", "dag-01"])
        .exits(69)
        .json();
    assert_eq!(offline["kind"], "unreachable", "{offline}");
    fleet.source.run(&["thaw", "--node", "dag-01"]).exits(69);
    assert!(fleet.source.status().node("dag-01")["held"].is_null());
}

/// Takes an agent back on its own host, whatever the source does.
fn back_by_itself(agent: &Agent) {
    let back = agent
        .run(&["rollback", "-m", "orders are wrong", "--yes"])
        .exits(0);
    assert!(
        back.stdout.contains("dag-01 is on r1 (was on r2)"),
        "{back}"
    );
    assert_eq!(agent.current_seq(), Some(1));
    let held = agent.status().node("dag-01")["held"].clone();
    assert_eq!(
        (&held["why"], &held["asked_at"]),
        (&"orders are wrong".into(), &"node".into())
    );
}

#[test]
fn with_the_source_stopped_a_node_goes_back_on_its_own_host_and_the_source_learns_of_it() {
    let mut fleet = on_r2();
    fleet.source.process().terminate();
    back_by_itself(&fleet.agents[0]);
    let log = fleet.agents[0].run(&["log"]).exits(0).stdout;
    assert!(log.contains("r2 ") && log.contains("r1 "), "{log}");
    let journal = journal_of(&fleet.agents[0]);
    assert!(
        journal.contains("\"rollback\"") && journal.contains("orders are wrong"),
        "{journal}"
    );
    // Durable there, whatever happens to its agent.
    fleet.agents[0].process().kill();
    fleet.agents[0].start();
    fleet.source.start();
    let status = fleet.source.wait("the source has heard of it", |status| {
        status.node("dag-01")["held"]["why"] == "orders are wrong"
    });
    assert_eq!(
        status.node("dag-01")["held"]["asked_at"],
        "node",
        "{status}"
    );
    let status = publish_without(&fleet, "dag-01", 3);
    assert_eq!(status.state("dag-02"), "live", "{status}");
    assert_eq!(
        fleet.agents[0].current_seq(),
        Some(1),
        "it is not pushed back to live"
    );
    let journal = journal_of(&fleet.source);
    assert!(
        journal.contains("\"hold\"") && journal.contains("orders are wrong"),
        "{journal}"
    );

    fleet.agents[0].run(&["thaw", "-m", "mended"]).succeeds();
    fleet.source.wait_live_everywhere(3);
}

#[test]
fn a_node_that_was_thawed_while_the_source_was_away_goes_with_the_others() {
    let mut fleet = on_r2();
    fleet
        .source
        .run(&["rollback", "--node", "dag-01", "--yes"])
        .succeeds();
    fleet.source.process().terminate();
    wait_until("the agent knows that the source is gone", || {
        fleet.agents[0].status().0["source"]["state"] != "connected"
    });
    let thawed = fleet.agents[0].run(&["thaw", "--node", "dag-01"]).exits(0);
    assert!(
        thawed.stdout.contains("until the source is back"),
        "{thawed}"
    );
    assert_eq!(fleet.agents[0].current_seq(), Some(1));
    let other = fleet.agents[0].run(&["rollback", "--node", "dag-02", "--yes"]);
    assert!(other.exits(2).stderr.contains("host of node `dag-01`"));
    fleet.source.start();
    fleet.source.wait_live_everywhere(2);
}

#[test]
fn a_release_that_is_broken_there_by_now_is_left_again_and_holds_nobody() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    let (source, server) = (&fleet.source, &fleet.servers[0]);
    let gone = source.place().path().join("gone");
    let lines = format!("import os\nassert not os.path.exists({gone:?}), 'its table is gone'");
    source.save(
        "pipes/orders.py",
        Defines::asset("second").and(&lines).text(),
    );
    source.wait_live_everywhere(2);
    source.save("pipes/orders.py", Defines::asset("third").text());
    source.wait_live_everywhere(3);
    let back = ["rollback", "r2", "--node", "dag-01", "--yes", "--json"];
    let went = source.run(&back).exits(0).json();
    assert_eq!(
        (&went["state"], &went["evidence"]),
        (&"live".into(), &"proven".into())
    );
    server.wait_serves(&["second"]);
    source.run(&["thaw", "--node", "dag-01"]).succeeds();
    source.wait_live_everywhere(3);

    save(&gone, b"");
    let went = source.run(&back).exits(1).json();
    assert_eq!((&went["held"], &went["active"]), (&false.into(), &3.into()));
    let said = went["error"]["message"].as_str().unwrap();
    assert!(said.contains("its table is gone"), "{went}");
    server.wait_serves(&["third"]);
    let status = source.wait_live_everywhere(3);
    assert!(status.node("dag-01")["held"].is_null(), "{status}");
    assert_eq!(
        status.quarantined(),
        [] as [u64; 0],
        "one person's try judges nothing"
    );
    // Known to be broken there, it is not where a rollback leads that names nothing.
    let back = source.run(&["rollback", "--node", "dag-01", "--yes", "--json"]);
    assert_eq!(back.exits(0).json()["active"], 1);
}
