//! The operator's commands against a daemon that says what the test tells it to: what is asked, what
//! is printed, and how the command ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

#[path = "commands/control.rs"]
mod control;
#[path = "commands/history.rs"]
mod history;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use codevol_protocol::call::{Call, CallFailure, FailureSort, Invited, Push, PushPlan, Reply};
use codevol_protocol::evidence::Evidence;
use codevol_protocol::id::{FleetId, ManifestId, ReleaseId};
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::name::Text;
use codevol_protocol::release::{Origin, Seq, UnixMillis};
use codevol_protocol::status::{
    Event, EventKind, NodeError, NodeState, NodeStatus, Outcome, OutcomeKind, ReleaseStatus,
    Status, VolumeStatus,
};
use codevol_transport::{FrameReader, FrameWriter};
use insta::assert_snapshot;
use tempfile::TempDir;
use tokio::net::UnixListener;

/// A source's host, with a daemon that answers each call with the next replies, then hangs up.
struct Host {
    dir: TempDir,
    daemon: Option<JoinHandle<Vec<Call>>>,
}

const CONFIG: &str = "role = \"source\"\n\
    [[volume]]\nname = \"pipes\"\npath = \"tree\"\n";

impl Host {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's file needs no durability"
    )]
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("tree/assets")).unwrap();
        fs::create_dir_all(dir.path().join("state")).unwrap();
        fs::write(dir.path().join("codevol.toml"), CONFIG).unwrap();
        Self { dir, daemon: None }
    }

    fn answering(scripts: Vec<Vec<Reply>>) -> Self {
        Self::holding(0, scripts)
    }

    /// The same, but the first so many callers have to hang up themselves.
    fn holding(held: usize, scripts: Vec<Vec<Reply>>) -> Self {
        let mut host = Self::new();
        let listener = StdListener::bind(host.socket()).unwrap();
        host.daemon = Some(thread::spawn(move || serve(listener, held, scripts)));
        host
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("state/control.sock")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codevol"));
        command
            .args(args)
            .env_clear()
            .env("TZ", "UTC")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn codevol(&self, args: &[&str]) -> String {
        self.shown(&self.command(args).output().unwrap())
    }

    fn shown(&self, output: &Output) -> String {
        let dir = self.dir.path().canonicalize().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(dir.to_str().unwrap(), "[DIR]")
        };
        let code = output.status.code().unwrap();
        format!(
            "{}--- {code}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        )
    }

    /// Returns what was asked.
    fn calls(mut self) -> Vec<Call> {
        self.daemon.take().unwrap().join().unwrap()
    }
}

fn serve(listener: StdListener, held: usize, scripts: Vec<Vec<Reply>>) -> Vec<Call> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let mut calls = Vec::new();
        for (number, replies) in scripts.into_iter().enumerate() {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, writer) = stream.into_split();
            let mut reader = FrameReader::new(reader, CONTROL_FRAME_BYTES_MAX);
            let mut writer = FrameWriter::new(writer, CONTROL_FRAME_BYTES_MAX);
            calls.push(reader.read().await.unwrap().unwrap());
            for reply in replies {
                writer.write(&reply).await.unwrap();
            }
            if number < held {
                assert_eq!(reader.read::<Call>().await.unwrap(), None);
            }
        }
        calls
    })
}

fn text(text: &str) -> Text {
    Text::cut(text)
}

fn release(seq: u64) -> ReleaseStatus {
    ReleaseStatus {
        seq: Seq(seq),
        id: ReleaseId::of(&seq.to_be_bytes()),
        manifest: ManifestId::of(b"m"),
        parent: None,
        origin: Origin::Push,
        author: text("alice"),
        message: text("why"),
        created_at: UnixMillis(1_764_000_000_000),
        files: 2,
        bytes: 10,
        git: None,
    }
}

fn plan() -> Reply {
    let mut plan = PushPlan::new("pipes".parse().unwrap(), 300_000);
    (plan.release, plan.base, plan.nodes) = (Some(release(2)), Some(Seq(1)), 2);
    Reply::Plan(Box::new(plan))
}

