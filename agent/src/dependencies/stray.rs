//! The modules that the changed files of a release import, and which of them nothing gives.

use std::collections::BTreeMap;
use std::path::Path;

use codevol_protocol::manifest::{Entry, Manifest};

use super::environment::Installed;
use super::imports::imports;
use super::wants::Tree;

/// What the changed files of a release import.
#[derive(Debug, Default)]
pub(super) struct Stray {
    /// Each module with the file and line that import it first.
    modules: BTreeMap<String, (String, u32)>,
    /// What was not looked at, with the reason.
    pub(super) unjudged: Vec<String>,
}

/// One import of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Import<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a str,
    pub(super) line: u32,
}

const FILES_MAX: usize = 2_000;
const FILE_BYTES_MAX: u64 = 1 << 20;
const BYTES_MAX: u64 = 32 << 20;
const MODULES_MAX: usize = 10_000;

impl Stray {
    /// Reads the files that are not as they were before.
    pub(super) fn read(tree: Tree<'_>, before: Option<&Manifest>) -> Self {
        let mut stray = Self::default();
        let (mut files, mut bytes, mut passed_over) = (0, 0, 0_usize);
        for (path, entry) in tree.manifest.entries() {
            let Entry::File { blob, size, .. } = entry else {
                continue;
            };
            let was = before.and_then(|before| before.entry(path)?.blob());
            if was == Some(*blob) || !path.file_name().ends_with(".py") {
                continue;
            }
            let is_within = *size <= FILE_BYTES_MAX && bytes + size <= BYTES_MAX;
            if !is_within || files >= FILES_MAX || stray.modules.len() >= MODULES_MAX {
                passed_over += 1;
                continue;
            }
            files += 1;
            bytes += size;
            let Ok(text) = tree.dir.read(path.as_str(), FILE_BYTES_MAX) else {
                passed_over += 1;
                continue;
            };
            for (line, module) in imports(&String::from_utf8_lossy(&text)) {
                let first = || (path.to_string(), line);
                stray.modules.entry(module).or_insert_with(first);
            }
        }
        if passed_over > 0 {
            let what = format!("{passed_over} changed files were not read for their imports");
            stray.unjudged.push(what);
        }
        stray
    }

    /// Returns what neither the tree nor an environment gives, for each environment.
    pub(super) fn in_none_of<'a>(
        &'a self,
        manifest: &Manifest,
        installed: &[&'a Installed],
    ) -> Vec<(&'a Path, Import<'a>)> {
        let lacks = |one: &'a Installed| {
            let missing = self.modules.iter().filter(|(name, _)| !one.gives(name));
            missing.map(move |(name, (file, line))| {
                let import = Import {
                    name,
                    file,
                    line: *line,
                };
                (one.python.as_path(), import)
            })
        };
        let mut found: Vec<(&Path, Import<'_>)> =
            installed.iter().flat_map(|one| lacks(one)).collect();
        if !found.is_empty() {
            // Few are left, and a large tree is gone through once.
            let mut names: BTreeMap<&str, bool> = found
                .iter()
                .map(|(_, import)| (import.name, false))
                .collect();
            for (path, _) in manifest.entries() {
                for component in path.components() {
                    // `x.py`, `x.cpython-311-x86_64-linux-gnu.so`, or the folder of a package.
                    let stem = component.split('.').next().unwrap_or_default();
                    if let Some(is_of_tree) = names.get_mut(stem) {
                        *is_of_tree = true;
                    }
                }
            }
            found.retain(|(_, import)| names.get(import.name) == Some(&false));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::id::BlobId;
    use codevol_protocol::path::RelPath;
    use codevol_store::dir::Dir;
    use codevol_tests::save;

    use super::super::environment::tests::installed;
    use super::*;

    fn manifest(folder: &Path, files: &[(&str, &str)]) -> Manifest {
        let mut entries: Vec<(RelPath, Entry)> = files
            .iter()
            .map(|(path, text)| {
                save(&folder.join(path), text.as_bytes());
                let entry = Entry::File {
                    blob: BlobId::of(text.as_bytes()),
                    size: text.len() as u64,
                    executable: false,
                };
                (path.parse().unwrap(), entry)
            })
            .collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Manifest::new(entries).unwrap()
    }

    #[test]
    fn only_changed_files_are_read_and_what_the_tree_gives_is_no_stray() {
        let temp = tempfile::tempdir().unwrap();
        let before = manifest(temp.path(), &[("same.py", "import gone_before\n")]);
        let next = manifest(
            temp.path(),
            &[
                ("same.py", "import gone_before\n"),
                ("src/own/__init__.py", ""),
                ("lonely.py", ""),
                ("notes.txt", "import text"),
                (
                    "new.py",
                    "import os, sys, yaml, own, lonely, polars\nimport _x\nimport polars.y\n",
                ),
            ],
        );
        let dir = Dir::open(temp.path()).unwrap();
        let tree = Tree {
            dir: &dir,
            manifest: &next,
        };
        let stray = Stray::read(tree, Some(&before));
        let environment = installed(&[], &["yaml"], Some(&["os"]));
        let found = stray.in_none_of(&next, &[&environment]);
        let import = Import {
            name: "polars",
            file: "new.py",
            line: 1,
        };
        assert_eq!(found, [(environment.python.as_path(), import)]);
        assert_eq!(stray.unjudged, [""; 0]);
        // On a first release all is new.
        let stray = Stray::read(tree, None);
        let found = stray.in_none_of(&next, &[&environment]);
        let names: Vec<&str> = found.iter().map(|(_, import)| import.name).collect();
        assert_eq!(names, ["gone_before", "polars"]);
        // Without a standard library to compare with, nothing is said to be missing.
        let blind = installed(&[], &[], None);
        assert_eq!(stray.in_none_of(&next, &[&blind]), []);
    }

    #[test]
    fn what_is_too_long_or_gone_is_said_to_be_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let long = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        let next = manifest(temp.path(), &[("long.py", &long), ("gone.py", "x")]);
        std::fs::remove_file(temp.path().join("gone.py")).unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let tree = Tree {
            dir: &dir,
            manifest: &next,
        };
        let stray = Stray::read(tree, None);
        assert_eq!(
            stray.unjudged,
            ["2 changed files were not read for their imports"]
        );
    }
}
