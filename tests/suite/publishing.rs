//! A save on the source, and what the agents have of it; pushes by hand. Without code servers.

use codevol_tests::{Agent, Fleet, noise, wait_until};

#[test]
fn a_save_is_live_on_all_three_agents_and_current_names_it() {
    let fleet = Fleet::start(3);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let status = fleet.source.wait_live_everywhere(2);
    let id = status.volume()["release"]["id"].as_str().unwrap();
    for agent in &fleet.agents {
        let expected = format!("releases/000002-{}", &id[..8]);
        assert_eq!(agent.current().unwrap(), expected);
        assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 2\n");
        let own = agent.status();
        assert_eq!(own.state(agent.name()), "live", "{own}");
        assert_eq!(own.0["source"]["state"], "connected", "{own}");
    }
}

#[test]
fn the_release_file_says_what_stands_there() {
    let fleet = Fleet::start(1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let status = fleet.source.wait_live_everywhere(2);
    let (stands, record) = (fleet.agents[0].release_file(), &status.volume()["release"]);
    assert_eq!(stands["schema"], "codevol.release/1");
    assert_eq!(stands["volume"], "pipes");
    assert_eq!(stands["origin"], "watch");
    for key in [
        "seq",
        "id",
        "manifest",
        "parent",
        "origin",
        "created_at",
        "author",
        "message",
    ] {
        assert_eq!(stands[key], record[key], "{key}");
    }
    for key in ["git", "files", "bytes"] {
        assert_eq!(stands[key], record[key], "{key}");
    }
}

#[test]
fn a_push_settles_publishes_and_waits_until_it_is_live_everywhere() {
    let fleet = Fleet::start(3);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let pushed = fleet
        .source
        .run(&["push", "-m", "by hand", "--json"])
        .exits(0);
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(2), "{status}");
    let last = pushed.last_json();
    assert_eq!(last["event"], "rollout.done", "{pushed}");
    assert_eq!(last["release"], 2, "{pushed}");
    assert_eq!(last["live"], 2, "{pushed}");
    assert_eq!(last["returned"], false, "{pushed}");
    for agent in &fleet.agents {
        assert_eq!(last["nodes"][agent.name()], "live", "{pushed}");
    }
}

#[test]
fn a_push_and_its_plan_say_how_many_lines_change() {
    let fleet = Fleet::start_with(1, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ONE = 1\nTWO = 2\nTHREE = 3\n");
    });
    fleet.source.run(&["push"]).succeeds();
    let changed = "ONE = 1\nTWO = 22\nTWO_AND_A_HALF = 2.5\nTHREE = 3\n";
    fleet.source.save("pipes/orders.py", changed);
    let plan = fleet.source.run(&["plan"]).exits(0);
    assert!(plan.stdout.contains("+2 -1 lines"), "{plan}");
    let plan = fleet.source.run(&["plan", "--json"]).exits(0);
    let lines = serde_json::json!({"added": 2, "removed": 1, "uncounted": 0});
    assert_eq!(plan.json()["lines"], lines, "{plan}");
    fleet.source.save("pipes/logo.png", b"\0\n\n");
    let pushed = fleet.source.run(&["push"]).exits(0);
    let counted = "+2 -1 lines, 1 file not counted";
    assert!(pushed.stdout.contains(counted), "{pushed}");
    let back = fleet.source.run(&["rollback", "--yes"]).exits(0);
    assert!(back.stdout.contains("+1 -2 lines"), "{back}");
}

