//! What a push would publish, and what would change by it: manifests in, manifests out.

use std::collections::BTreeMap;

use codevol_protocol::call::{CallFailure, Change, ChangeKind, FailureSort};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;

/// How many changed paths a plan lists.
const CHANGES_MAX: usize = 1_000;

/// Returns the base with the named paths as they stand in the tree.
pub(super) fn overlay(
    base: Option<&Manifest>,
    tree: &Manifest,
    paths: &[RelPath],
) -> Result<Manifest, CallFailure> {
    let named = |path: &RelPath| {
        paths
            .iter()
            .any(|named| path == named || path.is_below(named))
    };
    let mut entries: BTreeMap<RelPath, Entry> = base
        .into_iter()
        .flat_map(Manifest::entries)
        .filter(|(path, _)| !named(path))
        .cloned()
        .collect();
    for path in paths {
        let before = base.is_some_and(|base| {
            base.entries()
                .iter()
                .any(|(p, _)| p == path || p.is_below(path))
        });
        let now = tree
            .entries()
            .iter()
            .any(|(p, _)| p == path || p.is_below(path));
        if !before && !now {
            return Err(CallFailure::new(
                FailureSort::Usage,
                "path",
                format!("`{path}` is neither in the tree nor in the release it is based on"),
            )
            .hint("`codevol ignored --why PATH` says whether a rule leaves it out"));
        }
    }
    for (path, entry) in tree.entries().iter().filter(|(path, _)| named(path)) {
        // A directory that was empty, or a file that is a directory now, makes way.
        let mut above = path.parent();
        while let Some(parent) = above {
            entries.remove(&parent);
            above = parent.parent();
        }
        entries.insert(path.clone(), entry.clone());
    }
    Manifest::new(entries.into_iter().collect()).map_err(|error| {
        CallFailure::new(
            FailureSort::Refused,
            "conflict",
            "the named paths do not fit into the live tree",
        )
        .caused_by(&error)
    })
}

/// Lists what differs, and how much more than that does.
pub(crate) fn changes(old: Option<&Manifest>, new: &Manifest) -> (Vec<Change>, u64) {
    let old: BTreeMap<&RelPath, &Entry> = old
        .into_iter()
        .flat_map(Manifest::entries)
        .map(|(path, entry)| (path, entry))
        .collect();
    let added = new.entries().iter().filter_map(|(path, entry)| {
        let kind = match old.get(path) {
            None => ChangeKind::Added,
            Some(before) if *before != entry => ChangeKind::Changed,
            Some(_) => return None,
        };
        Some(Change {
            path: path.clone(),
            kind,
        })
    });
    let removed = old
        .keys()
        .filter(|path| new.entry(path).is_none())
        .map(|path| Change {
            path: (*path).clone(),
            kind: ChangeKind::Removed,
        });
    let mut changes: Vec<Change> = added.chain(removed).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let more = changes.len().saturating_sub(CHANGES_MAX);
    changes.truncate(CHANGES_MAX);
    (changes, more as u64)
}
