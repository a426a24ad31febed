//! How a node's disk differs from the release that it runs, out of what the node sent of it.

use codevol_protocol::call::ChangeKind;
use codevol_protocol::diff::{self, FileDiff, Shape, TreeDiff};
use codevol_protocol::drift::{Content, Looked};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::path::RelPath;
use codevol_protocol::status::DriftKind;

use super::{HUNKS_BYTES_MAX, unified, whole_lines};
use crate::history::{History, Published};
use crate::lines::{FILE_BYTES_MAX, blob_of};

/// Compares what a node sent with the release that it runs.
pub(crate) fn of_node(
    history: &History,
    (release, manifest): (&Published, &Manifest),
    (node, looked): (&NodeName, &Looked),
) -> TreeDiff {
    let mut found = TreeDiff {
        from: super::name(Some(release)),
        to: Text::cut(node.as_str()),
        files: Vec::new(),
        files_cut: 0,
    };
    let mut hunks_left = HUNKS_BYTES_MAX;
    for content in &looked.contents {
        // A foreign name need not be a path of a tree.
        let Ok(path) = content.path.as_str().parse::<RelPath>() else {
            continue;
        };
        let entry = manifest.entry(&path);
        let change = match content.kind {
            DriftKind::Changed => ChangeKind::Changed,
            DriftKind::Missing => ChangeKind::Removed,
            DriftKind::Foreign => ChangeKind::Added,
            DriftKind::Flipped => continue,
        };
        found.files.push(FileDiff {
            path,
            change,
            old: entry.map(Shape::from),
            new: content.shape.clone(),
            content: compare(history, (entry, content), &mut hunks_left),
        });
    }
    // `current` is no path of the tree.
    let paths = looked.drifted.paths.iter();
    let paths = paths
        .filter(|drift| drift.kind != DriftKind::Flipped)
        .count() as u64;
    let listed = found.files.len() as u64;
    found.files_cut = (paths + looked.drifted.more).saturating_sub(listed);
    found
}

fn compare(
    history: &History,
    (entry, content): (Option<&Entry>, &Content),
    hunks_left: &mut usize,
) -> diff::Content {
    let old = match entry {
        Some(Entry::File { size, .. }) if *size > FILE_BYTES_MAX => return diff::Content::TooLong,
        Some(Entry::File { blob, .. }) => match blob_of(history, *blob) {
            Ok(bytes) => bytes,
            Err(_) => return diff::Content::Unreadable,
        },
        Some(Entry::Symlink { .. } | Entry::Dir) | None => Vec::new(),
    };
    let is_file = content
        .shape
        .as_ref()
        .is_some_and(|shape| shape.bytes.is_some());
    let new = match &content.bytes {
        Some(bytes) => bytes.clone(),
        None if is_file => return diff::Content::TooLong,
        None => Vec::new(),
    };
    if old == new {
        return diff::Content::Same;
    }
    if old.contains(&0) || new.contains(&0) {
        return diff::Content::Binary;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let hunks = unified(&text(&old), &text(&new));
    let (kept, cut) = hunks.split_at(whole_lines(&hunks, *hunks_left));
    *hunks_left -= kept.len();
    diff::Content::Text {
        hunks: kept.to_owned(),
        lines_cut: cut.lines().count() as u64,
    }
}
