use super::*;

const RELEASE: &str = "000042-3f9ac1d2";
const OTHER: &str = "000041-a07be112";

fn listing(directory: &str) -> Answer {
    Answer::parse(&format!(
        r#"{{"__class__": "ListRepositoriesResponse", "repository_code_pointer_dict":
            {{"r": {{"module": "defs", "working_directory": "{directory}"}}}}}}"#
    ))
}

fn load_failed(message: &str, file: &str) -> Answer {
    Answer::LoadError(Box::new(ErrorInfo {
        message: message.into(),
        cls_name: None,
        stack: vec![format!("  File \"{file}\", line 3, in <module>\n")],
        cause: None,
        context: None,
    }))
}

fn refused(code: Code) -> Answer {
    Answer::Failed(CallError::Status(code, Text::cut("no")))
}

fn dead() -> CallError {
    CallError::Status(Code::Unknown, Text::cut("Exception calling application"))
}

/// `current`, then the release, another release and no volume at all.
fn places() -> [Answer; 4] {
    [
        listing("/vol/current"),
        listing(&format!("/app/releases/{RELEASE}")),
        listing(&format!("/app/releases/{OTHER}")),
        listing("/app"),
    ]
}

struct Case {
    kind: CodeServerKind,
    since: Since,
    reload: Reload,
    before: Answer,
    after: Vec<Observation>,
}

/// A stock server that ran as `old` before a reload that was answered.
fn reloaded() -> Case {
    Case {
        kind: CodeServerKind::CodeServer,
        since: Since::After(Some("old".into())),
        reload: Reload::Answered,
        before: listing("/vol/current"),
        after: Vec::new(),
    }
}

impl Case {
    fn seen(mut self, id: &str, answer: &Answer) -> Self {
        self.after.push(Observation {
            server_id: Ok(id.into()),
            answer: answer.clone(),
            pings: true,
        });
        self
    }

    fn dead(mut self, pings: bool, answer: &Answer) -> Self {
        self.after.push(Observation {
            server_id: Err(dead()),
            answer: answer.clone(),
            pings,
        });
        self
    }

    fn judge(&self) -> Judgement {
        judge(&Facts {
            release_dir: RELEASE,
            kind: self.kind,
            since: &self.since,
            reload: self.reload,
            before: &self.before,
            after: &self.after,
        })
    }

    fn verdict(&self) -> (Verdict, Option<Evidence>) {
        let judgement = self.judge();
        (judgement.verdict, judgement.evidence)
    }
}

#[test]
fn after_a_reload_the_pointer_of_a_new_process_decides() {
    let verdicts = [
        (Verdict::Good, Some(Evidence::Proven)),
        (Verdict::Good, Some(Evidence::Proven)),
        (Verdict::Broken, None),
        (Verdict::Unproven, Some(Evidence::Loaded)),
    ];
    for (place, expected) in places().iter().zip(verdicts) {
        let case = reloaded().seen("new", place).seen("new", place);
        assert_eq!(case.verdict(), expected, "{place:?}");
        assert_eq!(case.judge().kind, CodeServerKind::CodeServer);
    }
}

#[test]
fn a_process_that_did_not_change_is_proven_only_by_naming_the_release() {
    let verdicts = [
        (Verdict::Unproven, None),
        (Verdict::Good, Some(Evidence::Proven)),
        (Verdict::Unproven, None),
        (Verdict::Unproven, None),
    ];
    for (place, expected) in places().iter().zip(verdicts) {
        let mut case = reloaded().seen("old", place);
        case.kind = CodeServerKind::Auto;
        assert_eq!(case.verdict(), expected, "{place:?}");
        assert_eq!(case.judge().kind, CodeServerKind::ApiGrpc);
    }
}

#[test]
fn a_server_stuck_on_another_release_is_told_how_to_follow() {
    let case = reloaded().seen("new", &listing(&format!("/x/releases/{OTHER}")));
    let judgement = case.judge();
    assert_eq!(
        judgement.advice,
        Some(Text::cut("start it with `-d ROOT/current`"))
    );
    assert!(judgement.error.unwrap().message.as_str().contains(OTHER));
}

#[test]
fn without_a_reload_only_a_known_process_is_proven() {
    let current = listing("/vol/current");
    let cases = [
        (
            Since::Known("a".into()),
            (Verdict::Good, Some(Evidence::Proven)),
        ),
        (Since::Known("b".into()), (Verdict::Unproven, None)),
        (
            Since::After(Some("b".into())),
            (Verdict::Good, Some(Evidence::Proven)),
        ),
        (Since::After(Some("a".into())), (Verdict::Unproven, None)),
        (Since::After(None), (Verdict::Good, Some(Evidence::Proven))),
        (Since::Unknown, (Verdict::Unproven, None)),
    ];
    for (since, expected) in cases {
        let mut case = reloaded().seen("a", &current);
        (case.since, case.reload) = (since, Reload::Skipped);
        assert_eq!(case.verdict(), expected, "{:?}", case.since);
    }
}

#[test]
fn the_users_error_breaks_the_release_that_was_loaded() {
    let failed = load_failed("ImportError: x", "/vol/current/a.py");
    // A new process; a process that died on import; the same after a while.
    for case in [
        reloaded().seen("new", &failed),
        reloaded().seen("old", &failed),
        reloaded().dead(false, &failed),
    ] {
        let judgement = case.judge();
        assert_eq!(judgement.verdict, Verdict::Broken);
        assert_eq!(judgement.state, CodeServerState::Broken);
        assert_eq!(
            judgement.error.unwrap().location,
            Some((Text::cut("a.py"), 3))
        );
    }
}

