//! A source whose state was put back from a backup: the servers know more than it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use codevol_tests::{Defines, Fleet, FleetStatus, wait_until};

/// More releases than a server keeps of one day.
const RELEASES: u64 = 27;

fn state(fleet: &Fleet) -> PathBuf {
    let file = fleet.source.file();
    file.parent().unwrap().join("state")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn save(fleet: &Fleet, seq: u64) {
    let defines = Defines::asset(&format!("a{seq}"));
    fleet.source.save("pipes/orders.py", defines.text());
}

/// A fleet at `RELEASES`, with the state of r2 put back and nothing running on it.
fn put_back() -> Fleet {
    let mut fleet = Fleet::start(2);
    save(&fleet, 2);
    fleet.source.wait_live_everywhere(2);
    let (state, backup) = (state(&fleet), fleet.source.place().path().join("backup"));
    fleet.source.process().terminate();
    copy(&state, &backup);
    fleet.source.start();
    for seq in 3..=RELEASES {
        save(&fleet, seq);
        fleet.source.wait_live_everywhere(seq);
    }
    fleet.source.process().terminate();
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    fleet
}

/// Both servers run what they ran, and the source knows.
fn is_as_it_was(status: &FleetStatus) -> bool {
    let frozen = status.volume()["frozen"]["why"].as_str();
    frozen.is_some_and(|why| why.starts_with("restored"))
        && status.head() == RELEASES
        && status.is_live_everywhere(RELEASES)
}

fn assert_nobody_moved(fleet: &Fleet) {
    for agent in &fleet.agents {
        assert_eq!(agent.current_seq(), Some(RELEASES));
        let moved = agent.run(&["status", "--json"]).exits(0).json();
        let staged = &moved["volumes"][0]["nodes"][0]["staged"];
        assert_eq!(staged[0], RELEASES, "{moved:#}");
    }
}

/// Saves go live again, by numbers that nobody knows yet.
fn assert_goes_on(fleet: &Fleet) {
    fleet.source.run(&["thaw"]).succeeds();
    save(fleet, RELEASES + 1);
    let saved = format!("a{}", RELEASES + 1);
    wait_until("what was saved runs on both", || {
        let has_it = |text: String| text.contains(&saved);
        let mut agents = fleet.agents.iter();
        agents.all(|agent| agent.read("pipes/orders.py").is_some_and(has_it))
    });
    let status = fleet.source.status();
    assert!(status.head() > RELEASES, "{status}");
}

#[test]
fn a_restored_source_takes_in_what_its_servers_know_before_it_publishes() {
    let mut fleet = put_back();
    let tree = fleet.source.tree().to_str().unwrap().to_owned();
    let restored = fleet.source.run(&["init", &tree, "--restore"]).exits(0);
    assert!(restored.stdout.contains("pipes, at r2"), "{restored}");
    // What was saved since then must not be published by an old number.
    save(&fleet, 99);
    fleet.source.start();
    fleet.source.wait("all is as it was", is_as_it_was);
    assert_nobody_moved(&fleet);
    fleet.source.crash_and_restart();
    fleet.source.wait("so it is after a restart", is_as_it_was);
    assert_nobody_moved(&fleet);
    fleet.source.run(&["audit", "verify"]).exits(0);
    assert_goes_on(&fleet);
}

#[test]
fn a_source_that_was_put_back_without_a_word_leads_nobody_back() {
    let mut fleet = put_back();
    // It publishes r3 before it has heard anybody: another r3 than the servers know.
    fleet.source.start();
    fleet.source.wait("all is as it was", is_as_it_was);
    assert_nobody_moved(&fleet);
    assert_goes_on(&fleet);
}

#[test]
fn a_node_that_is_held_where_it_is_takes_nobody_there() {
    let mut fleet = put_back();
    let held = RELEASES - 3;
    let back = ["rollback", &format!("r{held}"), "--yes"];
    fleet.agents[0].run(&back).exits(0);
    // It is heard first, and alone.
    fleet.agents[1].process().terminate();
    fleet.source.start();
    let heard = fleet
        .source
        .wait("what the held one knows is taken in", |status| {
            status.head() == RELEASES
        });
    // One person wanted that one node there.
    assert_ne!(heard.live(), held, "{heard}");
    fleet.agents[1].start();
    fleet
        .source
        .wait("live is what the other one runs", |status| {
            status.live() == RELEASES && status.state("dag-02") == "live"
        });
    assert_eq!(fleet.agents[1].current_seq(), Some(RELEASES));
    assert_eq!(fleet.agents[0].current_seq(), Some(held));
}

#[test]
fn a_server_that_lacks_what_is_live_says_why_and_takes_the_next_release() {
    let mut fleet = Fleet::start(2);
    let (state, backup) = (state(&fleet), fleet.source.place().path().join("backup"));
    fleet.source.process().terminate();
    copy(&state, &backup);
    fleet.source.start();
    fleet.agents[1].process().terminate();
    save(&fleet, 2);
    wait_until("one has it, the other is away", || {
        fleet.agents[0].current_seq() == Some(2)
    });
    fleet.source.process().terminate();
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    // The configuration was lost as well: the same options write the same one.
    let tree = fleet.source.tree().to_str().unwrap().to_owned();
    let file = fleet.source.file();
    let before = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let of_volume = ["--volume", "pipes", "--listen", "127.0.0.1:0"];
    let restore = [&["init", &tree, "--restore"], &of_volume[..]].concat();
    let restored = fleet.source.run(&restore).exits(0);
    assert!(restored.stdout.contains("pipes, at r1"), "{restored}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    fleet.source.start();
    fleet.agents[1].start();
    let status = fleet.source.wait("the other one is told apart", |status| {
        status.live() == 2 && status.state("dag-02") == "failed"
    });
    let error = &status.node("dag-02")["error"];
    assert_eq!(
        (&error["kind"], &error["release"]),
        (&"not-kept".into(), &2.into()),
        "{status}"
    );
    let screen = fleet.source.run(&["status"]).exits(0);
    let said = "dag-02 failed: the source was restored from a backup, and has not the files of this release";
    assert!(screen.stdout.contains(said), "{screen}");
    // The tree is the very one that is live, and is published all the same: its files are what is lacking.
    fleet.source.run(&["push", "--thaw"]).exits(0);
    fleet.source.wait_live_everywhere(3);
    let log = fleet.source.process().log();
    let failures = log.matches("step failed on node").count();
    assert_eq!(failures, 1, "it is said once a connection: {log}");
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let fleet = Fleet::without_agents();
    let tree = fleet.source.tree().to_str().unwrap().to_owned();
    let running = fleet.source.run(&["init", &tree, "--restore"]).exits(78);
    assert!(running.stderr.contains("stop the source"), "{running}");
    let elsewhere = ["init", "/", "--restore"];
    fleet.source.run(&elsewhere).exits(2);
    let volume = ["init", &tree, "--restore", "--volume", "other"];
    fleet.source.run(&volume).exits(2);
}
