use super::super::observe::Answer;
use super::*;

fn error(json: &str) -> ErrorInfo {
    let answer = Answer::parse(json);
    let Answer::LoadError(error) = answer else {
        panic!("not an error: {answer:?}");
    };
    *error
}

fn folded(json: &str) -> LoadFailure {
    LoadFailure::fold(&error(json))
}

fn raised(message: &str, stack: &[&str], cause: Option<ErrorInfo>) -> ErrorInfo {
    ErrorInfo {
        message: message.into(),
        cls_name: message.split(':').next().map(Into::into),
        stack: stack.iter().map(|&frame| frame.into()).collect(),
        cause: cause.map(Box::new),
        context: None,
    }
}

#[test]
fn an_import_error_shows_the_users_frames_and_counts_dagsters() {
    let failure = folded(include_str!("../fixtures/import-error.json"));
    assert_eq!(
        failure,
        LoadFailure {
            message: Text::cut("ModuleNotFoundError: No module named 'polars_missing'"),
            traceback: Text::cut(
                "  File \"defs.py\", line 2, in <module>\n    from proj.assets import orders\n  \
                 File \"proj/assets.py\", line 2, in <module>\n    import polars_missing\n"
            ),
            hidden_frames: 9,
            location: Some((Text::cut("proj/assets.py"), 2)),
            python: Some(Text::cut("/opt/venv, 3.11")),
        }
    );
}

#[test]
fn a_syntax_error_lies_where_its_message_says() {
    let failure = folded(include_str!("../fixtures/syntax-error.json"));
    assert_eq!(failure.location, Some((Text::cut("proj/assets.py"), 6)));
    assert_eq!(
        failure.message.as_str(),
        "SyntaxError: '(' was never closed"
    );
    assert_eq!(
        failure.traceback.as_str(),
        "  File \"defs.py\", line 2, in <module>\n    from proj.assets import orders\n  \
         File \"proj/assets.py\", line 6\n    x = (\n        ^\n"
    );
}

#[test]
fn an_error_raised_while_another_was_handled_is_the_one_shown() {
    let failure = folded(include_str!("../fixtures/raised-during-handling.json"));
    assert_eq!(
        failure.message.as_str(),
        "RuntimeError: settings are unreadable"
    );
    assert_eq!(failure.location, Some((Text::cut("proj/assets.py"), 10)));
}

#[test]
fn an_error_without_a_frame_of_the_users_has_no_location() {
    for (json, begins, hidden) in [
        (
            include_str!("../fixtures/no-such-module.json"),
            "ModuleNotFoundError: No module named 'defs'",
            10,
        ),
        (
            include_str!("../fixtures/exit-on-import.json"),
            "Exception: gRPC server exited with return code 3",
            5,
        ),
    ] {
        let failure = folded(json);
        assert!(failure.message.as_str().starts_with(begins), "{failure:?}");
        assert_eq!(failure.location, None);
        assert_eq!(failure.traceback.as_str(), "");
        assert_eq!(failure.hidden_frames, hidden);
        assert!(!in_users_files(&error(json)));
    }
}

#[test]
fn frames_of_a_library_the_user_called_stay() {
    let library =
        "  File \"/opt/venv/lib/python3.11/site-packages/pandas/io.py\", line 7, in read\n";
    let users = raised(
        "ValueError: no",
        &[
            "  File \"/opt/venv/lib/python3.11/site-packages/dagster/_core/x.py\", line 1, in f\n",
            "  File \"/vol/current/a.py\", line 3, in <module>\n",
            "  File \"/opt/venv/lib/python3.11/site-packages/dagster/_core/y.py\", line 1, in g\n",
            library,
        ],
        None,
    );
    let failure = LoadFailure::fold(&users);
    assert_eq!(
        failure.traceback.as_str(),
        format!("  File \"a.py\", line 3, in <module>\n{library}")
    );
    assert_eq!(failure.hidden_frames, 2);
    assert_eq!(failure.location, Some((Text::cut("a.py"), 3)));
}

#[test]
fn the_deepest_cause_in_the_users_files_is_the_error() {
    let deepest = raised(
        "OSError: disk",
        &["  File \"/usr/lib/x.py\", line 1, in f\n"],
        None,
    );
    let users = raised(
        "ValueError: inner",
        &["  File \"/vol/releases/000042-3f9ac1d2/b.py\", line 8, in g\n"],
        Some(deepest),
    );
    let outer = raised(
        "RuntimeError: outer",
        &["  File \"/vol/releases/000042-3f9ac1d2/a.py\", line 5, in f\n"],
        Some(users),
    );
    let failure = LoadFailure::fold(&outer);
    assert_eq!(failure.message.as_str(), "ValueError: inner");
    assert_eq!(failure.location, Some((Text::cut("b.py"), 8)));
    assert_eq!(failure.hidden_frames, 2);
    assert_eq!(release_of(&outer), Some("000042-3f9ac1d2"));
}

#[test]
fn a_traceback_within_a_message_is_a_detail() {
    let text = "Exception: Timed out.\n\nStack Trace:\n  File \"x.py\", line 1, in f\n";
    let failure = LoadFailure::fold(&raised(text, &[], None));
    assert_eq!(failure.message.as_str(), "Exception: Timed out.");
    assert_eq!(failure.traceback.as_str(), "  File \"x.py\", line 1, in f");
}

#[test]
fn what_an_error_says_is_bounded() {
    let long = "x".repeat(1 << 20);
    let frame = format!("  File \"/vol/current/{long}\", line 99999999999999999999\n");
    let failure = LoadFailure::fold(&raised(&long, &[&frame, &frame], None));
    assert!(failure.message.as_str().len() <= 64 << 10);
    assert!(failure.traceback.as_str().len() <= 64 << 10);
    assert_eq!(failure.location, None);
}

#[test]
fn the_servers_python_is_the_one_that_dagster_is_installed_in() {
    let of = |path| python_of(path).map(String::from);
    for (path, python) in [
        (
            "/opt/venv/lib/python3.11/site-packages/dagster/_grpc/server.py",
            Some("/opt/venv, 3.11"),
        ),
        (
            "/usr/local/lib/python3.13/dist-packages/dagster_shared/seven/__init__.py",
            Some("/usr/local, 3.13"),
        ),
        ("/usr/lib/python3/dist-packages/dagster/x.py", None),
        ("/opt/venv/lib/python3.11/site-packages/pandas/x.py", None),
        ("/opt/libs/dagster/x.py", None),
        ("/vol/current/defs.py", None),
    ] {
        assert_eq!(of(path).as_deref(), python, "{path}");
    }
}
