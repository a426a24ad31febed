//! Partial scans: which directories to look at for what is dirty.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};

use codevol_protocol::path::RelPath;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::dir;
use super::error::ScanError;
use super::tree::Dir;
use super::walk::{Place, Walk};
use crate::rules;

/// Returns the fewest paths whose looking at covers all that are dirty; nothing where that is the
/// root. A file that bears on the rules stands for its directory.
pub(super) fn cover(dirty: &BTreeSet<RelPath>) -> Option<Vec<RelPath>> {
    let mut wanted = BTreeSet::new();
    for path in dirty {
        if rules::is_rule_file(path.file_name()) {
            wanted.insert(path.parent()?);
        } else {
            wanted.insert(path.clone());
        }
    }
    let mut cover: Vec<RelPath> = Vec::new();
    for path in wanted {
        if !cover.last().is_some_and(|last| path.is_below(last)) {
            cover.push(path);
        }
    }
    Some(cover)
}

/// Looks at one path again, or at the lowest directory above it that is not as it was.
pub(super) fn refresh(
    walk: &mut Walk<'_>,
    root: &OwnedFd,
    tree: &mut Dir,
    mut path: RelPath,
) -> Result<(), ScanError> {
    loop {
        let parent = path.parent();
        let opened = match (tree.dir(parent.as_ref()), &parent) {
            (Some(_), None) => dir::open_dir(root, b"."),
            (Some(_), Some(parent)) => dir::open_dir(root, parent.as_str().as_bytes()),
            (None, _) => Err(Errno::NOENT),
        };
        let fd = match (opened, parent) {
            (Ok(fd), _) => fd,
            (
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS),
                Some(parent),
            ) => {
                path = parent;
                continue;
            }
            (Err(error), _) => return Err(ScanError::io("open directory", Some(&path), error)),
        };
        let parent = path.parent();
        let name = path.file_name().as_bytes();
        let place = Place {
            dir: parent.as_ref(),
            fd: fd.as_fd(),
            ignored_by: tree.dir(parent.as_ref()).and_then(|dir| dir.ignored_by),
            same_rules: true,
        };
        let old = tree.node(&path);
        let node = walk.name(place, (name, FileType::Unknown), old)?;
        tree.set(parent.as_ref(), name, node);
        return Ok(());
    }
}
