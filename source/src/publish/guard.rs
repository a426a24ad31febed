//! The blast guard: a tree from which most files are suddenly gone is an unmounted source more
//! often than it is a change that somebody meant.

use std::collections::BTreeSet;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;

/// With fewer files gone the guard is silent.
const GONE_MIN: usize = 10;

/// Why a tree is not published by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Blast {
    /// The tree holds nothing.
    #[error("the tree is empty")]
    Empty,
    /// More than half of the files are gone from their path, and their bytes from everywhere.
    #[error("{gone} of {files} files are gone from the tree")]
    Gone {
        /// How many are gone.
        gone: usize,
        /// How many there were.
        files: usize,
    },
}

/// Looks for a blast between the head and what stands in the tree. A file that moved is not gone.
pub(super) fn check(head: Option<&Manifest>, tree: &Manifest) -> Result<(), Blast> {
    if tree.is_empty() {
        return Err(Blast::Empty);
    }
    let Some(head) = head else { return Ok(()) };
    let files = head.files();
    let is_blast = |gone: usize| gone >= GONE_MIN && gone * 2 > files;
    let mut lost = lost_paths(head, tree);
    if is_blast(lost.len()) {
        let blobs: BTreeSet<BlobId> = tree
            .entries()
            .iter()
            .filter_map(|(_, entry)| entry.blob())
            .collect();
        lost.retain(|blob| !blobs.contains(blob));
    }
    if is_blast(lost.len()) {
        let gone = lost.len();
        Err(Blast::Gone { gone, files })
    } else {
        Ok(())
    }
}

/// Returns the bytes of each file of which nothing is left at its path.
fn lost_paths(head: &Manifest, tree: &Manifest) -> Vec<BlobId> {
    let mut tree = tree.entries().iter().peekable();
    let lost = head.entries().iter().filter(|(path, _)| {
        while tree.next_if(|(there, _)| there < path).is_some() {}
        tree.next_if(|(there, _)| there == path).is_none()
    });
    lost.filter_map(|(_, entry)| entry.blob()).collect()
}

#[cfg(test)]
mod tests {
    use codevol_protocol::manifest::Entry;

    use super::*;

    fn tree(files: impl IntoIterator<Item = (String, String)>) -> Manifest {
        let mut entries: Vec<_> = files
            .into_iter()
            .map(|(path, content)| {
                let (blob, size) = (BlobId::of(content.as_bytes()), content.len() as u64);
                (
                    path.parse().unwrap(),
                    Entry::File {
                        blob,
                        size,
                        executable: false,
                    },
                )
            })
            .collect();
        entries.sort_by(|(a, _): &(codevol_protocol::path::RelPath, _), (b, _)| a.cmp(b));
        Manifest::new(entries).unwrap()
    }

    fn numbered(count: usize) -> Vec<(String, String)> {
        (0..count)
            .map(|i| (format!("f{i}"), format!("content {i}")))
            .collect()
    }

    #[test]
    fn an_emptied_tree_is_a_blast_also_at_the_first_start() {
        assert_eq!(check(None, &Manifest::default()), Err(Blast::Empty));
        assert_eq!(
            check(Some(&tree(numbered(1))), &Manifest::default()),
            Err(Blast::Empty)
        );
    }

    #[test]
    fn more_than_half_and_at_least_ten_gone_is_a_blast() {
        let (head, half) = (tree(numbered(20)), tree(numbered(10)));
        assert_eq!(check(Some(&head), &half), Ok(()));
        let fewer = tree(numbered(9));
        assert_eq!(
            check(Some(&head), &fewer),
            Err(Blast::Gone {
                gone: 11,
                files: 20
            })
        );
        assert_eq!(check(Some(&tree(numbered(10))), &tree(numbered(1))), Ok(()));
    }

    #[test]
    fn moved_and_rewritten_files_are_not_gone() {
        let head = tree(numbered(20));
        let moved = numbered(20)
            .into_iter()
            .map(|(path, content)| (format!("d/{path}"), content));
        assert_eq!(check(Some(&head), &tree(moved)), Ok(()));
        let rewritten = numbered(20)
            .into_iter()
            .map(|(path, _)| (path, "new".to_owned()));
        assert_eq!(check(Some(&head), &tree(rewritten)), Ok(()));
    }
}
