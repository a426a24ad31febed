//! What a push publishes, or would publish.

use std::fmt::Write as _;
use std::time::Duration;

use codevol_protocol::call::{Change, ChangeKind, PushPlan};

use super::sentence;
use crate::output::units;

/// How many of the changed paths a dry run lists.
const CHANGES_SHOWN_MAX: usize = 50;
/// How many of the paths that cannot be carried are listed.
const SKIPPED_SHOWN_MAX: usize = 10;
/// Where the right end of a line begins.
const LINE_CHARS: usize = 39;

/// Returns what was published, its last line not ended.
#[must_use]
pub fn published(plan: &PushPlan) -> String {
    let mut text = hashed(plan);
    let told = match (&plan.release, plan.base) {
        (Some(release), Some(base)) if plan.unchanged && !plan.changes.is_empty() => {
            let changes = changes(plan);
            format!(
                "{} = {base} + {changes}, which the tree equals",
                release.seq
            )
        }
        (Some(release), _) if plan.unchanged => format!("{}, which the tree equals", release.seq),
        (Some(release), None) if plan.changes.is_empty() => release.seq.to_string(),
        (Some(release), Some(base)) if plan.changes.is_empty() => {
            format!("{}, the same tree as {base}", release.seq)
        }
        (Some(release), Some(base)) => {
            format!("{} = {base} + {}", release.seq, changes(plan))
        }
        (Some(release), None) => format!("{} = {}", release.seq, changes(plan)),
        (None, _) => "none".to_owned(),
    };
    line(&mut text, &release(&told, plan));
    skipped(&mut text, plan);
    text
}

/// Returns what would be published, path by path, its last line not ended.
#[must_use]
pub fn dry_run(plan: &PushPlan) -> String {
    let mut text = hashed(plan);
    let told = match plan.base {
        Some(base) if plan.unchanged => format!("none: the tree is {base}"),
        None if plan.unchanged => "none: the tree is empty".to_owned(),
        Some(base) => format!("{base} + {}, not published", changes(plan)),
        None => format!("{}, not published", changes(plan)),
    };
    line(&mut text, &release(&told, plan));
    if !plan.changes.is_empty() {
        text.push('\n');
    }
    for change in plan.changes.iter().take(CHANGES_SHOWN_MAX) {
        let mark = match change.kind {
            ChangeKind::Added => '+',
            ChangeKind::Changed => '~',
            ChangeKind::Removed => '-',
        };
        line(&mut text, &format!("  {mark} {}", change.path));
    }
    let unlisted = plan.changes.len().saturating_sub(CHANGES_SHOWN_MAX) as u64;
    more(&mut text, unlisted.saturating_add(plan.changes_more));
    if !plan.changes.is_empty() && !plan.skipped.is_empty() {
        text.push('\n');
    }
    skipped(&mut text, plan);
    text
}

fn hashed(plan: &PushPlan) -> String {
    if plan.hashed_files == 0 {
        return String::new();
    }
    let files = usize::try_from(plan.hashed_files).unwrap_or(usize::MAX);
    let files = units::count(files, "file", "files");
    let size = units::bytes(plan.hashed_bytes);
    let left = format!("Hashed   {files} ({size})");
    let time = units::elapsed(Duration::from_millis(plan.hashed_ms));
    format!("{left:<LINE_CHARS$}{time}")
}

/// Returns `Release  r42 = r41 + 1 changed         +4 -1 lines`: the right end is left out where
/// nothing was counted.
fn release(told: &str, plan: &PushPlan) -> String {
    let left = format!("Release  {told}");
    let Some(lines) = plan.lines.filter(|lines| lines.counted()) else {
        return left;
    };
    let width = LINE_CHARS.saturating_sub(2);
    let mut line = format!("{left:<width$}  +{} -{} lines", lines.added, lines.removed);
    if lines.uncounted > 0 {
        let files = usize::try_from(lines.uncounted).unwrap_or(usize::MAX);
        let files = units::count(files, "file", "files");
        write!(line, ", {files} not counted").unwrap_or_default();
    }
    line
}

/// Returns `2 changed, 1 added`.
fn changes(plan: &PushPlan) -> String {
    let kinds = [
        (ChangeKind::Changed, "changed"),
        (ChangeKind::Added, "added"),
        (ChangeKind::Removed, "removed"),
    ];
    let mut told: Vec<String> = Vec::new();
    for (kind, word) in kinds {
        let is_kind = |change: &&Change| change.kind == kind;
        let count = plan.changes.iter().filter(is_kind).count();
        if count > 0 {
            told.push(format!("{count} {word}"));
        }
    }
    if plan.changes_more > 0 {
        told.push(format!("{} more", plan.changes_more));
    }
    told.join(", ")
}

fn skipped(text: &mut String, plan: &PushPlan) {
    if plan.skipped.is_empty() {
        return;
    }
    let count = units::count(plan.skipped.len(), "path that", "paths that");
    line(text, &format!("Left out {count} cannot be carried:"));
    for skipped in plan.skipped.iter().take(SKIPPED_SHOWN_MAX) {
        let (path, why) = (
            sentence(skipped.path.as_str()),
            sentence(skipped.why.as_str()),
        );
        line(text, &format!("  {path}: {why}"));
    }
    more(
        text,
        plan.skipped.len().saturating_sub(SKIPPED_SHOWN_MAX) as u64,
    );
}

fn more(text: &mut String, count: u64) {
    if count > 0 {
        write!(text, "\n  and {count} more").unwrap_or_default();
    }
}

fn line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

#[cfg(test)]
mod tests;
