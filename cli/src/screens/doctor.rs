//! The screen of `codevol doctor`.

use anstyle::Style;
use codevol_protocol::name::Printable;

use super::{BAD, DIM, DOUBTFUL, GOOD};
use crate::doctor::{Check, State};
use crate::output::units;

/// Returns a line for each check, below it what mends it, and how many are not as they must be; the
/// last line is not ended.
#[must_use]
pub fn render(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.what.len()).max();
    let width = width.unwrap_or_default();
    let mut lines = Vec::new();
    for check in checks {
        let (style, state) = (style_of(check.state), check.state.as_str());
        let message = on_one_line(&check.message);
        lines.push(format!(
            "{style}{state:<7}{style:#}  {:<width$}  {message}",
            check.what
        ));
        lines.extend(check.mend.as_ref().map(|mend| {
            let mend = on_one_line(mend);
            format!("{:7}  {:width$}  {DIM}mend:{DIM:#} {mend}", "", "")
        }));
    }
    lines.push(String::new());
    lines.push(summary(checks));
    lines.join("\n")
}

fn summary(checks: &[Check]) -> String {
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let warnings = units::count(count(State::Warning), "warning", "warnings");
    match count(State::Wrong) {
        0 if count(State::Warning) == 0 => "all is well".to_owned(),
        0 => format!("nothing is wrong; {warnings}"),
        1 => format!("1 thing is wrong; {warnings}"),
        wrong => format!("{wrong} things are wrong; {warnings}"),
    }
}

fn on_one_line(text: &str) -> String {
    let safe = Printable(text.trim()).to_string();
    safe.replace('\n', "\\n").replace('\t', "\\t")
}

const fn style_of(state: State) -> Style {
    match state {
        State::Ok => GOOD,
        State::Skipped => DIM,
        State::Warning => DOUBTFUL,
        State::Wrong => BAD,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn each_check_is_a_line_with_what_mends_it_below() {
        let checks = [
            Check::ok("configuration", "`/x.toml` is valid"),
            Check::wrong("state", "`/s` has mode 0755,\nopen to others").mend("chmod 700 /s"),
            Check::warning("disk", "\u{1b}[31m1.0 MiB are free").mend("make room"),
            Check::skipped("git", "not asked"),
        ];
        let plain = |checks: &[Check]| anstream::adapter::strip_str(&render(checks)).to_string();
        assert_snapshot!(plain(&checks), @r"
        ok       configuration  `/x.toml` is valid
        wrong    state          `/s` has mode 0755,\nopen to others
                                mend: chmod 700 /s
        warning  disk           \u{1b}[31m1.0 MiB are free
                                mend: make room
        skipped  git            not asked

        1 thing is wrong; 1 warning
        ");
        let well = [Check::ok("clock", "it is right")];
        assert!(plain(&well).ends_with("\n\nall is well"));
    }
}
