use std::io;

use insta::assert_snapshot;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`")]
struct ReadError {
    path: &'static str,
    source: io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start: {0}")]
struct Repeating(#[source] io::Error);

fn read_error() -> ReadError {
    ReadError {
        path: "/srv/pipes/a.py",
        source: io::Error::from_raw_os_error(2),
    }
}

fn plain(error: &CommandError) -> String {
    anstream::adapter::strip_str(&error.render()).to_string()
}

#[test]
fn a_failure_says_what_why_and_what_to_do() {
    let error = CommandError::failed("cannot publish `pipes`")
        .because(&read_error())
        .hint("`codevol doctor` says more");
    assert_snapshot!(plain(&error), @"
    error: cannot publish `pipes`
      caused by: cannot read `/srv/pipes/a.py`
      caused by: no such file or directory
    hint: `codevol doctor` says more
    ");
    let document = serde_json::to_string(&error.document()).unwrap();
    assert_snapshot!(document, @r#"{"schema":"codevol.error/1","kind":"failed","message":"cannot publish `pipes`","causes":["cannot read `/srv/pipes/a.py`","no such file or directory"],"hint":"`codevol doctor` says more"}"#);
    let bare = serde_json::to_string(&CommandError::usage("x").document()).unwrap();
    assert_snapshot!(bare, @r#"{"schema":"codevol.error/1","kind":"usage","message":"x","causes":[],"hint":null}"#);
}

#[test]
fn colour_only_marks_the_words_that_are_there_without_it() {
    let error = CommandError::failed("a").hint("b");
    assert_snapshot!(error.render().escape_debug().to_string(), @r"\u{1b}[1m\u{1b}[31merror\u{1b}[0m: a\n\u{1b}[1m\u{1b}[36mhint\u{1b}[0m: b\n");
}

#[test]
fn no_raw_error_number_is_shown_and_no_cause_twice() {
    assert_eq!(
        chain(&read_error()),
        ["cannot read `/srv/pipes/a.py`", "no such file or directory"]
    );
    let repeating = Repeating(io::Error::from_raw_os_error(28));
    let shown = CommandError::failed("x").because(&repeating);
    assert!(!plain(&shown).contains("os error"), "{shown:?}");
    assert_eq!(shown.causes.len(), 1, "{shown:?}");
}

#[test]
fn details_stand_in_place_of_the_causes() {
    let error = CommandError::failed("r43 is broken on dag-01; dag-01 is back on r42 (proven)")
        .cause("No module named 'polars'")
        .details("  node dag-01, wave 1 of 2\n\n  assets/orders.py:17")
        .hint("that server's Python lacks a package");
    assert_snapshot!(plain(&error), @"
    error: r43 is broken on dag-01; dag-01 is back on r42 (proven)
      node dag-01, wave 1 of 2

      assets/orders.py:17

    hint: that server's Python lacks a package
    ");
}

#[test]
fn what_a_stranger_wrote_cannot_reach_the_terminal() {
    let error = CommandError::failed("a\u{1b}[2Jb\nerror: c")
        .cause("d\r\u{202e}\ne")
        .details("f\u{1b}]0;g\u{7}")
        .hint("h\u{9b}i");
    let shown = error.render();
    assert_snapshot!(plain(&error), @r"
    error: a\u{1b}[2Jb
      error: c
    f\u{1b}]0;g\u{7}

    hint: h\u{9b}i
    ");
    let without_details = CommandError {
        details: None,
        ..error
    };
    assert_snapshot!(plain(&without_details), @r"
    error: a\u{1b}[2Jb
      error: c
      caused by: d\u{d}\u{202e}
        e
    hint: h\u{9b}i
    ");
    assert!(
        !shown.contains('\u{7}') && !shown.contains("\u{1b}[2J"),
        "{shown:?}"
    );
}
