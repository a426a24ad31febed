//! What the demo shows codevol on: a copy of a given tree, or a small Dagster project of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use codevol_protocol::manifest::Entry;
use codevol_protocol::name::slug;
use codevol_source::scan::Scanner;

use crate::error::CommandError;

const SAMPLE: [(&str, &str); 4] = [
    (
        "definitions.py",
        "import dagster as dg\n\nfrom assets import orders\n\ndefs = dg.Definitions(assets=[orders.orders])\n",
    ),
    ("assets/__init__.py", ""),
    (
        "assets/orders.py",
        "import dagster as dg\n\n\n@dg.asset\ndef orders():\n    return [{\"id\": 1, \"amount\": 10}]\n",
    ),
    ("requirements.txt", "dagster\n"),
];

/// A tree that the demo may edit.
#[derive(Debug)]
pub(super) struct Project {
    /// The copy.
    pub(super) tree: PathBuf,
    /// What the volume is called.
    pub(super) volume: String,
    /// The file that is edited, relative to the tree.
    pub(super) edited: PathBuf,
    /// How a code server loads it; nothing where that cannot be told.
    pub(super) target: Option<Target>,
}

/// What `dagster code-server start` is pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `-f FILE`, relative to the tree.
    File(PathBuf),
    /// `-m MODULE`, below a folder of the tree.
    Module(String, PathBuf),
}

impl Project {
    /// Writes the sample.
    pub(super) fn sample(tree: PathBuf) -> Result<Self, CommandError> {
        let written = SAMPLE
            .iter()
            .try_for_each(|(path, text)| write(&tree.join(path), text.as_bytes()));
        written.map_err(|error| cannot("write the sample project", &error))?;
        Ok(Self {
            tree,
            volume: "sample".to_owned(),
            edited: "assets/orders.py".into(),
            target: Some(Target::File("definitions.py".into())),
        })
    }

    /// Copies what codevol would publish of a folder; the folder itself is only read.
    pub(super) fn copy(from: &Path, tree: PathBuf) -> Result<Self, CommandError> {
        let scanned = Scanner::open(from, &[], None).and_then(|mut scanner| {
            let scan = scanner.full()?;
            Ok((scanner, scan))
        });
        let (scanner, scan) = scanned.map_err(|error| {
            CommandError::environment(format!("cannot read `{}`", from.display())).because(&error)
        })?;
        let copied = || -> io::Result<()> {
            fs::create_dir_all(&tree)?;
            for (path, entry) in scan.manifest.entries() {
                let to = tree.join(path.as_str());
                match entry {
                    Entry::Dir => fs::create_dir_all(&to)?,
                    Entry::Symlink { target } => {
                        make_parent(&to)?;
                        std::os::unix::fs::symlink(target.as_str(), &to)?;
                    }
                    Entry::File { .. } => {
                        make_parent(&to)?;
                        let mut file = scanner.open_file(path).map_err(io::Error::other)?;
                        io::copy(&mut file, &mut fs::File::create_new(&to)?)?;
                    }
                }
            }
            Ok(())
        };
        copied().map_err(|error| cannot("copy the project", &error))?;
        let python = scan
            .manifest
            .entries()
            .iter()
            .map(|(path, _)| path.as_str());
        let mut python: Vec<&str> = python.filter(|path| path.ends_with(".py")).collect();
        python.sort_by_key(|path| (path.ends_with("__init__.py"), path.len()));
        let any = || {
            scan.manifest
                .entries()
                .first()
                .map(|(path, _)| path.as_str())
        };
        let edited = python.first().copied().or_else(any).ok_or_else(|| {
            CommandError::environment(format!("`{}` holds nothing to publish", from.display()))
        })?;
        let name = from
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            volume: slug(&name).unwrap_or_else(|| "demo".to_owned()),
            edited: edited.into(),
            target: find_target(&tree),
            tree,
        })
    }
}

/// Finds how the project is loaded: a `definitions.py` at its root, or in a package below it.
fn find_target(tree: &Path) -> Option<Target> {
    if tree.join("definitions.py").is_file() {
        return Some(Target::File("definitions.py".into()));
    }
    let text = fs::read_to_string(tree.join("pyproject.toml")).unwrap_or_default();
    let document: toml::Table = text.parse().unwrap_or_default();
    let dagster = document.get("tool").and_then(|tool| tool.get("dagster"));
    let named = dagster
        .and_then(|dagster| dagster.get("module_name"))
        .and_then(toml::Value::as_str);
    let below = |module: &str, folder: &str| {
        let path = tree.join(folder).join(module.replace('.', "/"));
        path.is_dir() || path.with_extension("py").is_file()
    };
    if let Some(module) = named {
        let folder = ["", "src"]
            .into_iter()
            .find(|folder| below(module, folder))?;
        return Some(Target::Module(module.to_owned(), folder.into()));
    }
    ["", "src"].into_iter().find_map(|folder| {
        let mut packages: Vec<PathBuf> = fs::read_dir(tree.join(folder))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("definitions.py").is_file())
            .collect();
        packages.sort();
        let package = packages.first()?.file_name()?.to_str()?;
        Some(Target::Module(
            format!("{package}.definitions"),
            folder.into(),
        ))
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    make_parent(path)?;
    fs::File::create(path)?.write_all(bytes)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn cannot(what: &str, error: &io::Error) -> CommandError {
    CommandError::environment(format!("cannot {what}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_leaves_out_what_is_ignored_and_finds_the_definitions() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("My Project");
        write(&from.join("src/shop/definitions.py"), b"defs = 1").unwrap();
        write(&from.join(".env"), b"SECRET=1").unwrap();
        let project = Project::copy(&from, dir.path().join("copy")).unwrap();
        assert!(project.tree.join("src/shop/definitions.py").is_file());
        assert!(!project.tree.join(".env").exists());
        assert_eq!(project.volume, "my-project");
        assert_eq!(
            project.target,
            Some(Target::Module("shop.definitions".to_owned(), "src".into()))
        );
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("empty");
        fs::create_dir(&from).unwrap();
        assert!(Project::copy(&from, dir.path().join("copy")).is_err());
    }
}
