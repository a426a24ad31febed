//! The screen of `codevol audit verify`.

use codevol_protocol::audit::Whole;

use crate::output::units;

/// Returns what a journal that is whole has, its last line not ended.
#[must_use]
pub fn render(found: &Whole) -> String {
    let amount = |number: u64, one: &str, many: &str| {
        units::count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
    };
    let (Some(first), Some(last)) = (found.first, found.last) else {
        return "the journal has no line yet".to_owned();
    };
    let (lines, files) = (
        amount(found.lines, "line", "lines"),
        amount(found.files, "file", "files"),
    );
    let mut text = vec![format!(
        "{lines} in {files}, {first} to {last}: one chain, nothing is damaged"
    )];
    if first > 1 {
        let gone = amount(first - 1, "line", "lines");
        text.push(format!(
            "the oldest {gone} are not here: line {first} is believed"
        ));
    }
    if found.cut_bytes > 0 {
        let cut = units::bytes(found.cut_bytes);
        text.push(format!(
            "a last line of {cut} was cut short: the daemon removes it when it starts"
        ));
    }
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn what_is_missing_of_a_journal_is_said() {
        let mut found = Whole::default();
        assert_snapshot!(render(&found), @"the journal has no line yet");
        found = Whole {
            files: 1,
            lines: 12,
            first: Some(1),
            last: Some(12),
            ..found
        };
        assert_snapshot!(render(&found), @"12 lines in 1 file, 1 to 12: one chain, nothing is damaged");
        found = Whole {
            files: 3,
            first: Some(8),
            last: Some(19),
            cut_bytes: 40,
            ..found
        };
        assert_snapshot!(render(&found), @"
        12 lines in 3 files, 8 to 19: one chain, nothing is damaged
        the oldest 7 lines are not here: line 8 is believed
        a last line of 40 B was cut short: the daemon removes it when it starts
        ");
    }
}
