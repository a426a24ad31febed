//! Hosts with addresses of their own, between which packets are lost.

use std::sync::Arc;

use codevol_tests::{Agent, Defines, Network, Place, Source, project, wait_until};

/// A source and two agents on a network of three hosts.
fn fleet(place: &Arc<Place>, network: &Arc<Network>) -> (Source, Vec<Agent>) {
    let mut source = Source::init_on(place, network);
    project(&source, &Defines::asset("first"));
    source.start();
    let join = |name: &&str| Agent::join_and_start(&source, name, None);
    let agents = ["dag-01", "dag-02"].iter().map(join).collect();
    source.wait_live_everywhere(1);
    (source, agents)
}

#[test]
fn a_host_that_is_cut_off_holds_nobody_up_and_comes_to_what_is_live_when_it_is_back() {
    let place = Arc::new(Place::new());
    let Some(network) = Network::new(&place) else {
        return;
    };
    let (source, agents) = fleet(&place, &network);
    agents[1].uplink().cut_off();
    for seq in 2..=4 {
        source.save("pipes/orders.py", Defines::asset(&format!("a{seq}")).text());
        source.wait(&format!("r{seq} is live"), |status| status.live() == seq);
    }
    assert_eq!(agents[0].current_seq(), Some(4));
    assert_eq!(agents[1].current_seq(), Some(1));
    source.wait("the lost host is offline", |status| {
        status.state("dag-02") == "offline" && status.node("dag-02")["lag"] == 3
    });
    agents[1].uplink().reconnect();
    source.wait_live_everywhere(4);
    wait_until("the host that was cut off has r4", || {
        agents[1].current_seq() == Some(4)
    });
}

#[test]
fn while_the_source_is_cut_off_every_server_goes_on_and_says_so() {
    let place = Arc::new(Place::new());
    let Some(network) = Network::new(&place) else {
        return;
    };
    let (source, agents) = fleet(&place, &network);
    source.uplink().cut_off();
    source.save("pipes/orders.py", Defines::asset("second").text());
    for agent in &agents {
        wait_until("the agent says that the source is away", || {
            agent.status().0["source"]["state"] != "connected"
        });
        agent.run(&["health", "--ready"]).exits(0);
        assert_eq!(agent.current_seq(), Some(1));
    }
    source.uplink().reconnect();
    source.wait_live_everywhere(2);
}

#[test]
fn a_host_that_is_cut_off_goes_back_by_itself_and_stays_there_when_the_network_heals() {
    let place = Arc::new(Place::new());
    let Some(network) = Network::new(&place) else {
        return;
    };
    let (source, agents) = fleet(&place, &network);
    source.save("pipes/orders.py", Defines::asset("second").text());
    source.wait_live_everywhere(2);
    agents[1].uplink().cut_off();
    source.wait("the lost host is offline", |status| {
        status.state("dag-02") == "offline"
    });
    let back = ["rollback", "-m", "orders are wrong", "--yes"];
    agents[1].run(&back).succeeds();
    assert_eq!(agents[1].current_seq(), Some(1));
    // A rollout that it does not hear of.
    source.save("pipes/orders.py", Defines::asset("third").text());
    source.wait("r3 is live", |status| status.live() == 3);
    agents[1].uplink().reconnect();
    let status = source.wait("the source learns that it is held", |status| {
        let node = status.node("dag-02");
        let staged = node["staged"].as_array();
        let staged = staged.is_some_and(|staged| staged.iter().any(|seq| *seq == 3));
        staged && node["held"]["why"] == "orders are wrong"
    });
    assert_eq!(
        status.node("dag-02")["held"]["asked_at"],
        "node",
        "{status}"
    );
    assert_eq!(agents[1].current_seq(), Some(1), "{status}");
    source.run(&["thaw", "--node", "dag-02"]).succeeds();
    source.wait_live_everywhere(3);
}
