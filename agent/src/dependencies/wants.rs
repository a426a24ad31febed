//! What a release asks of a Python environment, out of its requirement files. They are a stranger's
//! text: each is read from the release's own directory, of which nothing leads away, and only so much.

use std::collections::{BTreeSet, VecDeque};

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_store::dir::Dir;

use super::lock::{self, Lock};
use super::project::{self, Project};
use super::requirement::Requirement;
use super::requirements::{self, Line};
use super::version::{Invalid, Specifiers};
use crate::volume::Opened;

/// What a release asks for.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Packages that must be there.
    pub(super) wants: Vec<Want>,
    /// What the versions of these must be besides.
    pub(super) bounds: Vec<Want>,
    /// What Python must be.
    pub(super) pythons: Vec<(Specifiers, Source)>,
    /// Exact versions.
    pub(super) locks: Vec<(Lock, Source)>,
    /// What cannot be judged, with the reason.
    pub(super) unjudged: Vec<String>,
    /// What was read, or looked for: the same blobs ask for the same.
    read_from: Vec<(RelPath, Option<BlobId>)>,
}

/// One requirement, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) requirement: Requirement,
    pub(super) source: Source,
}

/// A place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) line: Option<u32>,
}

/// A release's directory and what lies in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) dir: &'a Dir,
    pub(super) manifest: &'a Manifest,
}

impl<'a> Tree<'a> {
    pub(super) fn of(opened: &'a Opened) -> Self {
        Self {
            dir: &opened.dir,
            manifest: opened.held.manifest(),
        }
    }
}

/// The files at the root that are read where nobody names others.
const USUAL: [&str; 4] = [
    "requirements.txt",
    "pyproject.toml",
    "uv.lock",
    "poetry.lock",
];
const PROJECT: &str = "pyproject.toml";
const FILES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;
const LOCK_BYTES_MAX: u64 = 8 << 20;
const WANTS_MAX: usize = 20_000;
const UNJUDGED_MAX: usize = 1_000;

impl Wants {
    /// Reads the files that are named, or else the usual ones.
    pub(super) fn read(tree: Tree<'_>, named: &[RelPath]) -> Self {
        let mut wants = Self::default();
        let usual = USUAL.iter().filter_map(|name| name.parse().ok());
        let all: Vec<RelPath> = if named.is_empty() {
            usual.collect()
        } else {
            named.to_vec()
        };
        for path in &all {
            let is_there = matches!(tree.manifest.entry(path), Some(Entry::File { .. }));
            if is_there {
                wants.file(tree, path);
            } else {
                wants.read_from.push((path.clone(), None));
                if !named.is_empty() {
                    wants.unjudged(path.as_str(), "it is not in this release");
                }
            }
        }
        wants
    }

    /// Whether a release with this manifest asks for the same.
    pub(super) fn are_of(&self, manifest: &Manifest) -> bool {
        let blob = |path| manifest.entry(path).and_then(Entry::blob);
        let mut files = self.read_from.iter();
        files.all(|(path, read)| blob(path) == *read)
    }

    fn file(&mut self, tree: Tree<'_>, path: &RelPath) {
        match path.file_name() {
            PROJECT => self.project(tree, path),
            "uv.lock" => self.lock(tree, path, lock::uv),
            "poetry.lock" => {
                let project = self.beside_lock(tree, path);
                self.lock(tree, path, |text| lock::poetry(text, &project));
            }
            _ => self.requirements(tree, path),
        }
    }

    /// Reads the project that a lock file is of; an empty one where that cannot be read, which is said.
    fn beside_lock(&mut self, tree: Tree<'_>, path: &RelPath) -> Project {
        let Some(path) = beside(path, PROJECT) else {
            return Project::default();
        };
        let Some(text) = self.text(tree, &path) else {
            return Project::default();
        };
        project::read(&text).unwrap_or_else(|Invalid| {
            self.unjudged(path.as_str(), NOT_READ);
            Project::default()
        })
    }

