//! What the source's store has lost of a release that servers need.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use codevol_tests::{Agent, Fleet};

const LOST: &str = "lost = True\n";
const DAMAGED: &str = "damaged = True\n";

/// A source that publishes when it is told to, has published r1, and has sent it to so many servers: what
/// it has sent of late it knows without its store.
fn fleet(agents: usize) -> Fleet {
    let fleet = Fleet::start_with(agents, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/lost.py", LOST);
        source.save("pipes/damaged.py", DAMAGED);
    });
    fleet.source.run(&["push"]).exits(0);
    fleet
}

/// Finds the file in which the source keeps these bytes.
fn kept(fleet: &Fleet, text: &str) -> PathBuf {
    let folder = fleet.source.file().parent().unwrap().to_owned();
    let fans = fs::read_dir(folder.join("state/volumes/pipes/blobs")).unwrap();
    let mut blobs = fans.flat_map(|fan| fs::read_dir(fan.unwrap().path()).unwrap());
    let blob = blobs.find_map(|blob| {
        let path = blob.unwrap().path();
        (fs::read(&path).unwrap() == text.as_bytes()).then_some(path)
    });
    blob.unwrap()
}

/// Takes away one file of the store and spoils another.
fn lose(fleet: &Fleet) {
    fs::remove_file(kept(fleet, LOST)).unwrap();
    let damaged = kept(fleet, DAMAGED);
    let file = fs::OpenOptions::new().write(true).open(damaged).unwrap();
    file.write_all_at(b"#", 0).unwrap();
}

fn join(fleet: &mut Fleet, name: &str) {
    let agent = Agent::join_and_start(&fleet.source, name, None);
    fleet.agents.push(agent);
}

#[test]
fn what_stands_in_the_tree_still_reaches_who_needs_it() {
    let mut fleet = fleet(0);
    lose(&fleet);
    join(&mut fleet, "dag-01");
    fleet.source.wait_live_everywhere(1);
    fleet.source.run(&["verify", "--deep"]).exits(0);
}

#[test]
fn a_deep_look_tells_what_was_lost_and_takes_it_from_the_tree() {
    let fleet = fleet(1);
    lose(&fleet);
    let deep = ["verify", "--deep", "--json"];
    let found = fleet.source.run(&deep).exits(5).json();
    for how in ["missing", "damaged"] {
        let blobs = found["source"][how].as_array();
        assert_eq!(blobs.map(Vec::len), Some(1), "{how}: {found}");
    }
    fleet.source.run(&deep).exits(0);
}

#[test]
fn what_the_tree_has_otherwise_is_said_until_it_is_put_back() {
    let mut fleet = fleet(0);
    lose(&fleet);
    fleet.source.save("pipes/lost.py", "edited = True\n");
    join(&mut fleet, "dag-01");
    let said = fleet.source.wait("it is said what is lost", |status| {
        status.node("dag-01")["error"]["kind"] == "lost"
    });
    let message = &said.node("dag-01")["error"]["message"];
    assert!(
        message.as_str().unwrap().contains("pipes/lost.py"),
        "{said}"
    );
    let screen = fleet.source.run(&["status"]).exits(0);
    assert!(
        screen.stdout.contains("has lost `pipes/lost.py`"),
        "{screen}"
    );
    fleet.source.save("pipes/lost.py", LOST);
    // It is live, and on its way to the server.
    let pushed = fleet.source.run(&["push"]);
    assert!(matches!(pushed.code, Some(0 | 3)), "{pushed}");
    fleet.source.wait_live_everywhere(1);
}

#[test]
fn a_push_of_what_came_after_needs_no_file_that_was_lost_before() {
    let mut fleet = fleet(1);
    lose(&fleet);
    for path in ["pipes/lost.py", "pipes/damaged.py"] {
        fleet.source.save(path, format!("edited = '{path}'\n"));
    }
    fleet.source.run(&["push"]).exits(0);
    join(&mut fleet, "dag-02");
    fleet.source.wait_live_everywhere(2);
}
