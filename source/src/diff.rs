//! What differs between two releases, or between one and the tree: which paths, and how their lines.
//! As long as one answer can carry.

pub(crate) mod node;

use codevol_protocol::call::{CallFailure, Change, FailureSort, ReleaseRef};
use codevol_protocol::diff::{Content, FileDiff, Shape, TreeDiff};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::Entry;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use imara_diff::{Algorithm, BasicLineDiffPrinter, Diff, InternedInput, UnifiedDiffConfig};

use crate::history::{History, HistoryError, Published};
use crate::lines::{BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, Side, blob_of};
use crate::publish::changes;

/// How many bytes of hunks one answer carries: it must fit into a frame.
const HUNKS_BYTES_MAX: usize = 384 << 10;
/// How many bytes of paths and links it carries.
const PATHS_BYTES_MAX: usize = 256 << 10;

/// Compares two releases; where the older is not named, it is the live one.
///
/// # Errors
/// When there is no such release, or it is not kept any more.
pub(crate) fn of_releases(
    history: &History,
    (from, live): (Option<&ReleaseRef>, Option<ReleaseId>),
    to: &ReleaseRef,
) -> Result<TreeDiff, CallFailure> {
    let old = find(history, from, live)?;
    let new = find(history, Some(to), None)?.ok_or_else(|| not_found(to))?;
    let manifest_of = |release: &Published| {
        let manifest = history.manifest(release.release().manifest);
        manifest.map_err(|error| unreadable(release, &error))
    };
    let old_manifest = old.as_deref().map(manifest_of).transpose()?;
    let new_manifest = manifest_of(&new)?;
    let read = |_: &RelPath, blob| blob_of(history, blob);
    Ok(TreeDiff {
        from: name(old.as_deref()),
        to: name(Some(&new)),
        ..compare(
            &changes(old_manifest.as_deref(), &new_manifest),
            (old_manifest.as_deref(), &read),
            (Some(&new_manifest), &read),
        )
    })
}

/// Finds the release that is named, else the live one, else the newest; nothing where nothing is
/// published.
pub(crate) fn find(
    history: &History,
    named: Option<&ReleaseRef>,
    live: Option<ReleaseId>,
) -> Result<Option<std::sync::Arc<Published>>, CallFailure> {
    match named {
        Some(named) => history
            .find(named)
            .map(Some)
            .ok_or_else(|| not_found(named)),
        None => Ok(live
            .and_then(|live| history.by_id(live))
            .or_else(|| history.head())),
    }
}

pub(crate) fn name(release: Option<&Published>) -> Text {
    Text::cut(release.map_or_else(|| "nothing".to_owned(), |release| release.seq().to_string()))
}

fn not_found(named: &ReleaseRef) -> CallFailure {
    let message = format!("there is no release {named}");
    CallFailure::new(FailureSort::Refused, "not-found", message)
        .hint("`codevol log` lists the releases")
}

pub(crate) fn unreadable(release: &Published, error: &HistoryError) -> CallFailure {
    let seq = release.seq();
    if error.is_not_found() {
        let message = format!("the files of {seq} are not kept any more");
        return CallFailure::new(FailureSort::Refused, "not-kept", message)
            .hint("`keep` in the source's configuration says how many releases are kept");
    }
    let message = format!("{seq} cannot be read");
    CallFailure::new(FailureSort::Failed, "io", message).caused_by(error)
}

/// Compares two trees path by path; the trees are not named yet.
pub(crate) fn compare(
    (changes, more): &(Vec<Change>, u64),
    old: Side<'_>,
    new: Side<'_>,
) -> TreeDiff {
    let mut found = TreeDiff {
        from: Text::default(),
        to: Text::default(),
        files: Vec::new(),
        files_cut: *more,
    };
    let (mut bytes_left, mut hunks_left, mut paths_left) =
        (BYTES_MAX, HUNKS_BYTES_MAX, PATHS_BYTES_MAX);
    for (number, change) in changes.iter().enumerate() {
        let at = |(manifest, _): Side<'_>| manifest.and_then(|m| m.entry(&change.path)).cloned();
        let (before, after) = (at(old), at(new));
        let shapes = [&before, &after].map(|entry| entry.as_ref().map(Shape::from));
        let links = shapes
            .iter()
            .flatten()
            .filter_map(|shape| shape.target.as_ref());
        let names: usize = links.map(|target| target.as_str().len()).sum();
        let Some(left) = paths_left.checked_sub(names + change.path.as_str().len()) else {
            found.files_cut += (changes.len() - number) as u64;
            break;
        };
        paths_left = left;
        let content = if number < FILES_MAX {
            let sides = [(before.as_ref(), old), (after.as_ref(), new)];
            content(&change.path, sides, (&mut bytes_left, &mut hunks_left))
        } else {
            Content::TooLong
        };
        let [old, new] = shapes;
        found.files.push(FileDiff {
            path: change.path.clone(),
            change: change.kind,
            old,
            new,
            content,
        });
    }
    found
}

fn content(
    path: &RelPath,
    sides: [(Option<&Entry>, Side<'_>); 2],
    (bytes_left, hunks_left): (&mut u64, &mut usize),
) -> Content {
    let blob = |entry: Option<&Entry>| match entry {
        Some(Entry::File { blob, size, .. }) => Some((*blob, *size)),
        Some(Entry::Symlink { .. } | Entry::Dir) | None => None,
    };
    let [old, new] = sides.map(|(entry, _)| blob(entry));
    if old == new {
        return Content::Same;
    }
    let mut texts = Vec::new();
    for (file, (_, read)) in [old, new].into_iter().zip(sides.map(|(_, side)| side)) {
        let Some((blob, size)) = file else {
            texts.push(String::new());
            continue;
        };
        let left = bytes_left.checked_sub(size);
        let Some(left) = left.filter(|_| size <= FILE_BYTES_MAX) else {
            return Content::TooLong;
        };
        *bytes_left = left;
        match read(path, blob) {
            Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => return Content::TooLong,
            Ok(bytes) if bytes.contains(&0) => return Content::Binary,
            Ok(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
            Err(_) => return Content::Unreadable,
        }
    }
    let [before, after] = &*texts else {
        return Content::Same;
    };
    let hunks = unified(before, after);
    let cut_at = whole_lines(&hunks, *hunks_left);
    let (kept, cut) = hunks.split_at(cut_at);
    *hunks_left -= kept.len();
    Content::Text {
        hunks: kept.to_owned(),
        lines_cut: cut.lines().count() as u64,
    }
}

fn unified(before: &str, after: &str) -> String {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let printer = BasicLineDiffPrinter(&input.interner);
    let config = UnifiedDiffConfig::default();
    diff.unified_diff(&printer, config, &input).to_string()
}

/// Returns where the last line ends that fits.
fn whole_lines(text: &str, bytes_max: usize) -> usize {
    if text.len() <= bytes_max {
        return text.len();
    }
    let head = text.as_bytes().get(..bytes_max).unwrap_or_default();
    head.iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests;
