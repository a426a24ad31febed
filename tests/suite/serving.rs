//! What real Dagster code servers serve, and on what evidence it is called live.

use codevol_tests::{CodeServer, Dagster, Defines, Fleet, FleetStatus, Start, wait_for};
use serde_json::Value;

/// Returns the one code server of a node, as status shows it.
fn server<'a>(status: &'a FleetStatus, node: &str) -> &'a Value {
    &status.node(node)["code_servers"][0]
}

/// Returns how often a code server has loaded its code, its start included.
fn loads(code_server: &mut CodeServer) -> usize {
    let log = code_server.process().log();
    log.matches("Started Dagster code server for module")
        .count()
}

fn save(fleet: &Fleet, defines: &Defines) {
    fleet.source.save("pipes/orders.py", defines.text());
}

#[test]
fn a_save_is_served_by_all_three_code_servers_and_proven() {
    let Some(fleet) = Fleet::with_dagster(3) else {
        return;
    };
    for server in &fleet.servers {
        assert_eq!(server.assets(), ["first"]);
    }
    save(&fleet, &Defines::asset("second"));
    let status = fleet.source.wait_live_everywhere(2);
    for (agent, code_server) in fleet.agents.iter().zip(&fleet.servers) {
        // At once: what is called live is served.
        assert_eq!(code_server.assets(), ["second"]);
        let node = status.node(agent.name());
        assert_eq!(node["evidence"], "proven", "{status}");
        let server = server(&status, agent.name());
        assert_eq!(server["state"], "good", "{status}");
        assert_eq!(server["kind"], "code-server", "{status}");
    }
}

#[test]
fn an_import_error_a_syntax_error_and_an_exit_are_each_taken_back_on_all_three() {
    let Some(fleet) = Fleet::with_dagster(3) else {
        return;
    };
    let broken = [
        ("import no_such_package", "ModuleNotFoundError"),
        ("def half(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", ""),
    ];
    for (n, (lines, error)) in (2..).zip(broken) {
        save(&fleet, &Defines::asset("second").and(lines));
        let pushed = fleet.source.run(&["push", "--json"]).exits(1);
        let last = pushed.last_json();
        assert_eq!(last["event"], "rollout.failed", "{pushed}");
        assert_eq!(last["release"], n, "{pushed}");
        assert_eq!(last["live"], 1, "{pushed}");
        assert_eq!(last["returned"], true, "{pushed}");
        let message = last["error"]["message"].as_str().unwrap();
        assert!(message.contains(error), "{pushed}");

        let status = fleet
            .source
            .wait("all are back on r1", |status| status.is_live_everywhere(1));
        assert!(status.quarantined().contains(&n), "{status}");
        for (agent, code_server) in fleet.agents.iter().zip(&fleet.servers) {
            assert_eq!(agent.current_seq(), Some(1));
            assert_eq!(code_server.assets(), ["first"]);
            assert_eq!(status.node(agent.name())["evidence"], "proven", "{status}");
        }
    }
    // And a good save after all that goes live.
    save(&fleet, &Defines::asset("fifth"));
    fleet.source.wait_live_everywhere(5);
    for code_server in &fleet.servers {
        assert_eq!(code_server.assets(), ["fifth"]);
    }
}

#[test]
fn one_broken_server_takes_all_three_back() {
    let Some(fleet) = Fleet::with_dagster(3) else {
        return;
    };
    let here = "assert '/dag-02/' not in __file__, 'not here'";
    save(&fleet, &Defines::asset("second").and(here));
    let pushed = fleet.source.run(&["push", "--json"]).exits(1);
    let last = pushed.last_json();
    assert_eq!(last["returned"], true, "{pushed}");
    assert_eq!(last["error"]["node"], "dag-02", "{pushed}");
    assert_eq!(
        last["error"]["message"], "AssertionError: not here",
        "{pushed}"
    );
    let status = fleet.source.wait_live_everywhere(1);
    assert_eq!(status.quarantined(), [2], "{status}");
    for (agent, code_server) in fleet.agents.iter().zip(&fleet.servers) {
        assert_eq!(agent.current_seq(), Some(1));
        assert_eq!(code_server.assets(), ["first"]);
    }
}

