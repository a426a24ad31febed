//! The screens of `codevol log`.

use anstyle::Style;
use codevol_protocol::call::{LogEntry, ReleaseResult};
use codevol_protocol::release::{Git, UnixMillis};
use codevol_protocol::status::NodeError;

use super::{BAD, DOUBTFUL, GOOD, ago, one_line, release, sentence};
use crate::output::table::{Cell, Table};
use crate::output::units;

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(entries: &[LogEntry], now: UnixMillis) -> String {
    if entries.is_empty() {
        return "nothing is published".to_owned();
    }
    let mut table = Table::new([
        "RELEASE", "RESULT", "WHEN", "ORIGIN", "BY", "FILES", "GIT", "MESSAGE",
    ]);
    for entry in entries {
        let (shown, (word, style)) = (&entry.release, result(entry.result));
        let git = shown.git.as_ref().map_or_else(String::new, commit);
        let cells: [Cell; 8] = [
            release(shown.seq, &shown.id).into(),
            Cell::styled(word, style),
            ago(shown.created_at, now).into(),
            shown.origin.to_string().into(),
            one_line(shown.author.as_str()).into(),
            shown.files.to_string().into(),
            git.into(),
            one_line(shown.message.as_str()).into(),
        ];
        table.row(cells);
    }
    table.to_string()
}

/// Returns all that is known of one release, its last line not ended.
#[must_use]
pub fn story(entry: &LogEntry, errors: &[NodeError], now: UnixMillis) -> String {
    let shown = &entry.release;
    let (result, _) = result(entry.result);
    let files = usize::try_from(shown.files).unwrap_or(usize::MAX);
    let files = units::count(files, "file", "files");
    let size = units::bytes(shown.bytes);
    let parent = shown
        .parent
        .map_or_else(|| "none".to_owned(), |id| id.to_string());
    let branch = |git: &Git| {
        git.branch
            .as_ref()
            .map_or_else(String::new, |b| format!(", on {}", one_line(b.as_str())))
    };
    let git = shown.git.as_ref().map_or_else(
        || "not known".to_owned(),
        |git| format!("{}{}", commit(git), branch(git)),
    );
    let facts = [
        ("result", result.to_owned()),
        ("id", shown.id.to_string()),
        ("parent", parent),
        ("manifest", shown.manifest.to_string()),
        ("tree", format!("{files}, {size}")),
        ("origin", shown.origin.to_string()),
        ("by", one_line(shown.author.as_str())),
        (
            "when",
            format!("{} ({})", shown.created_at, ago(shown.created_at, now)),
        ),
        ("git", git),
    ];
    let mut lines = vec![shown.seq.to_string()];
    lines.extend(facts.map(|(name, fact)| format!("  {name:<10}{fact}")));
    if !shown.message.is_empty() {
        lines.push(String::new());
        let message = shown.message.to_string();
        lines.extend(message.lines().map(|line| format!("  {line}")));
    }
    for error in errors {
        lines.push(String::new());
        lines.extend(error_lines(error));
    }
    lines.join("\n")
}

fn error_lines(error: &NodeError) -> Vec<String> {
    let (node, step) = (&error.node, sentence(error.step.as_str()));
    let message = sentence(error.message.as_str());
    let mut lines = vec![format!("On {node}, in step {step}: {message}")];
    lines.extend(
        error
            .location
            .as_ref()
            .map(|at| format!("  {}", sentence(at.as_str()))),
    );
    let traceback = error
        .traceback
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    lines.extend(traceback.lines().map(|line| format!("    {line}")));
    if error.hidden_frames > 0 {
        let hidden = error.hidden_frames;
        let frames = if hidden == 1 { "frame" } else { "frames" };
        lines.push(format!("  [{hidden} Dagster {frames} hidden]"));
    }
    lines.extend(
        error
            .hint
            .as_ref()
            .map(|hint| format!("  hint: {}", sentence(hint.as_str()))),
    );
    lines
}

fn commit(git: &Git) -> String {
    let commit: String = one_line(git.commit.as_str()).chars().take(7).collect();
    let dirty = if git.dirty { ", dirty" } else { "" };
    format!("{commit}{dirty}")
}

const fn result(result: ReleaseResult) -> (&'static str, Style) {
    match result {
        ReleaseResult::Live => ("live", GOOD),
        ReleaseResult::Superseded => ("superseded", Style::new()),
        ReleaseResult::Held => ("held", DOUBTFUL),
        ReleaseResult::Broken => ("broken", BAD),
    }
}