#[test]
fn an_error_that_was_there_before_breaks_nothing() {
    let failed = load_failed("ImportError: x", "/vol/current/a.py");
    let grpc = Case {
        kind: CodeServerKind::ApiGrpc,
        ..reloaded()
    };
    let before = Case {
        before: failed.clone(),
        ..reloaded()
    };
    let skipped = Case {
        reload: Reload::Skipped,
        ..reloaded()
    };
    let lost = Case {
        reload: Reload::Lost,
        ..reloaded()
    };
    let hung = Case {
        reload: Reload::Hung,
        ..reloaded()
    };
    for case in [grpc, before, skipped, lost, hung] {
        assert_eq!(case.seen("old", &failed).judge().verdict, Verdict::Unproven);
    }
}

#[test]
fn an_error_in_another_releases_files_tells_how_to_follow() {
    let failed = load_failed("ImportError: x", &format!("/vol/releases/{OTHER}/a.py"));
    let judgement = reloaded().seen("new", &failed).judge();
    assert_eq!(judgement.verdict, Verdict::Broken);
    assert_eq!(judgement.advice, Some(Text::cut(START_WITH_CURRENT)));
}

#[test]
fn an_error_of_code_outside_the_volume_breaks_nothing() {
    let failed = load_failed("ImportError: x", "/app/a.py");
    let outside = Case {
        before: listing("/app"),
        ..reloaded()
    };
    assert_eq!(
        outside.seen("new", &failed).judge().verdict,
        Verdict::Unproven
    );
    assert_eq!(
        reloaded().seen("new", &failed).judge().verdict,
        Verdict::Broken
    );
}

#[test]
fn a_process_that_died_on_import_is_broken_after_two_failures() {
    let unknown = refused(Code::Unknown);
    let once = reloaded().dead(true, &unknown);
    assert_eq!(once.judge().verdict, Verdict::Unproven);
    assert!(!once.judge().settled);
    assert_eq!(once.dead(true, &unknown).judge().verdict, Verdict::Broken);
    let child_gone = reloaded().dead(false, &unknown).dead(false, &unknown);
    assert_eq!(child_gone.judge().verdict, Verdict::Broken);
}

#[test]
fn a_status_that_may_pass_breaks_nothing() {
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Unauthenticated,
    ] {
        let answer = refused(code);
        let judgement = reloaded().dead(true, &answer).dead(true, &answer).judge();
        assert_eq!(judgement.verdict, Verdict::Unproven, "{code:?}");
        assert!(!judgement.settled, "{code:?}");
    }
    let unknown = refused(Code::Unknown);
    let mut unasked = reloaded().dead(true, &unknown).dead(true, &unknown);
    unasked.reload = Reload::Skipped;
    assert_eq!(unasked.judge().verdict, Verdict::Unproven);
}

#[test]
fn what_only_answers_ping_is_never_good() {
    let answer = refused(Code::Unimplemented);
    let judgement = reloaded().seen("new", &answer).seen("new", &answer).judge();
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert!(judgement.settled);
}

#[test]
fn ids_that_change_back_and_forth_are_two_servers() {
    let current = listing("/vol/current");
    let flips = reloaded()
        .seen("a", &current)
        .seen("b", &current)
        .seen("a", &current);
    let judgement = flips.judge();
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert!(judgement.settled);
    assert!(judgement.advice.unwrap().as_str().contains("two servers"));
    // The child of one of the two is dead.
    let half_dead = reloaded()
        .seen("a", &current)
        .dead(false, &refused(Code::Unknown))
        .seen("a", &current);
    assert_eq!(half_dead.judge(), flips.judge());
    // One change may be a reload that goes on.
    let change = reloaded().seen("a", &current).seen("b", &current);
    assert_eq!(change.judge().verdict, Verdict::Unproven);
    assert!(!change.judge().settled);
}

#[test]
fn answers_that_differ_are_looked_at_again() {
    let failed = load_failed("ImportError: x", "/vol/current/a.py");
    let case = reloaded()
        .seen("new", &listing("/vol/current"))
        .seen("new", &failed);
    assert_eq!(case.judge().verdict, Verdict::Unproven);
    assert!(!case.judge().settled);
}

#[test]
fn a_reload_that_hangs_is_stuck_while_the_old_process_serves() {
    let current = listing("/vol/current");
    let hung = || Case {
        reload: Reload::Hung,
        ..reloaded()
    };
    let stuck = hung().seen("old", &current).judge();
    assert_eq!(
        (stuck.verdict, stuck.state),
        (Verdict::Unproven, CodeServerState::Stuck)
    );
    let slow = hung().seen("new", &current).judge();
    assert_eq!(
        (slow.verdict, slow.state),
        (Verdict::Unproven, CodeServerState::Unproven)
    );
}

#[test]
fn an_unknown_id_is_waited_for() {
    let failed = load_failed("ImportError: x", "/vol/current/a.py");
    let busy = CallError::Status(Code::Unavailable, Text::default());
    for error in [CallError::Deadline, busy] {
        let mut case = reloaded().seen("new", &failed);
        case.after[0].server_id = Err(error);
        assert_eq!(case.judge().verdict, Verdict::Unproven);
        assert!(!case.judge().settled);
    }
}

#[test]
fn only_a_server_that_answers_is_waited_for() {
    let refused = CallError::NotReached(Text::cut("connection refused"));
    assert!(unasked(CodeServerKind::Auto, &refused).settled);
    for error in [CallError::Deadline, dead()] {
        assert!(!unasked(CodeServerKind::Auto, &error).settled);
    }
}
