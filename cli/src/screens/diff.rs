//! The screen of `codevol diff`: a unified diff as git shows it, each line neutralised.

use anstyle::{AnsiColor, Style};
use codevol_protocol::call::ChangeKind;
use codevol_protocol::diff::{Content, FileDiff, Shape, TreeDiff};
use codevol_protocol::name::Printable;

use super::{BAD, DIM, DOUBTFUL, GOOD, sentence};
use crate::output::units;

const HUNK: Style = AnsiColor::Cyan.on_default();
const NAME: Style = Style::new().bold();

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(diff: &TreeDiff) -> String {
    let (from, to) = (sentence(diff.from.as_str()), sentence(diff.to.as_str()));
    if diff.files.is_empty() && diff.files_cut == 0 {
        return format!("{from} and {to} are the same");
    }
    let mut lines = Vec::new();
    for file in &diff.files {
        push_file(&mut lines, file, (&from, &to));
    }
    if diff.files_cut > 0 {
        let more = count(diff.files_cut, "path differs", "paths differ");
        lines.push(styled(DOUBTFUL, &format!("{more} too, and are not shown")));
    }
    lines.join("\n")
}

fn push_file(lines: &mut Vec<String>, file: &FileDiff, (from, to): (&str, &str)) {
    let path = sentence(file.path.as_str());
    let word = match file.change {
        ChangeKind::Added => "added",
        ChangeKind::Changed => "changed",
        ChangeKind::Removed => "removed",
    };
    let (old, new) = (shape(file.old.as_ref()), shape(file.new.as_ref()));
    let shapes = match (&*old, &*new) {
        ("", only) | (only, "") => only.to_owned(),
        (old, new) if old == new => old.to_owned(),
        (old, new) => format!("{old} -> {new}"),
    };
    lines.push(styled(NAME, &format!("{word} {path} ({shapes})")));
    match &file.content {
        Content::Same => {}
        Content::Binary => lines.push(sizes(file, "binary files differ")),
        Content::TooLong => lines.push(sizes(file, "too long to be compared")),
        Content::Unreadable => lines.push(styled(DOUBTFUL, "cannot be read")),
        Content::Text { hunks, lines_cut } => {
            let side = |shape: Option<&Shape>, tree: &str| match shape {
                Some(_) => format!("{tree}/{path}"),
                None => "/dev/null".to_owned(),
            };
            lines.push(styled(
                NAME,
                &format!("--- {}", side(file.old.as_ref(), from)),
            ));
            lines.push(styled(
                NAME,
                &format!("+++ {}", side(file.new.as_ref(), to)),
            ));
            lines.extend(hunks.split_terminator('\n').map(hunk_line));
            if *lines_cut > 0 {
                let cut = count(*lines_cut, "more line", "more lines");
                lines.push(styled(DOUBTFUL, &format!("{cut} of {path} are not shown")));
            }
        }
    }
}

fn hunk_line(line: &str) -> String {
    let style = match line.as_bytes().first() {
        Some(b'+') => GOOD,
        Some(b'-') => BAD,
        Some(b'@') => HUNK,
        _ => Style::new(),
    };
    styled(style, &Printable(line).to_string())
}

fn shape(shape: Option<&Shape>) -> String {
    let Some(shape) = shape else {
        return String::new();
    };
    match (&shape.target, shape.executable) {
        (Some(target), _) => format!("link to {}", sentence(target.as_str())),
        (None, Some(true)) => "executable".to_owned(),
        (None, Some(false)) => "file".to_owned(),
        (None, None) => "empty directory".to_owned(),
    }
}

fn sizes(file: &FileDiff, what: &str) -> String {
    let size = |shape: Option<&Shape>| {
        shape
            .and_then(|shape| shape.bytes)
            .map_or_else(|| "nothing".to_owned(), units::bytes)
    };
    let (old, new) = (size(file.old.as_ref()), size(file.new.as_ref()));
    styled(DIM, &format!("{what}: {old} -> {new}"))
}

fn count(number: u64, one: &str, many: &str) -> String {
    units::count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests;