fn event(kind: EventKind, node: &str) -> Event {
    Event {
        event: kind,
        at: UnixMillis(1_764_000_000_000),
        volume: "pipes".parse().unwrap(),
        release: Some(Seq(2)),
        node: node.parse().ok(),
        elapsed_ms: Some(3),
        bytes: None,
        evidence: None,
        wave: None,
        error: None,
    }
}

fn error() -> NodeError {
    NodeError {
        node: "dag-01".parse().unwrap(),
        release: Seq(2),
        step: text("verify"),
        kind: text("broken"),
        message: text("NameError: name 'x' is not defined"),
        location: Some(text("a.py:1")),
        traceback: None,
        hidden_frames: 3,
        hint: None,
    }
}

fn events() -> Vec<Reply> {
    let mut verified = event(EventKind::NodeVerified, "dag-01");
    verified.evidence = Some(Evidence::Proven);
    let mut staged = event(EventKind::NodeStaged, "dag-01");
    staged.bytes = Some(412);
    let events = [staged, event(EventKind::NodeActivated, "dag-01"), verified];
    events.map(|event| Reply::Event(Box::new(event))).to_vec()
}

fn outcome(event: OutcomeKind, second: NodeState) -> Reply {
    let failed = event == OutcomeKind::Failed;
    Reply::Outcome(Box::new(Outcome {
        event,
        at: UnixMillis(1_764_000_000_000),
        volume: "pipes".parse().unwrap(),
        release: Seq(2),
        live: Some(Seq(if failed { 1 } else { 2 })),
        returned: failed,
        wave: None,
        waves: None,
        nodes: BTreeMap::from([
            ("dag-01".parse().unwrap(), NodeState::Live),
            ("dag-02".parse().unwrap(), second),
        ]),
        held: Vec::new(),
        warnings: Vec::new(),
        error: failed.then(error),
    }))
}

fn rollout(event: OutcomeKind, second: NodeState) -> Vec<Reply> {
    let mut replies = vec![plan()];
    replies.extend(events());
    replies.push(outcome(event, second));
    replies
}

fn status() -> Reply {
    Reply::Status(Box::new(Status {
        schema: text("codevol.status/1"),
        fleet: FleetId::of(b"f"),
        listen: None,
        source: None,
        volumes: vec![VolumeStatus {
            name: "pipes".parse().unwrap(),
            head: Some(Seq(2)),
            live: Some(Seq(1)),
            frozen: None,
            rollout: None,
            waits_for: Vec::new(),
            quarantined: Vec::new(),
            skipped: Vec::new(),
            watch: None,
            release: Some(release(1)),
            skew: Vec::new(),
            not_in_git: Vec::new(),
            nodes: vec![NodeStatus {
                name: "dag-01".parse().unwrap(),
                state: NodeState::Activating,
                release: Some(Seq(2)),
                staged: Vec::new(),
                lag: 0,
                evidence: None,
                last_seen_at: None,
                held: None,
                drift: Vec::new(),
                drift_more: 0,
                environments: Vec::new(),
                dependencies: None,
                code_servers: Vec::new(),
                error: None,
            }],
        }],
    }))
}

fn failed(sort: FailureSort, kind: &str, message: &str) -> Reply {
    Reply::Failed(CallFailure::new(sort, kind, message).hint("do this"))
}

