//! Drift of an agent's disk: found, told, put back where that is configured; and `verify`.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use codevol_tests::{Agent, Defines, Fleet, FleetStatus, save, wait_for, wait_until};
use serde_json::Value;

/// A fleet of one agent with these settings of its volume.
fn fleet(settings: &[(&str, &str)]) -> Fleet {
    let mut fleet = Fleet::start_with(0, |source| {
        source.save(".codevolignore", "*.log\n");
        source.save("pipes/table.csv", "1,2,3\n");
    });
    let mut agent = Agent::join(&fleet.source, "dag-01", None);
    for (key, value) in settings {
        agent.set(&format!("VOLUME__0__{key}"), value);
    }
    agent.start();
    fleet.agents.push(agent);
    fleet.source.wait("r1 is live", |status| {
        !status.node("dag-01").is_null() && status.is_live_everywhere(1)
    });
    fleet
}

/// The folder of the release that is numbered so.
fn release(agent: &Agent, seq: u64) -> PathBuf {
    let name = agent.releases();
    let name = name
        .iter()
        .find(|name| name.starts_with(&format!("{seq:06}-")));
    agent.root().join("releases").join(name.unwrap())
}

/// Writes into a file where it stands, with its time of change put back.
fn damage(path: &Path) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"#", 0).unwrap();
    file.set_modified(before).unwrap();
}

/// `kind path`, in the status's order.
fn drift_of(node: &Value) -> Vec<String> {
    let all = node["drift"].as_array().unwrap();
    all.iter()
        .map(|drift| {
            let (kind, path) = (drift["kind"].as_str(), drift["path"].as_str());
            format!("{} {}", kind.unwrap(), path.unwrap())
        })
        .collect()
}

#[track_caller]
fn wait_drift(fleet: &Fleet, expected: &[&str]) -> FleetStatus {
    let what = format!("drift: {expected:?}");
    fleet
        .source
        .wait(&what, |status| drift_of(status.node("dag-01")) == expected)
}

