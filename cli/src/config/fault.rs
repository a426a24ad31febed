//! A fault of a configuration, shown where it stands: file, line, column and caret.

use std::ops::Range;
use std::path::Path;

use codevol_protocol::name::Printable;

use crate::config::place::{Place, line_and_column};
use crate::error::CommandError;
use crate::output::table::columns;
use crate::output::units::count;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(super) fn of_syntax(error: &toml::de::Error) -> Self {
        let place = error.span().map_or(Place::Default, Place::File);
        let lines: Vec<&str> = error.message().lines().collect();
        Self::new(place, lines.join(", "))
    }

    /// Returns the fault on one line, for scripts.
    fn line(&self, path: &Path, text: &str) -> String {
        let mut line = match &self.place {
            Place::File(span) => {
                let (line, column) = line_and_column(text, span.start);
                format!("{}:{line}:{column}: {}", path.display(), self.message)
            }
            Place::Variable(name) => format!("{name}: {}", self.message),
            Place::Default => format!("{}: {}", path.display(), self.message),
        };
        if let Some(hint) = &self.hint {
            line.push_str("; ");
            line.push_str(hint);
        }
        line
    }

    /// Returns the fault with the line it stands in and a caret, for people.
    fn snippet(&self, path: &Path, text: &str) -> String {
        let Place::File(span) = &self.place else {
            return Printable(&self.line(path, text)).to_string();
        };
        let (number, column) = line_and_column(text, span.start);
        let line = text.lines().nth(number - 1).unwrap_or_default();
        let carets = "^".repeat(caret_columns(text, span));
        let indent: String = line.chars().take(column - 1).collect();
        let margin = number.to_string().len();
        let hint = self.hint.as_deref().unwrap_or_default();
        let pad = columns(&on_one_line(&indent));
        let shown = format!(
            "{}:{number}:{column}: {}\n{:margin$} |\n{number} | {}\n{:margin$} | {:pad$}{carets} {hint}",
            path.display(),
            self.message,
            "",
            on_one_line(line),
            "",
            "",
        );
        Printable(shown.trim_end()).to_string()
    }
}

/// Returns how many columns of its first line the fault covers, one at least.
fn caret_columns(text: &str, span: &Range<usize>) -> usize {
    let covered = text.get(span.clone()).unwrap_or_default();
    columns(&on_one_line(covered.lines().next().unwrap_or_default())).max(1)
}

/// Neutralises a line of the file so that the caret below it stays in its column.
fn on_one_line(line: &str) -> String {
    Printable(&line.replace('\t', " ")).to_string()
}

/// Returns the report of all faults of a configuration.
pub(super) fn report(path: &Path, text: &str, mut faults: Vec<Fault>) -> CommandError {
    faults.sort_by_key(|fault| match &fault.place {
        Place::File(span) => (0, span.start),
        Place::Variable(_) => (1, 0),
        Place::Default => (2, 0),
    });
    let snippets: Vec<String> = faults.iter().map(|f| f.snippet(path, text)).collect();
    let mut error = CommandError::config(format!(
        "configuration `{}` has {}",
        path.display(),
        count(faults.len(), "fault", "faults")
    ))
    .details(snippets.join("\n\n"));
    error.causes = faults.iter().map(|fault| fault.line(path, text)).collect();
    error
}