#[test]
fn the_users_own_error_is_shown_with_its_place_in_the_tree() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    save(
        &fleet,
        &Defines::asset("second").and("import no_such_package"),
    );
    let pushed = fleet.source.run(&["push"]).exits(1);
    for expected in [
        "r2 is broken on dag-01",
        "pipes/orders.py:9",
        "ModuleNotFoundError: No module named 'no_such_package'",
        "codevol sends code, not packages",
        "codevol log r2",
    ] {
        assert!(
            pushed.stderr.contains(expected),
            "no `{expected}` in {pushed}"
        );
    }
    assert!(!pushed.stderr.contains("site-packages/dagster"), "{pushed}");
    // Pushed once more as it is, it is refused: it is known to be broken.
    let again = fleet.source.run(&["push", "--json"]).exits(4).json();
    assert_eq!(again["kind"], "quarantined", "{again}");
}

#[test]
fn a_quarantined_release_is_not_tried_again_until_a_person_asks() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    // Broken for as long as a file outside of the tree is not there.
    let cure = fleet.source.place().path().join("cure");
    let lines = format!("open({:?}).close()", cure.to_str().unwrap());
    save(&fleet, &Defines::asset("second").and(&lines));
    let status = fleet.source.wait("r2 is taken back", |status| {
        status.quarantined() == [2] && status.is_live_everywhere(1)
    });
    assert_eq!(status.head(), 2);
    fleet.source.save("../cure", "");
    // The tree is as it was: the watcher tries nothing, a person's `retry` does.
    fleet.source.run(&["retry", "r2"]).succeeds();
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(2), "{status}");
    assert!(status.quarantined().is_empty(), "{status}");
    assert_eq!(fleet.servers[0].assets(), ["second"]);
}

#[test]
fn a_server_that_is_down_rolls_nothing_back_and_heals_by_itself() {
    let Some(mut fleet) = Fleet::with_dagster(2) else {
        return;
    };
    fleet.servers[1].stop();
    save(&fleet, &Defines::asset("second"));
    let pushed = fleet.source.run(&["push", "--json"]).exits(3);
    let last = pushed.last_json();
    assert_eq!(last["event"], "rollout.done", "{pushed}");
    assert_eq!(last["nodes"]["dag-01"], "live", "{pushed}");
    assert_eq!(last["nodes"]["dag-02"], "unverified", "{pushed}");
    assert_eq!(fleet.source.status().live(), 2);
    assert_eq!(fleet.agents[1].current_seq(), Some(2));
    let root = fleet.agents[1].root().to_owned();
    fleet.servers[1].start(&root);
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.node("dag-02")["evidence"], "proven", "{status}");
    assert_eq!(fleet.servers[1].assets(), ["second"]);
}

#[test]
fn an_agent_restarted_while_its_server_runs_on_reloads_nothing() {
    let Some(mut fleet) = Fleet::with_dagster(1) else {
        return;
    };
    save(&fleet, &Defines::asset("second"));
    let status = fleet.source.wait_live_everywhere(2);
    let id = server(&status, "dag-01")["server_id"].clone();
    assert!(id.is_string(), "{status}");
    let before = loads(&mut fleet.servers[0]);
    fleet.agent().process().kill();
    fleet.source.wait("the agent is gone", |status| {
        status.state("dag-01") == "offline"
    });
    fleet.agent().start();
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.node("dag-01")["evidence"], "proven", "{status}");
    assert_eq!(server(&status, "dag-01")["server_id"], id, "{status}");
    // Nor does it later: once the next save is live, what came before it is done.
    save(&fleet, &Defines::asset("third"));
    let status = fleet.source.wait_live_everywhere(3);
    assert_ne!(server(&status, "dag-01")["server_id"], id, "{status}");
    wait_for("the log has it", || {
        let after = loads(&mut fleet.servers[0]);
        (after == before + 1)
            .then_some(())
            .ok_or_else(|| format!("{before}, then {after}"))
    });
}

#[test]
fn a_server_on_a_unix_socket_and_one_started_with_a_file_follow_current() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    fleet.add(&dagster, "socket", Start::Socket);
    fleet.add(&dagster, "file", Start::File);
    fleet.source.wait_live_everywhere(1);
    save(&fleet, &Defines::asset("second"));
    let status = fleet.source.wait_live_everywhere(2);
    for code_server in &fleet.servers {
        assert_eq!(code_server.assets(), ["second"]);
    }
    assert_eq!(status.node("socket")["evidence"], "proven", "{status}");
    assert_eq!(status.node("file")["evidence"], "proven", "{status}");
}

#[test]
fn a_server_started_inside_of_current_without_d_is_never_called_live() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    fleet.add(&dagster, "dag-01", Start::InCurrent);
    fleet.servers[0].wait();
    save(&fleet, &Defines::asset("second"));
    let status = fleet.source.wait("r2 was found wanting", |status| {
        status.head() == 2 && status.node("dag-01")["error"]["release"] == 2
    });
    let error = &status.node("dag-01")["error"];
    let text = format!("{} {}", error["message"], error["hint"]);
    assert!(text.contains("start it with `-d ROOT/current`"), "{status}");
    assert_ne!(status.state("dag-01"), "live", "{status}");
    assert_eq!(fleet.servers[0].assets(), ["first"]);
}

