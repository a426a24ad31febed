//! What is installed on the servers, in real virtual environments, and what a release wants of it.

use std::fs;

use codevol_tests::{Agent, Defines, Fleet, Venv, save, wait_until};

/// Adds an agent whose releases are compared with an environment.
fn add(fleet: &mut Fleet, name: &str, venv: &Venv, policy: &str) {
    let mut agent = Agent::join(&fleet.source, name, None);
    agent.set("VOLUME__0__PYTHON", venv.python().to_str().unwrap());
    agent.set("VOLUME__0__DEPENDENCIES", policy);
    agent.start();
    fleet.agents.push(agent);
}

#[test]
fn a_missing_package_is_refused_before_any_file_is_visible() {
    let mut fleet = Fleet::without_agents();
    let venv = Venv::make(fleet.source.place(), "venv");
    venv.install("pip", "24.0");
    venv.install("dagster", "1.11.2");
    add(&mut fleet, "dag-01", &venv, "refuse");
    fleet.source.wait_live_everywhere(1);

    fleet
        .source
        .save("requirements.txt", "dagster>=1.11\npolars==1.2\n");
    let pushed = fleet.source.run(&["push", "--json"]).exits(1);
    let last = pushed.last_json();
    assert_eq!(last["event"], "rollout.failed", "{pushed}");
    assert_eq!(last["error"]["kind"], "dependencies", "{pushed}");
    assert_eq!(last["error"]["location"], "requirements.txt:2", "{pushed}");
    let status = fleet.source.status();
    assert_eq!((status.head(), status.live()), (2, 1), "{status}");
    let agent = &fleet.agents[0];
    assert_eq!(agent.current_seq(), Some(1));
    assert_eq!(agent.read("requirements.txt"), None);

    // A person sees what is missing, and the command of that very interpreter.
    let retried = fleet.source.run(&["retry", "r2"]).exits(1);
    let python = venv.python();
    let mend = format!("`{} -m pip install 'polars==1.2'`", python.display());
    for expected in [
        "r2 needs packages that dag-01 lacks",
        "lacks polars==1.2",
        &mend,
    ] {
        assert!(
            retried.stderr.contains(expected),
            "no `{expected}` in {retried}"
        );
    }
    // It stays so when the agent comes back, which holds the release by now.
    fleet.agent().process().kill();
    fleet.agent().start();
    fleet.source.wait_live_everywhere(1);
    fleet.source.run(&["retry", "r2"]).exits(1);
    assert_eq!(fleet.source.status().live(), 1);

    venv.install("polars", "1.2");
    fleet.source.run(&["retry", "r2"]).succeeds();
    fleet.source.wait_live_everywhere(2);
    assert!(fleet.agents[0].read("requirements.txt").is_some());
}

#[test]
fn a_damaged_file_of_a_refused_release_is_put_back_on_one_and_the_same_link() {
    let mut fleet = Fleet::without_agents();
    let venv = Venv::make(fleet.source.place(), "venv");
    venv.install("dagster", "1.11.2");
    add(&mut fleet, "dag-01", &venv, "refuse");
    fleet.source.wait_live_everywhere(1);
    let wanted = "polars==1.2\n";
    fleet.source.save("requirements.txt", wanted);
    fleet.source.run(&["push"]).exits(1);
    // It comes back with a release that it does not offer, one file of which is held nowhere else, and is
    // then damaged: what was damaged before the start, and never activated, would be dropped.
    fleet.agent().process().terminate();
    fleet.agent().set("VOLUME__0__DRIFT", "restore");
    fleet.agent().set("VOLUME__0__SCRUB", "1s");
    fleet.agent().start();
    fleet.source.wait_live_everywhere(1);
    let agent = &fleet.agents[0];
    let refused = agent
        .releases()
        .into_iter()
        .find(|r| r.starts_with("000002"));
    let file = agent.root().join("releases").join(refused.unwrap());
    let file = file.join("requirements.txt");
    save(&file, b"polars==9.9\n");
    wait_until("the file is as released", || {
        fs::read_to_string(&file).is_ok_and(|text| text == wanted)
    });
    let log = fleet.agent().process().log();
    assert!(!log.contains("lost the source"), "{log}");
    // To have it whole is not to accept it.
    let status = fleet.source.wait_live_everywhere(1);
    assert_eq!(status.node("dag-01")["staged"][0], 1, "{status}");
}

