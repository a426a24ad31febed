//! Commands by which a person on call looks on and takes hold: `status --watch`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::release::Seq;
use codevol_protocol::status::Status;
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};

use super::{Host, status};

/// How the fleet stands once another release is live.
fn moved(live: u64) -> Reply {
    let Reply::Status(status) = status() else {
        return status();
    };
    let mut status: Status = *status;
    for volume in &mut status.volumes {
        volume.live = Some(Seq(live));
    }
    Reply::Status(Box::new(status))
}

#[test]
fn each_state_is_a_document_on_a_line_until_the_daemon_ends() {
    let host = Host::answering(vec![vec![status(), Reply::Unchanged, moved(7)]]);
    let shown = host.codevol(&["status", "--watch", "--json"]);
    let lines: Vec<&str> = shown.lines().collect();
    let live = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["schema"], "codevol.status/1", "{line}");
        document["volumes"][0]["live"].as_u64()
    };
    assert_eq!(
        [lines[0], lines[1]].map(live),
        [Some(1), Some(7)],
        "{shown}"
    );
    assert_snapshot!(lines[2..].join("\n"), @r#"
    {"schema":"codevol.error/1","kind":"unreachable","message":"the source tells no more","causes":["the source took the call, but did not answer"],"hint":"what was shown last may not hold any more; `codevol status` asks anew"}
    --- 69
    "#);
    assert_eq!(host.calls(), [Call::Watch]);
}

#[test]
fn off_a_terminal_each_state_is_a_screen_with_its_time() {
    let host = Host::answering(vec![vec![status(), moved(7)]]);
    let shown = host.codevol(&["status", "--watch"]);
    let screens: Vec<&str> = shown.split("\n--- 2").collect();
    assert_eq!(screens.len(), 2, "{shown}");
    assert!(screens[0].starts_with("pipes "), "{shown}");
    assert!(screens[1].contains("\npipes "), "{shown}");
    let end = shown.find("--- 69").unwrap();
    assert_snapshot!(&shown[end..], @"
    --- 69
    error: the source tells no more
      caused by: the source took the call, but did not answer
    hint: what was shown last may not hold any more; `codevol status` asks anew
    ");
}

#[test]
fn an_interrupt_ends_it_with_130_and_no_word() {
    let host = Host::holding(1, vec![vec![status()]]);
    let mut command = host.command(&["status", "--watch", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("codevol.status/1"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(lines.next().map(Result::unwrap), None);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert!(ended.stderr.is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_it_well() {
    let states: Vec<Reply> = (1..100).map(moved).collect();
    let host = Host::holding(1, vec![states]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = host.command(&["status", "--watch", "--json"]);
    let shown = host.shown(&command.stdout(writer).output().unwrap());
    assert_eq!(shown, "--- 0\n");
}
