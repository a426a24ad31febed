//! SIGHUP: the file is read again, by the same process. Without code servers.

#![expect(
    clippy::disallowed_methods,
    reason = "what a test writes needs no durability"
)]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use codevol_tests::{Fleet, Process, wait_for, wait_until};
use rustix::process::Signal;

/// Adds a line to a file's volume.
fn add_to_volume(file: &Path, line: &str) {
    let text = fs::read_to_string(file).unwrap();
    let begins = text.rfind("[[volume]]\n").unwrap() + "[[volume]]\n".len();
    let (before, after) = text.split_at(begins);
    fs::write(file, format!("{before}{line}\n{after}")).unwrap();
}

/// Adds a line above all tables.
fn add_on_top(file: &Path, line: &str) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{line}\n{text}")).unwrap();
}

/// Sends SIGHUP, and waits until the daemon has said something of it.
fn reload(process: &mut Process, says: &str) -> String {
    let before = process.log().len();
    process.signal(Signal::HUP);
    wait_for(&format!("it says `{says}`"), || {
        assert!(process.is_running(), "it ended:\n{}", process.log());
        let said = process.log().split_off(before);
        if said.contains(says) {
            Ok(said)
        } else {
            Err(said)
        }
    })
}

#[test]
fn a_source_takes_what_its_file_says_at_sighup_and_keeps_its_process_its_port_and_its_agents() {
    let mut fleet = Fleet::start(1);
    fleet.source.save("scratch/a.py", "A = 1\n");
    fleet.source.wait_live_everywhere(2);
    assert!(fleet.agents[0].read("scratch/a.py").is_some());
    let listen = fleet.source.listen();

    add_to_volume(&fleet.source.file(), "ignore = [\"scratch/**\"]");
    reload(fleet.source.process(), "configuration was reloaded");
    fleet.source.wait_live_everywhere(3);
    assert!(fleet.agents[0].read("scratch/a.py").is_none());
    assert_eq!(fleet.source.listen(), listen);
    // What is watched is the tree as the new rules see it.
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(4);

    // Once more, with nothing new in it.
    reload(fleet.source.process(), "configuration is as it was");
    assert_eq!(fleet.source.process().terminate().code(), Some(0));
}

#[test]
fn a_source_whose_new_file_cannot_hold_keeps_the_old_one_and_says_why() {
    let mut fleet = Fleet::start(1);
    let file = fleet.source.file();
    let good = fs::read_to_string(&file).unwrap();

    add_to_volume(&file, "ignor = [\"scratch/**\"]");
    let checked = fleet.source.run(&["config", "check"]).exits(78);
    let said = reload(fleet.source.process(), "the old one stays");
    let line = checked.stderr.lines().find(|line| line.contains("ignor"));
    // The log may quote what stands in quotes.
    let line = line.unwrap().split('"').next().unwrap();
    assert!(said.contains(line), "no `{line}` in: {said}");

    fs::write(&file, &good).unwrap();
    let text = good.replace("state_dir = ", "# state_dir = ");
    fs::write(&file, text).unwrap();
    add_on_top(&file, "state_dir = \"elsewhere\"");
    let said = reload(fleet.source.process(), "the old one stays");
    assert!(said.contains("`state_dir` cannot change"), "{said}");

    // This shows only when it starts.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    let text = good.replace(
        "listen = ",
        &format!("listen = \"{taken_at}\"\n# listen = "),
    );
    fs::write(&file, text).unwrap();
    reload(
        fleet.source.process(),
        "cannot start with the new configuration",
    );
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
}

#[test]
fn a_source_that_was_moved_has_its_agents_back_once_their_files_name_the_new_place() {
    let mut fleet = Fleet::start(2);
    let old = fleet.source.listen();
    fleet.source.process().terminate();
    let folder = fleet.source.place().path();
    let (state, moved) = (folder.join("source/state"), folder.join("source/moved"));
    fs::rename(state, &moved).unwrap();
    fleet.source.set("STATE_DIR", moved.to_str().unwrap());
    fleet.source.set("LISTEN", "127.0.0.1:0");
    fleet.source.start();
    let new = fleet.source.listen();
    assert_ne!(old, new);
    for agent in &mut fleet.agents {
        let text = fs::read_to_string(agent.file()).unwrap();
        let changed = text.replace(&old, &new);
        assert_ne!(text, changed);
        fs::write(agent.file(), changed).unwrap();
        reload(agent.process(), "configuration was reloaded");
    }
    fleet.source.wait_live_everywhere(1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
}

#[test]
fn an_agent_takes_what_its_file_says_at_sighup() {
    let mut fleet = Fleet::start(1);
    let file = fleet.agents[0].file();
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, "role = \"source\"").unwrap();
    reload(fleet.agent().process(), "the old one stays");
    fs::write(&file, &good).unwrap();

    // Found where the new file says: no other daemon listens there.
    add_on_top(&file, "control_socket = \"other.sock\"");
    reload(fleet.agent().process(), "configuration was reloaded");
    fleet.agents[0].run(&["health", "--ready"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    wait_until("r2 is there", || fleet.agents[0].current_seq() == Some(2));
}