    /// Reads a requirements file, and those that it includes.
    fn requirements(&mut self, tree: Tree<'_>, path: &RelPath) {
        let mut todo = VecDeque::from([(path.clone(), false)]);
        let mut seen = BTreeSet::new();
        while let Some((path, is_bounds)) = todo.pop_front() {
            if !seen.insert((path.clone(), is_bounds)) {
                continue;
            }
            if seen.len() > FILES_MAX {
                self.unjudged(path.as_str(), "too many files are included");
                return;
            }
            let Some(text) = self.text(tree, &path) else {
                continue;
            };
            for (line, said) in requirements::lines(&text) {
                let source = Source {
                    file: path.to_string(),
                    line: Some(line),
                };
                match said {
                    Line::Wants(requirement) => self.want(*requirement, source, is_bounds),
                    Line::Unjudged(why) => self.unjudged(&source.to_string(), why),
                    Line::Includes(file) => match beside(&path, &file) {
                        Some(file) => todo.push_back((file, is_bounds)),
                        None => self.unjudged(&source.to_string(), OUTSIDE),
                    },
                    Line::Constrains(file) => match beside(&path, &file) {
                        Some(file) => todo.push_back((file, true)),
                        None => self.unjudged(&source.to_string(), OUTSIDE),
                    },
                }
            }
        }
    }

    fn want(&mut self, requirement: Requirement, source: Source, is_bound: bool) {
        let list = if is_bound {
            &mut self.bounds
        } else {
            &mut self.wants
        };
        if list.len() < WANTS_MAX {
            list.push(Want {
                requirement,
                source,
            });
        } else {
            self.unjudged(&source.to_string(), "there are too many requirements");
        }
    }

    fn project(&mut self, tree: Tree<'_>, path: &RelPath) {
        let Some(text) = self.text(tree, path) else {
            return;
        };
        let source = Source {
            file: path.to_string(),
            line: None,
        };
        let Ok(project) = project::read(&text) else {
            return self.unjudged(path.as_str(), NOT_READ);
        };
        let Project {
            dependencies,
            python,
            unjudged,
            poetry,
        } = project;
        for why in unjudged {
            self.unjudged(path.as_str(), &why);
        }
        if !poetry.is_empty() && !has_file(tree, beside(path, "poetry.lock").as_ref()) {
            let why = "Poetry's own rules are judged by a `poetry.lock`, and there is none";
            self.unjudged(path.as_str(), why);
        }
        self.pythons
            .extend(python.map(|python| (python, source.clone())));
        for requirement in dependencies {
            self.want(requirement, source.clone(), false);
        }
    }

    fn lock(
        &mut self,
        tree: Tree<'_>,
        path: &RelPath,
        read: impl FnOnce(&str) -> Result<Lock, Invalid>,
    ) {
        let Some(text) = self.text(tree, path) else {
            return;
        };
        match read(&text) {
            Ok(lock) => {
                let file = path.to_string();
                self.locks.push((lock, Source { file, line: None }));
            }
            Err(Invalid) => self.unjudged(path.as_str(), NOT_READ),
        }
    }

    fn text(&mut self, tree: Tree<'_>, path: &RelPath) -> Option<String> {
        let entry = tree.manifest.entry(path);
        let blob = entry.and_then(Entry::blob);
        if !self.read_from.iter().any(|(known, _)| known == path) {
            self.read_from.push((path.clone(), blob));
        }
        let bytes_max = if path.file_name().ends_with(".lock") {
            LOCK_BYTES_MAX
        } else {
            FILE_BYTES_MAX
        };
        let read = match entry {
            Some(Entry::File { size, .. }) if *size > bytes_max => Err("it is too long"),
            Some(Entry::File { .. }) => match tree.dir.read(path.as_str(), bytes_max) {
                Ok(bytes) => String::from_utf8(bytes).or(Err("it is not UTF-8")),
                Err(_) => Err("it cannot be read on this host"),
            },
            Some(Entry::Symlink { .. } | Entry::Dir) | None => Err("it is no file of this release"),
        };
        match read {
            Ok(text) => Some(text.trim_start_matches('\u{feff}').to_owned()),
            Err(why) => {
                self.unjudged(path.as_str(), why);
                None
            }
        }
    }

    fn unjudged(&mut self, what: &str, why: &str) {
        let said = format!("{what}: {why}");
        if self.unjudged.len() < UNJUDGED_MAX && !self.unjudged.contains(&said) {
            self.unjudged.push(said);
        }
    }
}

const OUTSIDE: &str = "it includes what does not lie in the release";
const NOT_READ: &str = "it cannot be read as what its name says";

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

fn has_file(tree: Tree<'_>, path: Option<&RelPath>) -> bool {
    let entry = path.and_then(|path| tree.manifest.entry(path));
    entry.is_some_and(|entry| entry.blob().is_some())
}

/// Returns the file that another one names, relative to it; nothing where that leaves the tree.
fn beside(file: &RelPath, named: &str) -> Option<RelPath> {
    if named.starts_with('/') || named.contains("://") {
        return None;
    }
    let mut components: Vec<&str> = file.components().collect();
    components.pop();
    for component in named.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    components.join("/").parse().ok()
}

#[cfg(test)]
mod tests;
