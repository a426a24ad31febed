//! What people read: each screen is made out of a document by a pure function. Remote strings are
//! neutralised here.

pub mod audit;
pub mod diff;
pub mod doctor;
pub mod failure;
pub mod fetch;
pub mod gc;
pub mod hold;
pub mod ignored;
pub mod log;
pub mod node;
pub mod plan;
pub mod rollout;
pub mod seal;
pub mod status;
pub mod story;
pub mod verify;

use std::fmt::Display;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::Printable;
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::status::NodeState;

use crate::error::in_words;
use crate::output::units;

/// More names than this are counted instead.
const LISTED_MAX: usize = 5;
/// Where what is shown of a person's message ends, in characters.
const MESSAGE_CHARS_MAX: usize = 72;
/// Where a sentence of a machine ends, in characters: it is for reading, not for a table.
const SENTENCE_CHARS_MAX: usize = 400;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// Returns the time of day.
#[must_use]
pub fn now() -> UnixMillis {
    let ms = jiff::Timestamp::now().as_millisecond();
    UnixMillis(u64::try_from(ms).unwrap_or_default())
}

/// Returns how much time passed; nothing where the clocks of two machines differ.
fn since(at: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

/// Returns how long ago something was: `2h ago`.
fn ago(at: UnixMillis, now: UnixMillis) -> String {
    units::ago(since(at, now))
}

/// Returns a release as people name it: `r42 3f9c1a7e`.
fn release(seq: Seq, id: &ReleaseId) -> String {
    format!("{seq} {}", id.short())
}

/// Returns what a person wrote on one line, cut where it is long.
fn one_line(text: &str) -> String {
    on_one_line(text, MESSAGE_CHARS_MAX)
}

/// Returns a path, or what a machine found out, on one line.
fn sentence(text: &str) -> String {
    on_one_line(&in_words(text), SENTENCE_CHARS_MAX)
}

fn on_one_line(text: &str, chars_max: usize) -> String {
    let safe = Printable(text.trim()).to_string();
    let line = safe.replace('\n', "\\n").replace('\t', "\\t");
    if line.chars().count() <= chars_max {
        return line;
    }
    let cut: String = line.chars().take(chars_max).collect();
    format!("{cut}...")
}

/// Returns `a, b and c`, or `a, b, c, d, e and 12 more`.
fn listed<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    listed_of(names, 0)
}

/// Returns the same where so many are meant, and perhaps not all of them are named.
fn listed_of<T: Display>(names: impl IntoIterator<Item = T>, count: u64) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let count = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .max(names.len());
    let more = count - names.len().min(LISTED_MAX);
    if more > 0 {
        names.truncate(LISTED_MAX);
        names.push(format!("{more} more"));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => String::new(),
    }
}

const fn style_of(state: NodeState) -> Style {
    match state {
        NodeState::Live => GOOD,
        NodeState::Failed => BAD,
        NodeState::Offline | NodeState::Unverified | NodeState::Behind => DOUBTFUL,
        NodeState::Joining | NodeState::Staged | NodeState::Activating => Style::new(),
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
