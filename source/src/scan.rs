//! The scan: what stands in the source tree right now, as a manifest.
//!
//! ```text
//! walk (looks at names, opens no file) -> read (hashes what changed) -> gather (manifest, lists)
//! ```
//! Everything is relative to a root descriptor that was opened once. A scan either succeeds as a
//! whole or changes nothing that a later one relies on: after an error the next scan is a full one.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use codevol_protocol::manifest::Manifest;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Fingerprint;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::fingerprint::fingerprints;
use crate::rules::{Rules, Verdict};

mod cache;
mod dir;
mod error;
mod gather;
mod partial;
mod read;
mod tree;
mod walk;
mod write;

use cache::Cache;
pub use error::ScanError;
pub use gather::Skipped;
use partial::{cover, refresh};
use tree::Dir;
pub use tree::{SkipReason, Special};
use walk::{Place, Walk};
pub use write::Unplaced;

/// Most skipped paths that a scan lists.
pub const SKIPPED_MAX: usize = 1_000;

/// Looks at one tree again and again.
#[derive(Debug)]
pub struct Scanner {
    path: PathBuf,
    root: OwnedFd,
    id: (u64, u64),
    rules: Arc<Rules>,
    cache: Cache,
    tree: Option<Dir>,
    /// The last scan failed half-way: the tree in memory may be part old, part new.
    torn: bool,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The tree.
    pub manifest: Manifest,
    /// What is on disk and cannot be carried: the first [`SKIPPED_MAX`].
    pub skipped: Vec<Skipped>,
    /// How many there are in all.
    pub skipped_count: usize,
    /// How many files and directories the rules leave out; what is in an ignored directory is not
    /// counted.
    pub ignored_count: usize,
    /// Files that changed each time while they were read. With one of these the manifest is no
    /// state that the tree ever had: report it, do not publish it.
    pub unstable: Vec<RelPath>,
    /// Empty files that were made or emptied a moment ago: whoever did that may be about to write.
    pub unwritten: Vec<RelPath>,
    /// The effective ignore rules, as the bytes of a blob.
    pub rules_blob: Vec<u8>,
    /// The dependency files.
    pub fingerprints: Vec<Fingerprint>,
    /// The directories that were walked, the root not among them: those to watch.
    pub directories: Vec<RelPath>,
    /// Whether the whole tree was looked at.
    pub whole: bool,
    /// How many directories were opened.
    pub opened: usize,
    /// How many files were read.
    pub read: usize,
}

/// Something that a rule leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file or directory.
    pub path: RelPath,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The rule and where it stands.
    pub verdict: Verdict,
}

