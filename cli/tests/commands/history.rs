//! What was: the journal, the story of a release, what ran where.

use std::fs;
use std::path::PathBuf;

use codevol_protocol::call::{Call, CallFailure, FailureSort, LogEntry, ReleaseResult, Reply};
use codevol_protocol::evidence::Evidence;
use codevol_protocol::name::Text;
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::story::{AtTime, Ran, Step, StepKind, Story};
use codevol_store::dir::Dir;
use codevol_store::journal::Journal;
use insta::assert_snapshot;

use super::{Host, release, status};

/// Begins the journal of a host, with so many lines, and returns where it lies.
fn journal_of(host: &Host, lines: i64) -> PathBuf {
    let path = host.dir.path().join("state/journal");
    fs::create_dir(&path).unwrap();
    let mut journal = Journal::open(&Dir::open(&path).unwrap()).unwrap();
    for second in 0..lines {
        let event = codevol_source::journal::Line::new("invite").event();
        let at = jiff::Timestamp::from_second(second).unwrap();
        journal.append(at, event).unwrap();
    }
    path.join("journal.jsonl")
}

#[test]
fn a_journal_is_checked_without_its_daemon() {
    let host = Host::new();
    assert_snapshot!(host.codevol(&["audit", "verify"]), @"
    --- 1
    error: there is no journal in `[DIR]/state/journal`
    hint: the daemon begins it when it is started first
    ");
    journal_of(&host, 3);
    assert_snapshot!(host.codevol(&["audit", "verify"]), @"
    3 lines in 1 file, 1 to 3: one chain, nothing is damaged
    --- 0
    ");
    assert_snapshot!(host.codevol(&["audit", "verify", "--json"]), @r#"
    {"schema":"codevol.audit/1","journal":"[DIR]/state/journal","files":1,"lines":3,"first":1,"last":3,"cut_bytes":0,"bad":null}
    --- 0
    "#);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's file needs no durability"
)]
fn the_first_damaged_line_of_a_journal_is_named() {
    let host = Host::new();
    let path = journal_of(&host, 3);
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let [one, two, three] = *lines else {
        panic!("{whole}")
    };
    fs::write(&path, whole.replacen("\"seq\":2", "\"seq\":7", 1)).unwrap();
    assert_snapshot!(host.codevol(&["audit", "verify"]), @"
    --- 1
    error: line 2 of `[DIR]/state/journal/journal.jsonl` is damaged: its hash is that of another text
    hint: the lines before it are as they were written; those after it prove nothing
    ");
    assert_snapshot!(host.codevol(&["audit", "verify", "--json"]), @r#"
    {"schema":"codevol.audit/1","journal":"[DIR]/state/journal","files":null,"lines":null,"first":null,"last":null,"cut_bytes":null,"bad":{"file":"journal.jsonl","line":2,"why":"its hash is that of another text"}}
    --- 1
    "#);
    fs::write(&path, [one, three, two].concat()).unwrap();
    assert_snapshot!(host.codevol(&["audit", "verify"]), @"
    --- 1
    error: line 2 of `[DIR]/state/journal/journal.jsonl` is damaged: its number is not the next one
    hint: the lines before it are as they were written; those after it prove nothing
    ");
    fs::write(&path, format!("{one}not a line\n{three}")).unwrap();
    assert_snapshot!(host.codevol(&["audit", "verify"]), @"
    --- 1
    error: line 2 of `[DIR]/state/journal/journal.jsonl` is damaged: it does not end with a hash
    hint: the lines before it are as they were written; those after it prove nothing
    ");
}

#[test]
fn a_release_is_told_step_by_step() {
    let entry = LogEntry {
        release: release(2),
        result: ReleaseResult::Broken,
    };
    let step = |line: u64, step: StepKind, node: &str| Step {
        line,
        at: UnixMillis(1_764_000_000_000 + line),
        step,
        release: Some(Seq(2)),
        node: node.parse().ok(),
        by: Text::cut("codevol"),
        evidence: None,
        detail: None,
    };
    let told = Story {
        entry,
        steps: vec![
            step(7, StepKind::Published, ""),
            step(8, StepKind::Broken, "dag-01"),
        ],
        steps_cut: 0,
        journal_first: Some(3),
    };
    let story = || Reply::Story(Box::new(told.clone()));
    let refused = CallFailure::new(FailureSort::Refused, "not-found", "there is no release r9");
    let host = Host::answering(vec![
        vec![story()],
        vec![story()],
        vec![status()],
        vec![Reply::Failed(refused)],
    ]);
    assert_snapshot!(host.codevol(&["log", "r2", "--json"]), @r#"
    {"schema":"codevol.log/1","release":{"seq":2,"id":"45f1a93d108f229fa8fb4bc476bab4dd3fecd20ee16f8ba6d77f6c744e02061d","manifest":"83d9dab06011479163c7c4d5fa735f911bac86729f56aaa115b7eed2eb66e022","parent":null,"origin":"push","author":"alice","message":"why","created_at":"2025-11-24T16:00:00.000Z","files":2,"bytes":10,"git":null,"result":"broken"},"steps":[{"line":7,"at":"2025-11-24T16:00:00.007Z","step":"published","release":2,"node":null,"by":"codevol","evidence":null,"detail":null},{"line":8,"at":"2025-11-24T16:00:00.008Z","step":"broken","release":2,"node":"dag-01","by":"codevol","evidence":null,"detail":null}],"steps_cut":0,"journal_first":3}
    --- 0
    "#);
    let shown = host.codevol(&["log", "r2"]);
    let (before, rest) = shown.split_once(" (").unwrap();
    let (_, after) = rest.split_once(')').unwrap();
    assert_snapshot!(format!("{before}{after}"), @"
    r2
      result    broken
      id        45f1a93d108f229fa8fb4bc476bab4dd3fecd20ee16f8ba6d77f6c744e02061d
      parent    none
      manifest  83d9dab06011479163c7c4d5fa735f911bac86729f56aaa115b7eed2eb66e022
      tree      2 files, 10 B
      origin    push
      by        alice
      when      2025-11-24T16:00:00.000Z
      git       not known

      why

    WHEN                     NODE    STEP       EVIDENCE  BY
    2025-11-24 16:00:00.007          published
    2025-11-24 16:00:00.008  dag-01  broken
    --- 0
    the journal's oldest 2 lines are gone: what only they said is missing
    ");
    assert_snapshot!(host.codevol(&["log", "r9"]), @"
    --- 4
    error: there is no release r9
    ");
    let (volume, release) = (None, "r2".parse().unwrap());
    assert_eq!(host.calls()[0], Call::Story { volume, release });
}

#[test]
fn what_ran_where_is_asked_with_a_moment() {
    let at = UnixMillis(1_764_000_000_000);
    let ran = AtTime {
        at,
        volume: "pipes".parse().unwrap(),
        live: Some(Seq(2)),
        frozen_by: None,
        nodes: vec![Ran {
            node: "dag-01".parse().unwrap(),
            release: Some(Seq(2)),
            since: at,
            evidence: Some(Evidence::Proven),
            found: Some(Text::cut("good")),
            online: true,
            held_by: None,
        }],
        line: 9,
        set_back: Some(4),
        journal_first: Some(1),
    };
    let reply = || vec![Reply::At(Box::new(ran.clone()))];
    let host = Host::answering(vec![reply(), reply()]);
    let time = "2025-11-24T16:00:00Z";
    assert_snapshot!(host.codevol(&["log", "--at", time, "--json"]), @r#"
    {"schema":"codevol.at/1","at":"2025-11-24T16:00:00.000Z","volume":"pipes","live":2,"frozen_by":null,"nodes":[{"node":"dag-01","release":2,"since":"2025-11-24T16:00:00.000Z","evidence":"proven","found":"good","online":true,"held_by":null}],"line":9,"set_back":4,"journal_first":1}
    --- 0
    "#);
    assert_snapshot!(host.codevol(&["log", "--at", time, "--node", "dag-01"]), @"
    pipes at 2025-11-24 16:00:00.000: r2 live

      NODE    RELEASE  SINCE                    FOUND  EVIDENCE  LINK
      dag-01  r2       2025-11-24 16:00:00.000  good   proven
    --- 0
    warning: the source's clock was set back behind that time after line 4 of the journal: this is the later of the two moments
    ");
    assert_snapshot!(host.codevol(&["log", "--at", "2999-01-01T00:00:00Z"]), @"
    --- 2
    error: that time lies ahead, or before 1970
    hint: `codevol status` shows what runs where as things stand
    ");
    assert_snapshot!(host.codevol(&["log", "--at", "yesterday"]), @"
    --- 2
    error: invalid value 'yesterday' for '--at <TIME>': `yesterday` is no time: write `2026-11-17T14:00:00Z`, `2026-11-17 14:00` or `3d ago`

    For more information, try '--help'.
    ");
    let calls = host.calls();
    let call = |node: Option<&str>| Call::At {
        volume: None,
        time: at,
        node: node.map(|node| node.parse().unwrap()),
    };
    assert_eq!(calls, [call(None), call(Some("dag-01"))]);
}