#[test]
fn a_retry_is_no_way_back_and_no_way_around_a_freeze() {
    let fleet = Fleet::start(1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let refused = fleet.source.run(&["retry", "r1", "--json"]).exits(4);
    assert_eq!(refused.json()["kind"], "not-broken", "{refused}");
    // Nothing is wrong with what is live: there is only nothing to do.
    fleet.source.run(&["retry", "r2"]).succeeds();
    fleet.source.run(&["rollback", "r1", "--yes"]).succeeds();
    let refused = fleet.source.run(&["retry", "r2", "--json"]).exits(4);
    assert_eq!(refused.json()["kind"], "frozen", "{refused}");
    assert!(fleet.source.status().is_live_everywhere(3));
}

#[test]
fn a_push_of_what_is_live_already_ends_well_and_publishes_nothing() {
    let fleet = Fleet::start(1);
    fleet.source.run(&["push"]).succeeds();
    assert_eq!(fleet.source.status().head(), 1);
}

#[test]
fn a_push_reports_an_absent_node_and_exits_3() {
    let mut fleet = Fleet::start(2);
    fleet.agents[1].process().terminate();
    fleet.source.wait("the node is offline", |status| {
        status.state("dag-02") == "offline"
    });
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let pushed = fleet.source.run(&["push", "--json"]).exits(3);
    let last = pushed.last_json();
    assert_eq!(last["event"], "rollout.done", "{pushed}");
    assert_eq!(last["nodes"]["dag-01"], "live", "{pushed}");
    assert_eq!(last["nodes"]["dag-02"], "offline", "{pushed}");
    fleet.agents[1].start();
    fleet.source.wait_live_everywhere(2);
}

#[test]
fn a_push_to_an_empty_fleet_is_done_and_says_so() {
    let fleet = Fleet::without_agents();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.run(&["push"]).succeeds();
    assert_eq!(fleet.source.status().live(), 2);
}

#[test]
fn a_dry_run_shows_the_change_and_publishes_nothing() {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    fleet.source.run(&["push"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let shown = fleet.source.run(&["push", "--dry-run"]).exits(0);
    assert!(shown.stdout.contains("pipes/orders.py"), "{shown}");
    assert_eq!(fleet.source.status().head(), 1);
}

#[test]
fn a_push_of_a_named_path_takes_only_that_one_on_a_manual_volume() {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    fleet.source.run(&["push"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.save("pipes/other.py", "OTHER = 2\n");
    let named = fleet.source.tree().join("pipes/orders.py");
    fleet
        .source
        .run(&["push", named.to_str().unwrap()])
        .succeeds();
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(2), "{status}");
    assert_eq!(status.volume()["release"]["origin"], "hot-fix");
    assert_eq!(
        fleet.agents[0].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
    assert_eq!(fleet.agents[0].read("pipes/other.py"), None);
}

#[test]
fn a_named_path_on_a_watched_volume_is_refused() {
    let fleet = Fleet::start(1);
    let named = fleet.source.tree().join("pipes/orders.py");
    let refused = fleet
        .source
        .run(&["push", named.to_str().unwrap(), "--json"]);
    let refused = refused.exits(4).json();
    assert_eq!(refused["schema"], "codevol.error/1", "{refused}");
}

#[test]
fn a_rollback_moves_no_file_bytes_and_freezes_until_thaw() {
    let fleet = Fleet::start_with(2, |source| {
        source.save("pipes/table.bin", noise(1 << 20, 1));
    });
    fleet.source.save("pipes/table.bin", noise(1 << 20, 2));
    fleet.source.wait_live_everywhere(2);
    let back = fleet
        .source
        .run(&["rollback", "-m", "wrong", "--yes", "--json"])
        .exits(0);
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(3), "{status}");
    assert_eq!(status.volume()["release"]["origin"], "rollback", "{status}");
    assert!(status.volume()["frozen"]["why"].is_string(), "{status}");
    for agent in &fleet.agents {
        let table = agent.root().join("current/pipes/table.bin");
        assert_eq!(std::fs::read(table).unwrap(), noise(1 << 20, 1));
    }
    let staged = back
        .json_lines()
        .into_iter()
        .filter(|line| line["event"] == "node.staged");
    let bytes: Vec<u64> = staged.filter_map(|line| line["bytes"].as_u64()).collect();
    assert_eq!(bytes.len(), 2, "{back}");
    assert!(
        bytes.iter().all(|bytes| *bytes < 10_000),
        "{bytes:?} for a file of 1 MiB"
    );

    // Frozen: the save that is still in the tree does not come back by itself.
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.run(&["push"]).exits(4);
    assert_eq!(fleet.source.status().head(), 3);
    fleet.source.run(&["thaw"]).succeeds();
    let status = fleet.source.wait_live_everywhere(4);
    assert!(status.volume()["frozen"].is_null(), "{status}");
    assert_eq!(
        fleet.agents[0].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
}

#[test]
fn a_freeze_refuses_pushes_and_a_push_that_thaws_lifts_it() {
    let fleet = Fleet::start(1);
    fleet
        .source
        .run(&["freeze", "-m", "closing the books"])
        .succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let refused = fleet.source.run(&["push", "--json"]).exits(4);
    assert_eq!(refused.json()["kind"], "frozen", "{refused}");
    let status = fleet.source.status();
    assert_eq!(status.head(), 1, "{status}");
    assert_eq!(status.volume()["frozen"]["why"], "closing the books");
    fleet.source.run(&["push", "--thaw"]).succeeds();
    let status = fleet.source.status();
    assert!(status.is_live_everywhere(2), "{status}");
    assert!(status.volume()["frozen"].is_null(), "{status}");
}

#[test]
fn a_freeze_and_a_rollback_survive_a_restart_of_the_source() {
    let mut fleet = Fleet::start(1);
    fleet
        .source
        .run(&["freeze", "-m", "closing the books"])
        .succeeds();
    fleet.source.crash_and_restart();
    let status = fleet.source.wait_live_everywhere(1);
    assert_eq!(status.volume()["frozen"]["why"], "closing the books");
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.run(&["push"]).exits(4);
}

#[test]
fn the_blast_guard_refuses_a_tree_that_is_mostly_gone_unless_told_yes() {
    let fleet = Fleet::start_with(1, |source| {
        for n in 0..20 {
            source.save(&format!("tables/t{n}.py"), format!("TABLE = {n}\n"));
        }
    });
    std::fs::remove_dir_all(fleet.source.tree().join("tables")).unwrap();
    let refused = fleet.source.run(&["push", "--json"]).exits(4);
    assert_eq!(refused.json()["kind"], "blast-guard", "{refused}");
    assert_eq!(fleet.source.status().head(), 1);
    assert_eq!(fleet.agents[0].read("tables/t7.py").unwrap(), "TABLE = 7\n");
    fleet.source.run(&["push", "--yes"]).succeeds();
    assert_eq!(fleet.agents[0].read("tables/t7.py"), None);
    assert_eq!(fleet.agents[0].current_seq(), Some(2));
}

#[test]
fn health_and_readiness_tell_a_daemon_that_answers_from_one_that_is_ready() {
    let mut fleet = Fleet::start(1);
    fleet.source.run(&["health", "--ready"]).succeeds();
    fleet.agents[0].run(&["health", "--ready"]).succeeds();
    // Ready means that a verified release stands there, source up or not.
    fleet.source.process().terminate();
    fleet.source.run(&["health"]).exits(69);
    fleet.agents[0].run(&["health", "--ready"]).succeeds();
    fleet.agents[0].process().terminate();
    fleet.agents[0].run(&["health"]).exits(69);
}

#[test]
fn an_agent_without_a_release_answers_and_is_not_ready() {
    let fleet = Fleet::start_with(0, |source| {
        std::fs::remove_dir_all(source.tree()).unwrap();
        source.place().folder("tree");
    });
    let agent = Agent::join_and_start(&fleet.source, "dag-01", None);
    agent.run(&["health"]).succeeds();
    agent.run(&["health", "--ready"]).exits(1);
    fleet.source.save("pipes/orders.py", "ORDERS = 1\n");
    wait_until("the agent is ready", || {
        agent.run(&["health", "--ready"]).code == Some(0)
    });
}

#[test]
fn a_daemon_ends_well_on_sigterm_and_every_command_then_says_it_is_unreachable() {
    let mut fleet = Fleet::start(1);
    let ended = fleet.source.process().terminate();
    assert_eq!(ended.code(), Some(0), "{}", fleet.source.process().log());
    let ended = fleet.agents[0].process().terminate();
    assert_eq!(ended.code(), Some(0), "{}", fleet.agents[0].process().log());
    for args in [
        &["status", "--json"][..],
        &["push", "--json"],
        &["freeze", "--json"],
    ] {
        let refused = fleet.source.run(args).exits(69);
        assert_eq!(refused.json()["schema"], "codevol.error/1", "{refused}");
    }
}

#[test]
fn what_the_ignore_rules_leave_out_is_told_and_never_sent() {
    let fleet = Fleet::start_with(1, |source| {
        source.save(".env", "PASSWORD=1\n");
        source.save("pipes/__pycache__/x.pyc", "old");
        source.save(".gitignore", "scratch/\n");
        source.save("scratch/notes.py", "x = 1\n");
    });
    for path in [".env", "pipes/__pycache__/x.pyc", "scratch/notes.py"] {
        assert_eq!(fleet.agents[0].read(path), None, "{path}");
    }
    let listed = fleet.source.run(&["ignored"]).exits(0);
    assert!(listed.stdout.contains(".env"), "{listed}");
    // What is left out is not watched: the list is made when it is asked for.
    fleet.source.remove(".env");
    fleet.source.save("id_ed25519", "secret");
    let listed = fleet.source.run(&["ignored"]).exits(0);
    assert!(!listed.stdout.contains(".env"), "{listed}");
    assert!(listed.stdout.contains("id_ed25519"), "{listed}");
    let path = fleet.source.tree().join("scratch/notes.py");
    let why = fleet
        .source
        .run(&["ignored", "--why", path.to_str().unwrap()])
        .exits(0);
    assert!(why.stdout.contains(".gitignore"), "{why}");
}