#[test]
fn a_server_that_cannot_reload_is_called_what_it_is() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    fleet.add(&dagster, "dag-01", Start::ApiGrpc);
    fleet.servers[0].wait();
    save(&fleet, &Defines::asset("second"));
    let status = fleet
        .source
        .wait("r2 is activated, and not proven", |status| {
            let error = &status.node("dag-01")["error"];
            status.state("dag-01") == "unverified" && error["release"] == 2
        });
    assert_eq!(server(&status, "dag-01")["kind"], "api-grpc", "{status}");
    assert_eq!(fleet.servers[0].assets(), ["first"]);
    // Restarted by its owner it serves the release, and that is found out.
    fleet.servers[0].stop();
    let root = fleet.agents[0].root().to_owned();
    fleet.servers[0].start(&root);
    fleet.source.wait_live_everywhere(2);
    assert_eq!(fleet.servers[0].assets(), ["second"]);
}

#[test]
fn a_release_that_the_first_node_finds_broken_gives_way_to_the_one_before() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    save(
        &fleet,
        &Defines::asset("first").and("import no_such_package"),
    );
    fleet
        .source
        .wait("r2 is live on the fleet of none", |status| {
            status.live() == 2
        });
    fleet.add(&dagster, "dag-01", Start::Module);
    let status = fleet.source.wait("the one before is back", |status| {
        status.live() == 1 && status.state("dag-01") == "live"
    });
    assert_eq!(fleet.agents[0].current_seq(), Some(1), "{status}");
    assert_eq!(status.volume()["quarantined"][0]["release"], 2, "{status}");
    save(&fleet, &Defines::asset("third"));
    fleet.source.wait_live_everywhere(3);
    assert_eq!(fleet.servers[0].assets(), ["third"]);
}

#[test]
fn a_same_size_save_within_one_second_is_served() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let Some(mut fleet) = Fleet::with_dagster(0) else {
        return;
    };
    // All releases share the bytecode here: one of the same size and second would be taken as valid.
    fleet.add(&dagster, "dag-01", Start::SharedBytecode);
    fleet.servers[0].wait();
    fleet.source.wait_live_everywhere(1);
    for (seq, name) in (2..).zip(["aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee"]) {
        save(&fleet, &Defines::asset(name));
        fleet.source.wait_live_everywhere(seq);
        assert_eq!(fleet.servers[0].assets(), [name]);
    }
    assert!(fleet.servers[0].has_compiled("orders"));
}

#[test]
fn the_second_of_two_quick_saves_of_one_size_is_served() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    save(&fleet, &Defines::asset("aaaaa"));
    save(&fleet, &Defines::asset("bbbbb"));
    fleet.servers[0].wait_serves(&["bbbbb"]);
    let status = fleet.source.status();
    fleet.source.wait_live_everywhere(status.head());
    assert_eq!(fleet.servers[0].assets(), ["bbbbb"]);
}

#[test]
fn a_source_killed_while_a_server_loads_the_code_finishes_the_rollout() {
    let Some(mut fleet) = Fleet::with_dagster(2) else {
        return;
    };
    let slowly = Defines::asset("second").and("import time\ntime.sleep(4)");
    save(&fleet, &slowly);
    fleet.source.wait("the servers load it", |status| {
        status.volume()["rollout"]["phase"] == "verify"
    });
    fleet.source.crash_and_restart();
    fleet.source.wait_live_everywhere(2);
    for code_server in &fleet.servers {
        assert_eq!(code_server.assets(), ["second"]);
    }
}

#[test]
fn a_source_killed_while_servers_load_broken_code_takes_it_back() {
    let Some(mut fleet) = Fleet::with_dagster(2) else {
        return;
    };
    let slowly = "import time\ntime.sleep(4)\nimport no_such_package";
    save(&fleet, &Defines::asset("second").and(slowly));
    fleet.source.wait("the servers load it", |status| {
        status.volume()["rollout"]["phase"] == "verify"
    });
    fleet.source.crash_and_restart();
    let status = fleet.source.wait("r2 is taken back", |status| {
        status.quarantined() == [2] && status.is_live_everywhere(1)
    });
    for (agent, code_server) in fleet.agents.iter().zip(&fleet.servers) {
        assert_eq!(agent.current_seq(), Some(1), "{status}");
        assert_eq!(code_server.assets(), ["first"]);
    }
}
