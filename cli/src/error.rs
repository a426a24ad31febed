//! What a failed command says: one report, made at one place, for people and for scripts.

use std::borrow::Cow;
use std::error::Error;

use anstyle::{AnsiColor, Style};
use codevol_protocol::name::Printable;
use serde::Serialize;

use crate::exit::ExitStatus;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// The exit status.
    pub exit: ExitStatus,
    /// A stable word for scripts, as `config` or `unreachable`.
    pub kind: Cow<'static, str>,
    /// What failed, with its value.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do about it: the next command, where there is one.
    pub hint: Option<String>,
    /// Lines that a person sees in place of `causes`, where plain causes do not show enough.
    pub details: Option<Box<str>>,
}

impl CommandError {
    /// Returns an error with no cause and no hint.
    pub fn new(exit: ExitStatus, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind: kind.into(),
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            details: None,
        }
    }

    /// The work itself failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Failed, "failed", message)
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, "usage", message)
    }

    /// The state of things forbids it: `kind` is `frozen`, `quarantined`, `exists` and so on.
    pub fn refused(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Refused, kind, message)
    }

    /// A daemon or a node does not answer.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Unreachable, "unreachable", message)
    }

    /// The caller may not do this.
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::NotPermitted, "not-permitted", message)
    }

    /// The configuration is invalid.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Invalid, "config", message)
    }

    /// The machine is not as it must be: a folder is missing, or cannot be written.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Invalid, "environment", message)
    }

    /// Adds an error and all that caused it to the causes.
    #[must_use]
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        self.causes.extend(chain(error));
        self
    }

    /// Adds one cause in words.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Shows these lines to a person in place of the causes.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into().into_boxed_str());
        self
    }

    /// Whether it tells the faults of a configuration that could be read.
    #[must_use]
    pub const fn is_of_file(&self) -> bool {
        self.details.is_some()
    }

    /// Returns the report for a person, styled, each line ended.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{ERROR}error{ERROR:#}: {}\n", continued(&self.message, 2));
        if let Some(details) = &self.details {
            for line in details.lines() {
                push_line(&mut text, &Printable(line).to_string());
            }
        } else {
            for cause in &self.causes {
                push_line(&mut text, &format!("  caused by: {}", continued(cause, 4)));
            }
        }
        if let Some(hint) = &self.hint {
            if self.details.is_some() {
                text.push('\n');
            }
            push_line(
                &mut text,
                &format!("{HINT}hint{HINT:#}: {}", continued(hint, 2)),
            );
        }
        text
    }

    /// Returns the report for a script.
    #[must_use]
    pub fn document(&self) -> ErrorDocument<'_> {
        ErrorDocument {
            schema: "codevol.error/1",
            kind: &self.kind,
            message: &self.message,
            causes: &self.causes,
            hint: self.hint.as_deref(),
        }
    }
}

/// The report of an error as JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorDocument<'a> {
    schema: &'static str,
    kind: &'a str,
    message: &'a str,
    causes: &'a [String],
    hint: Option<&'a str>,
}

/// Returns the error and all that caused it in words, outermost first, without raw error numbers.
/// A cause that the text before it already ends with is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = in_words(&error.to_string());
        if !causes.last().is_some_and(|last| repeats(last, &text)) {
            causes.push(text);
        }
        next = error.source();
    }
    causes
}

/// Whether the error's text ends with its cause's, whatever letter that begins with.
fn repeats(text: &str, cause: &str) -> bool {
    let (text, cause) = (text.to_ascii_lowercase(), cause.to_ascii_lowercase());
    text.ends_with(&cause)
}

/// Takes ` (os error 2)` off an operating system's message and begins it in lower case: the number
/// says nothing that the words do not.
pub(crate) fn in_words(text: &str) -> String {
    let Some((words, rest)) = text.split_once(" (os error ") else {
        return text.to_owned();
    };
    let Some((_, after)) = rest.split_once(')') else {
        return text.to_owned();
    };
    let mut characters = words.chars();
    let first = characters.next().map(|c| c.to_ascii_lowercase());
    first
        .into_iter()
        .chain(characters)
        .chain(after.chars())
        .collect()
}

/// Neutralises control characters, and indents the lines after the first.
fn continued(text: &str, indent: usize) -> String {
    let safe = Printable(text).to_string();
    let mut lines = safe.lines();
    let mut joined = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        push_indented(&mut joined, line, indent);
    }
    joined
}

fn push_indented(text: &mut String, line: &str, indent: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(line);
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests;