impl Scanner {
    /// Opens the root, and keeps it open: whatever is put in its place later is noticed.
    ///
    /// # Errors
    /// When the root is no directory that can be opened, or a rule of the configuration is no
    /// pattern.
    pub fn open(
        root: &Path,
        config_ignore: &[String],
        cache_file: Option<&Path>,
    ) -> Result<Self, ScanError> {
        let io = |action: &'static str| {
            move |source: Errno| ScanError::Io {
                action,
                path: root.display().to_string(),
                source: source.into(),
            }
        };
        let fd = dir::open_root(root).map_err(io("open the tree"))?;
        let stat = dir::status(&fd).map_err(io("stat"))?.stat;
        let id = (stat.dev, stat.ino);
        Ok(Self {
            path: root.to_path_buf(),
            root: fd,
            id,
            rules: Arc::new(Rules::new(config_ignore)?),
            cache: Cache::load(cache_file, id),
            tree: None,
            torn: false,
        })
    }

    /// Whether another directory, link or mount stands where the root was, or nothing.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        matches!(self.check_root(), Err(ScanError::RootReplaced(_)))
    }

    /// Looks at the whole tree. Reads only files whose stat is another than before.
    ///
    /// # Errors
    /// When the root was replaced, the rules cannot be read, or a call fails.
    pub fn full(&mut self) -> Result<Scan, ScanError> {
        self.full_at(now_ns())
    }

    /// Looks at paths that may have changed, and below them, and takes the rest as it was seen.
    /// Without a good scan before it, looks at the whole tree.
    ///
    /// # Errors
    /// As [`Scanner::full`].
    pub fn partial(&mut self, dirty: &BTreeSet<RelPath>) -> Result<Scan, ScanError> {
        self.partial_at(dirty, now_ns())
    }

    /// Opens a file of the tree for reading: never through a link, never waiting for a writer.
    ///
    /// # Errors
    /// When there is no regular file at the path, or it cannot be opened.
    pub fn open_file(&self, path: &RelPath) -> Result<File, ScanError> {
        let file = match dir::open_file(&self.root, path.as_str().as_bytes()) {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::NXIO) => return Err(ScanError::NotAFile(path.clone())),
            Err(error) => return Err(ScanError::io("open", Some(path), error)),
        };
        let status = dir::status(&file);
        match status.map_err(|error| ScanError::io("stat", Some(path), error))? {
            status if status.kind == FileType::RegularFile => Ok(file),
            _ => Err(ScanError::NotAFile(path.clone())),
        }
    }

    /// Returns the rules as the last scan saw them.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Returns what the last scan left out by a rule; an ignored directory stands for its contents.
    #[must_use]
    pub fn ignored(&self) -> Vec<Ignored> {
        let found = self.tree.as_ref().map(gather::gather);
        let ignored = found.map_or_else(Vec::new, |found| found.ignored);
        let why = |(path, is_dir): (RelPath, bool)| Ignored {
            verdict: self.rules.verdict(&path, is_dir),
            path,
            is_dir,
        };
        ignored.into_iter().map(why).collect()
    }

    fn full_at(&mut self, now_ns: i64) -> Result<Scan, ScanError> {
        let (unread, opened) = self.walk_all()?;
        let scan = self.finish((unread, opened), now_ns, true)?;
        if scan.read > 0 {
            self.cache.save(self.tree.get_or_insert_default());
        }
        self.cache.forget();
        Ok(scan)
    }

    fn partial_at(&mut self, dirty: &BTreeSet<RelPath>, now_ns: i64) -> Result<Scan, ScanError> {
        let Some(cover) = cover(dirty).filter(|_| self.tree.is_some() && !self.torn) else {
            return self.full_at(now_ns);
        };
        self.check_root()?;
        self.torn = true;
        let tree = self.tree.get_or_insert_default();
        let mut walk = Walk::new(self.id.0, &mut self.rules, &self.cache);
        for path in cover {
            refresh(&mut walk, &self.root, tree, path)?;
        }
        let walked = (walk.unread, walk.opened);
        self.finish(walked, now_ns, false)
    }

    fn walk_all(&mut self) -> Result<(Vec<RelPath>, usize), ScanError> {
        self.check_root()?;
        // A scan that failed may have taken in new rules and kept verdicts by the old ones.
        let same_rules = !std::mem::replace(&mut self.torn, true);
        let mut walk = Walk::new(self.id.0, &mut self.rules, &self.cache);
        // A descriptor of its own: the position in a directory belongs to the open file.
        let root = dir::open_dir(&self.root, b".")
            .map_err(|error| ScanError::io("open directory", None, error))?;
        let place = Place {
            dir: None,
            fd: root.as_fd(),
            ignored_by: None,
            same_rules,
        };
        let tree = walk.dir(place, self.tree.as_ref())?;
        let walked = (walk.unread, walk.opened);
        match tree {
            Some(tree) => self.tree = Some(tree),
            None => return Err(ScanError::RootReplaced(self.path.clone())),
        }
        Ok(walked)
    }

    fn finish(
        &mut self,
        (unread, opened): (Vec<RelPath>, usize),
        now_ns: i64,
        whole: bool,
    ) -> Result<Scan, ScanError> {
        let tree = self.tree.get_or_insert_default();
        let nodes = read::read_all(self.root.as_fd(), &unread, now_ns)?;
        let mut unwritten = Vec::new();
        for (path, node) in unread.iter().zip(nodes) {
            if node
                .as_ref()
                .is_some_and(|node| node.may_be_unwritten(now_ns))
            {
                unwritten.push(path.clone());
            }
            tree.set(path.parent().as_ref(), path.file_name().as_bytes(), node);
        }
        let is_walked = |dir: &str| match dir.parse::<RelPath>() {
            Ok(path) => tree.dir(Some(&path)).is_some(),
            Err(_) => dir.is_empty(),
        };
        // The watcher shares the rules; they are copied only where they change.
        if !self.rules.directories().all(is_walked) {
            Arc::make_mut(&mut self.rules).retain(is_walked);
        }
        let mut found = gather::gather(tree);
        let manifest = found.manifest()?;
        let skipped_count = found.skipped.len();
        found.skipped.truncate(SKIPPED_MAX);
        self.torn = false;
        Ok(Scan {
            fingerprints: fingerprints(&manifest),
            manifest,
            skipped: found.skipped,
            skipped_count,
            ignored_count: found.ignored.len(),
            unstable: found.unstable,
            unwritten,
            rules_blob: self.rules.canonical_text(),
            directories: found.directories,
            whole,
            opened,
            read: unread.len(),
        })
    }

    fn check_root(&self) -> Result<(), ScanError> {
        let there = rustix::fs::stat(&self.path).map(dir::Status::from);
        match there.map(|status| (status.stat.dev, status.stat.ino)) {
            Ok(id) if id == self.id => Ok(()),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(ScanError::RootReplaced(self.path.clone()))
            }
            Err(error) => Err(ScanError::io("stat", None, error)),
        }
    }
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
