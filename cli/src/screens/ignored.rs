//! The screen of `codevol ignored`.

use codevol_protocol::call::IgnoredPath;
use codevol_protocol::name::Text;

use super::sentence;
use crate::output::table::{Cell, Table};

/// Returns the list of what is left out, its last line not ended.
#[must_use]
pub fn render(paths: &[IgnoredPath]) -> String {
    if paths.is_empty() {
        return "nothing is left out".to_owned();
    }
    let text = |text: &Option<Text>| text.as_ref().map_or_else(String::new, Text::to_string);
    let mut table = Table::new(["PATH", "RULE", "FROM"]);
    for path in paths {
        let cells: [Cell; 3] = [
            path.path.as_str().into(),
            text(&path.rule).into(),
            text(&path.from).into(),
        ];
        table.row(cells);
    }
    table.to_string()
}

/// Returns a sentence for each path, the last line not ended.
#[must_use]
pub fn verdicts(paths: &[IgnoredPath]) -> String {
    let lines: Vec<String> = paths.iter().map(verdict).collect();
    lines.join("\n")
}

fn verdict(path: &IgnoredPath) -> String {
    let name = sentence(path.path.as_str());
    let is = if path.ignored {
        "is left out"
    } else {
        "is not left out"
    };
    // Of what is not there the same can be said: a rule is asked, and not the tree.
    let by = path.rule.as_ref().map_or_else(
        || ": no rule says so".to_owned(),
        |rule| {
            let from = path.from.as_ref().map_or("", Text::as_str);
            format!(", by `{}` ({})", sentence(rule.as_str()), sentence(from))
        },
    );
    format!("`{name}` {is}{by}")
}
