//! Gathering: makes a manifest, and the lists of what is not in it, out of the tree that was seen.

use codevol_protocol::manifest::{Entry, Manifest, ManifestError};
use codevol_protocol::path::{LinkTarget, RelPath};

use super::dir;
use super::tree::{Dir, Node, SkipReason};

/// How many links that leave the tree only through others are told one by one.
const LINK_ROUNDS_MAX: usize = 1_000;

/// Something on disk that is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path; what a terminal should not see is escaped.
    pub path: String,
    /// Why.
    pub why: SkipReason,
}

/// What a tree comes to.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) entries: Vec<(RelPath, Entry)>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) ignored: Vec<(RelPath, bool)>,
    pub(super) unstable: Vec<RelPath>,
    pub(super) directories: Vec<RelPath>,
}

/// Lists what a tree holds.
pub(super) fn gather(tree: &Dir) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.dir(tree, None);
    gathered
}

impl Gathered {
    fn dir(&mut self, dir: &Dir, at: Option<&RelPath>) {
        for (name, node) in &dir.names {
            let bytes = dir::below(at, name);
            let path = match (node, RelPath::from_bytes(&bytes)) {
                (Node::Skipped(why), _) => {
                    let path = escape(&bytes);
                    self.skipped.push(Skipped { path, why: *why });
                    continue;
                }
                (_, Ok(path)) => path,
                // The one ignored name that is no path: codevol's own ignore file.
                (_, Err(_)) => continue,
            };
            match node {
                Node::Dir(dir) => {
                    self.directories.push(path.clone());
                    let before = self.entries.len();
                    self.dir(dir, Some(&path));
                    if self.entries.len() == before && dir.ignored_by.is_none() {
                        self.entries.push((path, Entry::Dir));
                    }
                }
                Node::File(known) => {
                    let entry = Entry::File {
                        blob: known.blob,
                        size: known.stat.size,
                        executable: known.stat.executable,
                    };
                    self.entries.push((path, entry));
                }
                Node::Link(target) if leaves_lexically(&path, target) => {
                    self.skip(&path, SkipReason::LinkLeaves);
                }
                Node::Link(target) => {
                    let target = target.clone();
                    self.entries.push((path, Entry::Symlink { target }));
                }
                Node::Ignored { is_dir } => self.ignored.push((path, *is_dir)),
                Node::Unread | Node::Unstable => self.unstable.push(path),
                Node::Skipped(_) => {}
            }
        }
    }

    /// Makes the manifest, without the links that leave the tree through other links.
    pub(super) fn manifest(&mut self) -> Result<Manifest, ManifestError> {
        let is_link = |(_, entry): &&(RelPath, Entry)| matches!(entry, Entry::Symlink { .. });
        let mut links: Vec<_> = self.entries.iter().filter(is_link).cloned().collect();
        let mut gone = Vec::new();
        for round in 0.. {
            // The manifest tells of the first such link only; without it others may stay inside.
            match Manifest::new(links.clone()) {
                Err(ManifestError::LinkLeaves(_)) if round >= LINK_ROUNDS_MAX => {
                    gone.extend(links.drain(..).map(|(path, _)| path));
                }
                Err(ManifestError::LinkLeaves(leaving)) => {
                    links.retain(|(path, _)| *path != leaving);
                    gone.push(leaving);
                }
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        gone.sort();
        for path in &gone {
            self.skip(path, SkipReason::LinkLeaves);
        }
        let is_gone = |path: &RelPath| gone.binary_search(path).is_ok();
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|(path, _)| !is_gone(path));
        Manifest::new(entries)
    }

    fn skip(&mut self, path: &RelPath, why: SkipReason) {
        let path = path.to_string();
        self.skipped.push(Skipped { path, why });
    }
}

/// Whether a link leaves the tree even if no other component of its target is a link.
fn leaves_lexically(link: &RelPath, target: &LinkTarget) -> bool {
    let mut depth = link.components().count() - 1;
    for component in target.as_str().split('/') {
        match component {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Writes a path so that no terminal obeys it.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}
