//! How many lines of text a release adds and takes away, for whoever pushes it. The watcher never
//! asks.

use std::io::{self, Read as _};

use codevol_protocol::call::{Change, Lines, PushPlan, ReleaseRef};
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use imara_diff::{Algorithm, Diff, InternedInput};

use crate::history::{History, HistoryError};
use crate::scan::Scanner;

/// A longer file is not compared, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;
/// No more files are compared than this.
pub(crate) const FILES_MAX: usize = 300;
/// Nor more bytes, old and new together.
pub(crate) const BYTES_MAX: u64 = 16 << 20;

/// Counts the lines of a release that is in the log, against the release that it is based on.
///
/// # Errors
/// When a manifest of theirs cannot be read.
pub(crate) fn of_release(
    history: &History,
    plan: &PushPlan,
) -> Result<Option<Lines>, HistoryError> {
    let Some(release) = &plan.release else {
        return Ok(None);
    };
    let base = plan
        .base
        .and_then(|base| history.find(&ReleaseRef::Seq(base)));
    let old = base
        .map(|base| history.manifest(base.release().manifest))
        .transpose()?;
    let new = history.manifest(release.manifest)?;
    let read = |_: &RelPath, blob| blob_of(history, blob);
    Ok(count(
        (&plan.changes, plan.changes_more),
        (old.as_deref(), &read),
        (Some(&new), &read),
    ))
}

/// Counts the lines that a push of the tree as it stands would change.
pub(crate) fn of_tree(
    (history, scanner): (&History, &Scanner),
    plan: &PushPlan,
    (old, new): (Option<&Manifest>, &Manifest),
) -> Option<Lines> {
    let read_old = |_: &RelPath, blob| blob_of(history, blob);
    let read_new = |path: &RelPath, _| file_of(scanner, path);
    count(
        (&plan.changes, plan.changes_more),
        (old, &read_old),
        (Some(new), &read_new),
    )
}

/// Counts the lines that a tree would change whose new files the history need not hold.
pub(crate) fn of_delivered(
    history: &History,
    plan: &PushPlan,
    (old, new): (Option<&Manifest>, &Manifest),
) -> Option<Lines> {
    let read = |_: &RelPath, blob| blob_of(history, blob);
    let changes = (&plan.changes[..], plan.changes_more);
    count(changes, (old, &read), (Some(new), &read))
}

pub(crate) fn file_of(scanner: &Scanner, path: &RelPath) -> io::Result<Vec<u8>> {
    let file = scanner.open_file(path).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn blob_of(history: &History, blob: BlobId) -> io::Result<Vec<u8>> {
    let read = history.blobs().read(blob, FILE_BYTES_MAX);
    read.map_err(io::Error::other)
}

pub(crate) type Read<'a> = &'a dyn Fn(&RelPath, BlobId) -> io::Result<Vec<u8>>;

/// One of the two trees, and how its files are read.
pub(crate) type Side<'a> = (Option<&'a Manifest>, Read<'a>);

/// Counts; nothing where nothing changed. What cannot be read counts as a file that was not counted.
fn count((changes, more): (&[Change], u64), old: Side<'_>, new: Side<'_>) -> Option<Lines> {
    if changes.is_empty() {
        return None;
    }
    let mut lines = Lines {
        uncounted: more,
        ..Lines::default()
    };
    let mut left = BYTES_MAX;
    for (number, change) in changes.iter().enumerate() {
        let within = (number < FILES_MAX).then_some(&mut left);
        let compared = within.and_then(|left| {
            let before = text(&change.path, old, left)?;
            let after = text(&change.path, new, left)?;
            Some(compare(&before, &after))
        });
        match compared {
            Some((added, removed)) => {
                lines.added += added;
                lines.removed += removed;
            }
            None => lines.uncounted += 1,
        }
    }
    Some(lines)
}

/// Returns the text of a file, empty where there is none; nothing where it is too much or binary.
fn text(path: &RelPath, (manifest, read): Side<'_>, left: &mut u64) -> Option<Vec<u8>> {
    let Some(Entry::File { blob, size, .. }) = manifest.and_then(|m| m.entry(path)) else {
        return Some(Vec::new());
    };
    if *size > FILE_BYTES_MAX {
        return None;
    }
    *left = left.checked_sub(*size)?;
    let bytes = read(path, *blob).ok()?;
    let is_text = bytes.len() as u64 <= FILE_BYTES_MAX && !bytes.contains(&0);
    is_text.then_some(bytes)
}

/// Returns how many lines were added and taken away.
fn compare(before: &[u8], after: &[u8]) -> (u64, u64) {
    let input = InternedInput::new(before, after);
    let diff = Diff::compute(Algorithm::Histogram, &input);
    (diff.count_additions().into(), diff.count_removals().into())
}

#[cfg(test)]
mod tests;
