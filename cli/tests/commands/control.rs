//! Commands by which a person on call looks on and takes hold: `status --watch`, `rollback --node`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use codevol_protocol::call::{Call, FailureSort, NodeWentBack, Reply};
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::hold::WentBack;
use codevol_protocol::message::Verification;
use codevol_protocol::release::Seq;
use codevol_protocol::status::Status;
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};

use super::{Host, failed, status, text};

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

/// The node's answer: it is back on r1.
fn went_back() -> Reply {
    Reply::NodeWentBack(Box::new(NodeWentBack {
        volume: "pipes".parse().unwrap(),
        node: "dag-01".parse().unwrap(),
        went: WentBack {
            from: Some(Seq(2)),
            to: Seq(1),
            active: Some(Seq(1)),
            found: Some(Verification {
                verdict: Verdict::Good,
                evidence: Evidence::Proven,
                code_servers: Vec::new(),
                failure: None,
                elapsed_ms: 1_200,
            }),
            returned: None,
        },
    }))
}

#[test]
fn one_node_is_taken_back_by_its_name() {
    let host = Host::answering(vec![vec![went_back()], vec![went_back()], vec![status()]]);
    let rollback = ["rollback", "r1", "--node", "dag-01", "-m", "look", "-y"];
    assert_snapshot!(host.codevol(&rollback), @"
    dag-01 is on r1 (was on r2), proven in 1.2s
    It is held there: rollouts leave it out until `codevol thaw --node dag-01`
    --- 0
    Waiting  up to 5m 10s for its code servers
    ");
    assert_snapshot!(host.codevol(&[&rollback[..], &["--json"]].concat()), @r#"
    {"schema":"codevol.node-rollback/1","volume":"pipes","node":"dag-01","from":2,"to":1,"active":1,"held":true,"state":"live","evidence":"proven","elapsed_ms":1200,"error":null}
    --- 0
    "#);
    assert_snapshot!(host.codevol(&["rollback", "--node", "dag-01"]), @"
    --- 2
    error: nobody can answer: take node `dag-01` from r2 to the release that it ran before, and hold it there until it is thawed?
    hint: say yes beforehand with `--yes`
    ");
    let call = Call::RollbackNode {
        volume: None,
        node: "dag-01".parse().unwrap(),
        to: "r1".parse().ok(),
        message: text("look"),
        wait: true,
    };
    assert_eq!(host.calls(), [call.clone(), call, Call::Status]);
}

#[test]
fn what_a_node_refuses_is_refused() {
    let not_held = failed(
        FailureSort::Refused,
        "not-held",
        "this node does not hold r7",
    );
    let host = Host::answering(vec![vec![not_held], vec![Reply::Done(text("it goes on"))]]);
    assert_snapshot!(host.codevol(&["rollback", "r7", "--node", "dag-01", "-y", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"not-held","message":"this node does not hold r7","causes":[],"hint":"do this"}
    --- 4
    "#);
    assert_snapshot!(host.codevol(&["thaw", "--node", "dag-01", "-m", "seen"]), @"
    it goes on
    --- 0
    ");
    let thaw = Call::ThawNode {
        volume: None,
        node: "dag-01".parse().unwrap(),
        message: text("seen"),
    };
    assert_eq!(host.calls()[1], thaw);
}