/// Does to the live release, and to `current`, what can be done to them.
fn vandalise(agent: &Agent) -> [&'static str; 6] {
    let top = release(agent, agent.current_seq().unwrap());
    damage(&top.join("pipes/orders.py"));
    fs::remove_file(top.join("definitions.py")).unwrap();
    fs::set_permissions(
        top.join("pipes/table.csv"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    save(&top.join("planted.py"), b"print()\n");
    save(&top.join("run.log"), b"left out by a rule\n");
    save(
        &top.join("pipes/__pycache__/orders.pyc"),
        b"left out always\n",
    );
    fs::set_permissions(top.join("pipes"), fs::Permissions::from_mode(0o777)).unwrap();
    [
        "missing definitions.py",
        "changed pipes",
        "changed pipes/orders.py",
        "changed pipes/table.csv",
        "foreign planted.py",
        "flipped current",
    ]
}

fn flip(agent: &Agent) {
    let current = agent.root().join("current");
    fs::remove_file(&current).unwrap();
    symlink("/etc", &current).unwrap();
}

/// The lines of a daemon's journal about drift.
fn journal(folder: &Path, outcome: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join("state/journal/journal.jsonl")).unwrap();
    let outcome = format!("\"outcome\":\"{outcome}\"");
    let is_ours = |line: &&str| line.contains("\"action\":\"drift\"") && line.contains(&outcome);
    text.lines().filter(is_ours).map(str::to_owned).collect()
}

#[test]
fn each_kind_of_drift_is_found_told_and_left_as_it_is() {
    let mut fleet = fleet(&[]);
    let mut expected = vandalise(&fleet.agents[0]).to_vec();
    expected.pop();
    let status = wait_drift(&fleet, &expected);
    assert_eq!(status.node("dag-01")["drift_more"], 0, "{status}");
    assert_eq!(status.node("dag-01")["drift"][0]["release"], 1, "{status}");
    let own = fleet.agents[0].status();
    assert_eq!(drift_of(own.node("dag-01")), expected, "{own}");
    let screen = fleet.source.run(&["status"]).exits(0).stdout;
    assert!(
        screen.contains("on dag-01 5 paths are not as released: definitions.py (missing)"),
        "{screen}"
    );

    let agent = fleet.agents[0].file();
    for daemon in [
        agent.parent().unwrap(),
        fleet.source.file().parent().unwrap(),
    ] {
        wait_until("it is in the journal", || {
            let lines = journal(daemon, "found");
            lines
                .iter()
                .any(|line| line.contains("planted.py (foreign)"))
        });
    }
    let found = fleet.source.run(&["verify", "--json"]).exits(5).json();
    assert_eq!(found["schema"], "codevol.verify/1", "{found}");
    assert_eq!(found["drift"], true, "{found}");
    assert_eq!(found["nodes"][0]["state"], "drifted", "{found}");
    assert_eq!(drift_of(&found["nodes"][0]), expected, "{found}");
    let on_the_agent = fleet.agents[0].run(&["verify"]).exits(5);
    assert!(
        on_the_agent.stdout.contains("missing  definitions.py"),
        "{on_the_agent}"
    );

    flip(&fleet.agents[0]);
    expected.insert(0, "flipped current");
    wait_drift(&fleet, &expected);
    // Nothing was put back, and a source that was away hears of it all.
    fleet.source.crash_and_restart();
    wait_drift(&fleet, &expected);
    let top = release(&fleet.agents[0], 1);
    assert!(top.join("planted.py").exists() && !top.join("definitions.py").exists());

    // As released again by somebody else's hand.
    fs::remove_file(top.join("planted.py")).unwrap();
    expected.retain(|drift| !drift.contains("planted"));
    wait_drift(&fleet, &expected);
    wait_until("it is in the journal", || {
        !journal(agent.parent().unwrap(), "gone").is_empty()
    });
}

#[test]
fn what_drifts_is_put_back_where_the_volume_says_so() {
    let fleet = fleet(&[("DRIFT", "restore")]);
    // Another release, which shares what it did not change.
    fleet.source.save("more.py", "MORE = 1\n");
    fleet.source.wait_live_everywhere(2);
    let agent = &fleet.agents[0];
    let text = fs::read_to_string(fleet.source.tree().join("pipes/orders.py")).unwrap();
    vandalise(agent);
    flip(agent);
    // It is written into where it stands, so that no good copy is held: it travels once more.
    wait_for("it is as released", || {
        let orders = agent.read("pipes/orders.py").unwrap_or_default();
        let definitions = agent.read("definitions.py").is_some();
        (orders == text && definitions && agent.read("planted.py").is_none())
            .then_some(())
            .ok_or(orders)
    });
    wait_drift(&fleet, &[]);
    let verified = fleet.source.run(&["verify", "--deep", "--json"]).exits(0);
    assert_eq!(verified.json()["nodes"][0]["state"], "clean", "{verified}");
    let old = fs::read_to_string(release(agent, 1).join("pipes/orders.py")).unwrap();
    assert_eq!(old, text, "it is mended where it is shared");
    // What is left out is nobody's business.
    let top = release(agent, 2);
    assert!(top.join("run.log").exists());
    assert!(top.join("pipes/__pycache__/orders.pyc").exists());
    for host in [agent.file(), fleet.source.file()] {
        let folder = host.parent().unwrap().to_owned();
        wait_until("it is in the journal", || {
            !journal(&folder, "restored").is_empty()
        });
    }
    // And the fleet goes on.
    fleet.source.save("pipes/orders.py", "ORDERS = 3\n");
    fleet.source.wait_live_everywhere(3);
}

#[test]
fn a_held_release_that_was_damaged_is_found_by_the_scrub_and_by_a_deep_look() {
    let fleet = fleet(&[("SCRUB", "1s")]);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let agent = &fleet.agents[0];
    // Nobody watches what is not live.
    damage(&release(agent, 1).join("pipes/orders.py"));
    let status = wait_drift(&fleet, &["changed pipes/orders.py"]);
    assert_eq!(status.node("dag-01")["drift"][0]["release"], 1, "{status}");
    fleet.source.run(&["verify"]).exits(0);
    let deep = fleet
        .source
        .run(&["verify", "--deep", "--json"])
        .exits(5)
        .json();
    assert_eq!(deep["nodes"][0]["drift"][0]["release"], 1, "{deep}");
    assert_eq!(deep["nodes"][0]["releases"], 2, "{deep}");
    assert_eq!(
        deep["source"]["damaged"],
        Value::Array(Vec::new()),
        "{deep}"
    );
}

#[test]
fn a_damaged_blob_of_the_source_is_found_by_a_deep_look() {
    let fleet = fleet(&[]);
    let folder = fleet.source.file().parent().unwrap().to_owned();
    let blobs = folder.join("state/volumes/pipes/blobs");
    let fans = fs::read_dir(blobs).unwrap();
    let mut blobs = fans.flat_map(|fan| fs::read_dir(fan.unwrap().path()).unwrap());
    let blob = blobs.find_map(|blob| {
        let path = blob.unwrap().path();
        (fs::metadata(&path).unwrap().len() > 0).then_some(path)
    });
    damage(&blob.unwrap());
    fleet.source.run(&["verify"]).exits(0);
    let deep = fleet
        .source
        .run(&["verify", "--deep", "--json"])
        .exits(5)
        .json();
    assert_eq!(
        deep["source"]["damaged"].as_array().unwrap().len(),
        1,
        "{deep}"
    );
    assert_eq!(deep["nodes"][0]["state"], "clean", "{deep}");
}

#[test]
fn verify_says_by_its_exit_status_who_could_be_asked() {
    let mut fleet = Fleet::start(2);
    fleet.source.run(&["verify"]).exits(0);
    fleet.agents[0].run(&["verify"]).exits(0);
    fleet.agents[1].process().kill();
    fleet
        .source
        .wait("it is missed", |status| status.state("dag-02") == "offline");
    let partial = fleet.source.run(&["verify", "--json"]).exits(3).json();
    let state = |node: usize| partial["nodes"][node]["state"].as_str().unwrap();
    assert_eq!((state(0), state(1)), ("clean", "offline"), "{partial}");
    fleet.agents[1].run(&["verify"]).exits(69);
    fleet.agents[0].process().kill();
    fleet
        .source
        .wait("it is missed", |status| status.state("dag-01") == "offline");
    fleet.source.run(&["verify"]).exits(69);
    fleet.source.process().kill();
    fleet.source.run(&["verify"]).exits(69);
}

#[test]
fn a_diff_shows_how_a_disk_differs_line_by_line() {
    let fleet = fleet(&[]);
    let agent = &fleet.agents[0];
    let same = fleet.source.run(&["diff", "--node", "dag-01"]).exits(0);
    assert_eq!(same.stdout, "r1 and dag-01 are the same\n");
    let top = release(agent, 1);
    save(&top.join("pipes/table.csv"), b"1,2,3\n4,5,6\n");
    save(&top.join("planted.py"), b"PLANTED = 1\n");
    fs::remove_file(top.join("pipes/__init__.py")).unwrap();
    // What is foreign can be told once the ignore rules have come.
    let drift = [
        "missing pipes/__init__.py",
        "changed pipes/table.csv",
        "foreign planted.py",
    ];
    wait_drift(&fleet, &drift);
    let shown = fleet
        .source
        .run(&["diff", "--node", "dag-01"])
        .exits(0)
        .stdout;
    let expected = "removed pipes/__init__.py (file)\n\
        changed pipes/table.csv (file)\n--- r1/pipes/table.csv\n+++ dag-01/pipes/table.csv\n\
        @@ -1,1 +1,2 @@\n 1,2,3\n+4,5,6\n\
        added planted.py (file)\n--- /dev/null\n+++ dag-01/planted.py\n\
        @@ -1,0 +1,1 @@\n+PLANTED = 1\n";
    assert_eq!(shown, expected);
    let unknown = fleet.source.run(&["diff", "--node", "dag-09", "--json"]);
    assert_eq!(unknown.exits(4).json()["kind"], "not-found");
}

#[test]
fn code_that_a_server_loaded_while_it_drifted_is_loaded_again_once_it_is_put_back() {
    let Some(mut fleet) = Fleet::with_dagster(1) else {
        return;
    };
    assert_eq!(fleet.servers[0].assets(), ["first"]);
    fleet.agent().process().terminate();
    let orders = release(&fleet.agents[0], 1).join("pipes/orders.py");
    let edited = Defines::asset("drifted");
    save(&orders, edited.text().as_bytes());
    let root = fleet.agents[0].root().to_owned();
    fleet.servers[0].stop();
    fleet.servers[0].start(&root);
    assert_eq!(fleet.servers[0].assets(), ["drifted"]);
    fleet.agent().set("VOLUME__0__DRIFT", "restore");
    fleet.agent().set("VOLUME__0__SCRUB", "1s");
    fleet.agent().start();
    fleet.servers[0].wait_serves(&["first"]);
    wait_drift(&fleet, &[]);
    fleet.source.wait("it is proven again", |status| {
        status.node("dag-01")["evidence"] == "proven"
    });
    let verified = fleet.source.run(&["verify", "--json"]).exits(0).json();
    assert_eq!(verified["nodes"][0]["evidence"], "proven", "{verified}");
    let server = &verified["nodes"][0]["code_servers"][0];
    assert_eq!(server["state"], "good", "{verified}");
}
