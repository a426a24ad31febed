//! Paths as a person writes them, made paths of a volume's tree.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use codevol_protocol::name::VolumeName;
use codevol_protocol::path::RelPath;
use codevol_source::config::SourceConfig;

use crate::error::CommandError;

/// A volume's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Tree {
    volume: VolumeName,
    path: PathBuf,
}

/// Returns the trees that paths may lie in: all of the source's, or the one of the volume that is
/// named.
///
/// # Errors
/// There is no such volume.
pub(in crate::commands) fn trees(
    config: &SourceConfig,
    volume: Option<&VolumeName>,
) -> Result<Vec<Tree>, CommandError> {
    let all = config.volumes.iter().map(|each| Tree {
        volume: each.name.clone(),
        path: each.path.clone(),
    });
    let trees: Vec<Tree> = all
        .filter(|tree| volume.is_none_or(|volume| *volume == tree.volume))
        .collect();
    match volume {
        Some(volume) if trees.is_empty() => {
            let names: Vec<&str> = config.volumes.iter().map(|v| v.name.as_str()).collect();
            Err(
                CommandError::usage(format!("there is no volume `{volume}`"))
                    .hint(format!("the source's volumes: {}", names.join(", "))),
            )
        }
        Some(_) | None => Ok(trees),
    }
}

/// Returns the one volume in whose tree all of the paths lie, and the paths in it. Where there is no
/// path, the volume is the one that was named.
///
/// # Errors
/// A path lies in no tree, is a whole tree, or is none that a tree can hold.
pub(in crate::commands) fn below_one(
    trees: &[Tree],
    named: Option<&VolumeName>,
    paths: &[PathBuf],
) -> Result<(Option<VolumeName>, Vec<RelPath>), CommandError> {
    let mut volume = named.cloned();
    let mut below = Vec::new();
    for path in paths {
        let (tree, path_in_tree) = place(trees, path)?;
        match &volume {
            Some(volume) if *volume != tree.volume => {
                return Err(CommandError::usage(format!(
                    "`{}` lies in volume `{}`, another path in `{volume}`",
                    path.display(),
                    tree.volume
                ))
                .hint("push each volume by itself"));
            }
            Some(_) | None => volume = Some(tree.volume.clone()),
        }
        let parsed = RelPath::from_bytes(path_in_tree.as_os_str().as_bytes());
        below.push(parsed.map_err(|error| refused(path, &tree.path).because(&error))?);
    }
    Ok((volume, below))
}

/// Returns the paths of a tree that lies elsewhere, as they are written.
///
/// # Errors
/// One is none that a tree can hold.
pub(in crate::commands) fn of_tree(paths: &[PathBuf]) -> Result<Vec<RelPath>, CommandError> {
    let parsed = paths.iter().map(|path| {
        let written = path.as_os_str().as_bytes();
        // One that is to be a directory may say so.
        let written = written.strip_suffix(b"/").unwrap_or(written);
        RelPath::from_bytes(written).map_err(|error| {
            CommandError::usage(format!("`{}` cannot be a path of a tree", path.display()))
                .because(&error)
                .hint("write it as it stands in the volume's tree: `assets/orders.py`")
        })
    });
    parsed.collect()
}

/// Whether a path lies in one of the trees: it is then a part of that, whatever it is.
pub(in crate::commands) fn lies_in(trees: &[Tree], path: &Path) -> bool {
    place(trees, path).is_ok()
}

fn place<'a>(trees: &'a [Tree], path: &Path) -> Result<(&'a Tree, PathBuf), CommandError> {
    let unreadable = |what: &Path, error: &io::Error| {
        CommandError::environment(format!("cannot look at `{}`", what.display())).because(error)
    };
    let resolved = resolve(path).map_err(|error| unreadable(path, &error))?;
    for tree in trees {
        let root = tree.path.canonicalize();
        let root = root.map_err(|error| unreadable(&tree.path, &error))?;
        // Also as it is written: the tree may be named through a link that we cannot follow.
        let below = resolved.strip_prefix(&root);
        if let Ok(below) = below.or_else(|_| resolved.strip_prefix(&tree.path)) {
            if below.as_os_str().is_empty() {
                return Err(CommandError::usage(format!(
                    "`{}` is the whole tree of volume `{}`",
                    path.display(),
                    tree.volume
                ))
                .hint("leave the path out to push the whole tree"));
            }
            return Ok((tree, below.to_path_buf()));
        }
    }
    let folders: Vec<String> = trees
        .iter()
        .map(|t| format!("`{}`", t.path.display()))
        .collect();
    let message = format!("`{}` lies outside of the tree", path.display());
    Err(CommandError::usage(message).hint(format!("the tree is {}", folders.join(", or "))))
}

fn refused(path: &Path, tree: &Path) -> CommandError {
    let (path, tree) = (path.display(), tree.display());
    CommandError::usage(format!("`{path}` cannot be a path of the tree `{tree}`"))
}

/// Makes a path absolute and follows the links on its way, but not the last component: a link is
/// itself a path of the tree. What does not exist any more, to be pushed as gone, is taken as it is
/// written.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if absolute.components().next_back() == Some(Component::ParentDir) {
        return absolute.canonicalize();
    }
    let mut ancestor = absolute.as_path();
    while let Some(parent) = ancestor.parent() {
        match parent.canonicalize() {
            Ok(found) => {
                let rest = absolute.strip_prefix(parent).unwrap_or(&absolute);
                return Ok(found.join(rest));
            }
            Err(error) if is_absent(&error) => ancestor = parent,
            Err(error) => return Err(error),
        }
    }
    Ok(absolute)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