/// Returns the elapsed time as no test can know it.
fn timeless(screen: &str) -> String {
    let lines = screen.lines().map(|line| match line.split_once(" in ") {
        Some((live, _)) if live.starts_with("Live on") => format!("{live} in [TIME]"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_push_follows_the_rollout_to_its_end() {
    let host = Host::answering(vec![rollout(OutcomeKind::Done, NodeState::Live)]);
    let screen = host.codevol(&["push", "tree/assets/orders.py", "-m", "why"]);
    assert_snapshot!(timeless(&screen), @"
    Release  r2, the same tree as r1

      NODE    STAGE     ACTIVATE  VERIFY
      dag-01  ok 412 B  ok 3 ms   proven 3 ms
      dag-02  -         -         live

    Live on 2 of 2 in [TIME]
    Undo:  codevol rollback
    --- 0
    Waiting  up to 5m 00s for 2 nodes
    dag-01 staged r2 (412 B, 3 ms)
    dag-01 activated r2 (3 ms)
    dag-01 verified r2 (proven, 3 ms)
    ");
    let push = Push {
        volume: Some("pipes".parse().unwrap()),
        paths: vec!["assets/orders.py".parse().unwrap()],
        message: text("why"),
        dry_run: false,
        thaw: false,
        yes: false,
        wait: true,
    };
    assert_eq!(host.calls(), [Call::Push(push)]);
}

#[test]
fn a_push_for_a_script_is_a_line_an_event_and_the_outcome_last() {
    let host = Host::answering(vec![rollout(OutcomeKind::Done, NodeState::Offline)]);
    assert_snapshot!(host.codevol(&["push", "--json"]), @r#"
    {"event":"node.staged","at":"2025-11-24T16:00:00.000Z","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":3,"bytes":412,"evidence":null,"wave":null,"error":null}
    {"event":"node.activated","at":"2025-11-24T16:00:00.000Z","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":3,"bytes":null,"evidence":null,"wave":null,"error":null}
    {"event":"node.verified","at":"2025-11-24T16:00:00.000Z","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":3,"bytes":null,"evidence":"proven","wave":null,"error":null}
    {"event":"rollout.done","at":"2025-11-24T16:00:00.000Z","volume":"pipes","release":2,"live":2,"returned":false,"wave":null,"waves":null,"nodes":{"dag-01":"live","dag-02":"offline"},"held":[],"warnings":[],"error":null}
    --- 3
    "#);
}

#[test]
fn a_broken_release_ends_with_its_report() {
    let host = Host::answering(vec![rollout(OutcomeKind::Failed, NodeState::Live)]);
    assert_snapshot!(host.codevol(&["push", "-q"]), @"
    Release  r2, the same tree as r1

      NODE    STAGE     ACTIVATE  VERIFY
      dag-01  ok 412 B  ok 3 ms   proven 3 ms
      dag-02  -         -         live

    --- 1
    error: r2 is broken on dag-01; it was taken back, and r1 is live
      node dag-01, in step verify; dag-02 was not touched

      a.py:1
        NameError: name 'x' is not defined
      [3 Dagster frames hidden]
    ");
}

#[test]
fn a_broken_release_is_an_outcome_for_a_script_and_no_error_document() {
    let host = Host::answering(vec![rollout(OutcomeKind::Failed, NodeState::Live)]);
    let screen = host.codevol(&["push", "--json"]);
    let last = screen.lines().rev().nth(1).unwrap_or_default();
    assert!(screen.ends_with("--- 1\n"), "{screen}");
    assert!(
        last.starts_with("{\"event\":\"rollout.failed\""),
        "{screen}"
    );
    assert!(!screen.contains("codevol.error"), "{screen}");
}

#[test]
fn where_nothing_was_published_a_script_gets_an_error_document() {
    let frozen = failed(FailureSort::Refused, "frozen", "volume `pipes` is frozen");
    let host = Host::answering(vec![vec![frozen]]);
    assert_snapshot!(host.codevol(&["push", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"frozen","message":"volume `pipes` is frozen","causes":[],"hint":"do this"}
    --- 4
    "#);
}

#[test]
fn a_blast_is_refused_where_nobody_can_be_asked() {
    let blast = failed(
        FailureSort::Refused,
        "blast-guard",
        "10 of 12 files are gone",
    );
    let host = Host::answering(vec![vec![blast]]);
    assert_snapshot!(host.codevol(&["push"]), @"
    --- 4
    error: 10 of 12 files are gone
    hint: do this
    ");
    assert_eq!(host.calls().len(), 1);
}

#[test]
fn yes_passes_the_blast_guard() {
    let host = Host::answering(vec![vec![plan()]]);
    host.codevol(&["push", "--yes", "--no-wait", "--thaw"]);
    let calls = host.calls();
    let [Call::Push(push)] = &*calls else {
        panic!("{calls:?}");
    };
    assert_eq!((push.yes, push.wait, push.thaw), (true, false, true));
}

#[test]
fn a_push_that_does_not_wait_ends_once_it_is_published() {
    let answers = || vec![vec![plan()]];
    assert_snapshot!(Host::answering(answers()).codevol(&["push", "--no-wait"]), @"
    Release  r2, the same tree as r1
    --- 0
    ");
    assert_snapshot!(Host::answering(answers()).codevol(&["push", "--no-wait", "--json"]), @r#"
    {"event":"release.published","at":"2025-11-24T16:00:00.000Z","volume":"pipes","release":2,"node":null,"elapsed_ms":null,"bytes":null,"evidence":null,"wave":null,"error":null}
    --- 0
    "#);
}

#[test]
fn a_source_that_goes_away_meanwhile_leaves_a_published_release() {
    let cut_short = || {
        let mut replies = vec![plan()];
        replies.extend(events());
        replies
    };
    let host = Host::answering(vec![cut_short()]);
    assert_snapshot!(host.codevol(&["push", "-q"]), @"
    Release  r2, the same tree as r1
    --- 69
    error: r2 is published, but its rollout can be followed no longer
      caused by: the source took the call, but did not answer
    hint: the source goes on with it when it is back; `codevol status` shows how far
    ");
    let host = Host::answering(vec![cut_short(), vec![status()]]);
    let screen = host.codevol(&["push", "--json"]);
    let outcome: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains("rollout."))
        .collect();
    assert_eq!(outcome.len(), 1, "{screen}");
    assert!(outcome[0].ends_with(
        r#""volume":"pipes","release":2,"live":1,"returned":false,"wave":null,"waves":null,"nodes":{"dag-01":"activating"},"held":[],"warnings":[],"error":null}"#
    ), "{screen}");
    assert!(screen.contains("--- 69"), "{screen}");
    assert!(!screen.contains("codevol.error"), "{screen}");
    // Gone for good: of the nodes nothing is known, and nothing is said.
    let screen = Host::answering(vec![cut_short()]).codevol(&["push", "--json"]);
    let last = screen.lines().take_while(|line| *line != "--- 69").last();
    assert!(last.is_some_and(|line| line.contains(r#"{"event":"rollout.failed""#) && line.ends_with(
        r#""volume":"pipes","release":2,"live":null,"returned":false,"wave":null,"waves":null,"nodes":{},"held":[],"warnings":[],"error":null}"#
    )), "{screen}");
    assert!(
        screen.contains("r2 is published, but its rollout can be followed no longer"),
        "{screen}"
    );
}

/// Interrupts a push once it has told of an activation.
fn interrupted(host: &Host, args: &[&str]) -> String {
    let mut command = host.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let told: Box<dyn Read> = if args.contains(&"--json") {
        Box::new(child.stdout.take().unwrap())
    } else {
        Box::new(child.stderr.take().unwrap())
    };
    let mut lines = BufReader::new(told).lines().map(Result::unwrap);
    let before: Vec<String> = lines
        .by_ref()
        .take_while(|l| !l.contains("activated"))
        .collect();
    assert!(!before.is_empty());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let after: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    format!("{}\n--- {}", after.join("\n"), status.code().unwrap())
}

#[test]
fn an_interrupted_push_says_what_is_activated_and_goes_on() {
    let activated = || {
        let mut replies = vec![plan()];
        replies.extend(events().into_iter().take(2));
        replies
    };
    let host = Host::holding(1, vec![activated()]);
    assert_snapshot!(interrupted(&host, &["push"]), @"
    error: interrupted: r2 is published and activated on dag-01; it goes on rolling out
    hint: `codevol status` shows how far it is, `codevol rollback` goes back
    --- 130
    ");
    let host = Host::holding(1, vec![activated(), vec![status()]]);
    let ended = interrupted(&host, &["push", "--json"]);
    assert!(
        ended.starts_with("{\"event\":\"rollout.failed\""),
        "{ended}"
    );
    assert!(ended.ends_with("--- 130"), "{ended}");
}

#[test]
fn a_rollout_that_takes_too_long_fails_and_says_that_it_is_published() {
    let late = failed(
        FailureSort::Failed,
        "deadline",
        "r2 is published, but did not end in time",
    );
    let host = Host::answering(vec![vec![plan(), late]]);
    assert_snapshot!(host.codevol(&["push", "-q"]), @"
    Release  r2, the same tree as r1
    --- 1
    error: r2 is published, but did not end in time
    hint: do this
    ");
}

#[test]
fn a_plan_publishes_nothing() {
    let mut plan = PushPlan::new("pipes".parse().unwrap(), 300_000);
    (plan.unchanged, plan.base) = (true, Some(Seq(1)));
    let answers = vec![vec![Reply::Plan(Box::new(plan))]; 3];
    let host = Host::answering(answers);
    assert_snapshot!(host.codevol(&["plan"]), @"
    Release  none: the tree is r1
    --- 0
    ");
    assert_snapshot!(host.codevol(&["plan", "--json"]), @r#"
    {"schema":"codevol.plan/1","volume":"pipes","release":null,"base":1,"unchanged":true,"changes":[],"changes_more":0,"skipped":[],"hashed_files":0,"hashed_bytes":0,"hashed_ms":0,"deadline_ms":300000,"nodes":0,"lines":null}
    --- 0
    "#);
    host.codevol(&["push", "--dry-run"]);
    for call in host.calls() {
        assert!(
            matches!(&call, Call::Push(push) if push.dry_run && !push.wait),
            "{call:?}"
        );
    }
}

#[test]
fn a_rollback_that_nobody_agreed_to_is_not_asked_for() {
    let host = Host::answering(vec![vec![status()]]);
    assert_snapshot!(host.codevol(&["rollback", "r1"]), @"
    --- 2
    error: nobody can answer: take volume `pipes` from r1 back to the tree of r1 on every server, and freeze it until `thaw`?
    hint: say yes beforehand with `--yes`
    ");
    assert_eq!(host.calls(), [Call::Status]);
}

#[test]
fn a_rollback_ends_with_the_way_out_of_the_freeze() {
    let host = Host::answering(vec![rollout(OutcomeKind::Done, NodeState::Unverified)]);
    assert_snapshot!(timeless(&host.codevol(&["rollback", "r1", "-y", "-q"])), @"
    Release  r2, the same tree as r1

      NODE    STAGE     ACTIVATE  VERIFY
      dag-01  ok 412 B  ok 3 ms   proven 3 ms
      dag-02  -         -         unverified

    Live on 1 of 2 in [TIME]
      dag-02 is unverified: `codevol status` says why
    The volume is frozen: `codevol thaw` lets new releases go live again
    --- 3
    ");
    let rollback = Call::Rollback {
        volume: None,
        to: Some("r1".parse().unwrap()),
        message: Text::default(),
        wait: true,
    };
    assert_eq!(host.calls(), [rollback]);
}

#[test]
fn a_token_stands_alone_on_standard_output() {
    let invited = Reply::Invited(Invited {
        token: "cvj1abc".to_owned(),
        name: Some("dag-01".parse().unwrap()),
        expires_at: UnixMillis(1_764_000_000_000),
    });
    let host = Host::answering(vec![vec![invited.clone()], vec![invited]]);
    assert_snapshot!(host.codevol(&["invite", "--name", "dag-01", "--ttl", "2h"]), @"
    cvj1abc
    --- 0
    ");
    assert_snapshot!(host.codevol(&["invite", "--json"]), @r#"
    {"token":"cvj1abc","name":"dag-01","role":"agent","expires_at":"2025-11-24T16:00:00.000Z"}
    --- 0
    "#);
    let first = host.calls().remove(0);
    let name = Some("dag-01".parse().unwrap());
    assert_eq!(first, Call::Invite { name, ttl_s: 7_200 });
}

#[test]
fn health_tells_ready_from_not_ready_and_from_absent() {
    let not_ready = failed(
        FailureSort::Failed,
        "not-ready",
        "volume `pipes` was not scanned yet",
    );
    let host = Host::answering(vec![vec![Reply::Healthy], vec![not_ready]]);
    assert_snapshot!(host.codevol(&["health", "--json"]), @r#"
    {"schema":"codevol.health/1","role":"source","ready":null}
    --- 0
    "#);
    assert_snapshot!(host.codevol(&["health", "--ready"]), @"
    --- 1
    error: volume `pipes` was not scanned yet
    hint: do this
    ");
    assert_snapshot!(Host::new().codevol(&["health"]), @"
    --- 69
    error: the source does not run: nothing answers at `[DIR]/state/control.sock`
      caused by: no such file or directory
    hint: `codevol -C codevol.toml source` starts it
    ");
}

#[test]
fn what_is_done_is_a_sentence_or_a_document() {
    let done = Reply::Done(text("volume `pipes` is frozen"));
    let host = Host::answering(vec![vec![done]; 4]);
    assert_snapshot!(host.codevol(&["freeze", "-m", "release day"]), @"
    volume `pipes` is frozen
    --- 0
    ");
    assert_snapshot!(host.codevol(&["thaw", "--json", "--volume", "pipes"]), @r#"
    {"schema":"codevol.done/1","message":"volume `pipes` is frozen"}
    --- 0
    "#);
    host.codevol(&["thaw", "-m", "released"]);
    host.codevol(&["node", "rm", "dag-01", "-y"]);
    let calls = [
        Call::Freeze {
            volume: None,
            message: text("release day"),
        },
        Call::Thaw {
            volume: "pipes".parse().ok(),
            message: text(""),
        },
        Call::Thaw {
            volume: None,
            message: text("released"),
        },
        Call::RemoveNode {
            name: "dag-01".parse().unwrap(),
        },
    ];
    assert_eq!(host.calls(), calls);
}

#[test]
fn the_log_for_a_script_is_one_document() {
    use codevol_protocol::call::{LogEntry, ReleaseResult};
    let log = Reply::Log(vec![LogEntry {
        release: release(2),
        result: ReleaseResult::Live,
    }]);
    let host = Host::answering(vec![vec![log]]);
    assert_snapshot!(host.codevol(&["log", "-n", "3", "--json"]), @r#"
    {"schema":"codevol.log/1","releases":[{"seq":2,"id":"45f1a93d108f229fa8fb4bc476bab4dd3fecd20ee16f8ba6d77f6c744e02061d","manifest":"83d9dab06011479163c7c4d5fa735f911bac86729f56aaa115b7eed2eb66e022","parent":null,"origin":"push","author":"alice","message":"why","created_at":"2025-11-24T16:00:00.000Z","files":2,"bytes":10,"git":null,"result":"live"}]}
    --- 0
    "#);
    assert_eq!(
        host.calls()[0],
        Call::Log {
            volume: None,
            count: 3
        }
    );
}

#[test]
fn why_a_path_is_left_out_is_asked_by_its_place_in_the_tree() {
    let host = Host::answering(vec![vec![Reply::Ignored(Vec::new())]]);
    assert_snapshot!(host.codevol(&["ignored", "--why", "./tree/assets/", "--json"]), @r#"
    {"schema":"codevol.ignored/1","paths":[]}
    --- 0
    "#);
    let (volume, why) = ("pipes".parse().ok(), Some("assets/".to_owned()));
    assert_eq!(host.calls(), [Call::Ignored { volume, why }]);
}

#[test]
fn a_daemon_that_answers_nonsense_is_not_believed() {
    let host = Host::answering(vec![vec![Reply::Healthy]]);
    assert_snapshot!(host.codevol(&["status"]), @"
    --- 1
    error: the source answered something else than was asked
    hint: is the source that runs of the same version? restart it
    ");
    let host = Host::answering(vec![Vec::new()]);
    assert_snapshot!(host.codevol(&["status"]), @"
    --- 69
    error: the source took the call, but did not answer
    hint: it may be stopping: ask again, and look at its log
    ");
}