#[test]
fn a_warning_stands_on_the_push_screen_and_in_the_status_until_it_is_mended() {
    let mut fleet = Fleet::without_agents();
    let venv = Venv::make(fleet.source.place(), "venv");
    venv.install("dagster", "1.11.2");
    venv.install("pandas", "2.0");
    add(&mut fleet, "dag-01", &venv, "warn");
    fleet.source.wait_live_everywhere(1);

    fleet.source.save("requirements.txt", "pandas>=2.1\n");
    let pushed = fleet.source.run(&["push", "--json"]).exits(0);
    let warning = pushed.last_json()["warnings"][0].clone();
    let said = warning["message"].as_str().unwrap().to_owned();
    assert!(
        said.contains("has pandas 2.0, not >=2.1 (requirements.txt:1)"),
        "{pushed}"
    );
    assert_eq!(warning["nodes"][0], "dag-01", "{pushed}");
    let status = fleet.source.wait_live_everywhere(2);
    let drift = &status.node("dag-01")["dependencies"]["packages"][0];
    assert_eq!(drift["name"], "pandas", "{status}");
    assert_eq!(drift["installed"], "2.0", "{status}");
    // The agent says the same of itself, and both screens do.
    let own = fleet.agents[0].status();
    assert_eq!(
        &own.node("dag-01")["dependencies"]["packages"][0],
        drift,
        "{own}"
    );
    for host in [
        fleet.source.run(&["status"]),
        fleet.agents[0].run(&["status"]),
    ] {
        assert!(host.stdout.contains(&said), "no `{said}` in {host}");
    }

    // Imports of changed files too, but not what the tree or the standard library gives.
    let lines = "import os, polars, pipes\nimport pandas\n";
    fleet.source.save(
        "pipes/orders.py",
        Defines::asset("second").and(lines).text(),
    );
    let pushed = fleet.source.run(&["push"]).exits(0);
    let gives = "gives polars (pipes/orders.py:9)";
    assert!(pushed.stderr.contains(gives), "no `{gives}` in {pushed}");

    venv.uninstall("pandas", "2.0");
    venv.install("pandas", "2.1");
    venv.install("polars", "1.2");
    let status = fleet
        .source
        .wait("the agent sees what was installed", |status| {
            let dependencies = &status.node("dag-01")["dependencies"];
            dependencies["packages"]
                .as_array()
                .is_some_and(Vec::is_empty)
                && dependencies["imports"]
                    .as_array()
                    .is_some_and(Vec::is_empty)
        });
    assert_eq!(status.live(), 3, "{status}");
}

#[test]
fn servers_whose_packages_differ_are_named() {
    let mut fleet = Fleet::without_agents();
    for (name, version) in [("dag-01", "1.11.2"), ("dag-02", "1.11.1")] {
        let venv = Venv::make(fleet.source.place(), &format!("venv-{name}"));
        venv.install("dagster", version);
        add(&mut fleet, name, &venv, "warn");
    }
    let status = fleet
        .source
        .wait("both have said what they have", |status| {
            let skew = status.volume()["skew"].as_array();
            skew.is_some_and(|skew| !skew.is_empty())
        });
    let skew = &status.volume()["skew"];
    assert_eq!(skew[0]["name"], "dagster", "{status}");
    assert_eq!(skew[1], serde_json::Value::Null, "{status}");
    let shown = fleet.source.run(&["status"]).exits(0);
    let line = "dag-01 has dagster 1.11.2, dag-02 1.11.1";
    assert!(shown.stdout.contains(line), "no `{line}` in {shown}");
    // A source that was away hears it anew.
    fleet.source.crash_and_restart();
    fleet.source.wait("both have said it again", |status| {
        status.volume()["skew"][0]["name"] == "dagster"
    });
}

#[test]
fn the_environment_of_a_real_code_server_is_found_by_its_own_word() {
    let Some(fleet) = Fleet::with_dagster(1) else {
        return;
    };
    let status = fleet.source.wait("the code server has said it", |status| {
        status.node("dag-01")["environments"][0]["dagster"].is_string()
    });
    let environment = &status.node("dag-01")["environments"][0];
    assert!(environment["packages"].as_u64() > Some(10), "{status}");
    fleet
        .source
        .save("requirements.txt", "dagster>=1\nno-such-package==9\n");
    let status = fleet.source.wait("it is compared", |status| {
        let packages = &status.node("dag-01")["dependencies"]["packages"];
        status.is_live_everywhere(2) && packages[0]["name"] == "no-such-package"
    });
    let dependencies = &status.node("dag-01")["dependencies"];
    assert_eq!(
        dependencies["packages"].as_array().unwrap().len(),
        1,
        "{status}"
    );
    assert_eq!(
        dependencies["imports"].as_array().unwrap().len(),
        0,
        "{status}"
    );
}
