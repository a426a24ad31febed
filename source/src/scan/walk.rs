//! The walk: looks at every name of a directory and below, and reads no file but the ignore files.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use codevol_protocol::limits::{ENTRIES_MAX, FILE_BYTES_MAX, IGNORE_RULES_BYTES_MAX};
use codevol_protocol::manifest::ManifestError;
use codevol_protocol::path::{InvalidRelPath, LinkTarget, RelPath};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::ScanError;
use super::cache::Cache;
use super::dir::{self, Status};
use super::tree::{Dir, Known, Node, SkipReason, Special};
use crate::rules::{CODEVOL_IGNORE, GIT_IGNORE, Rank, RuleFiles, Rules, RulesError};

/// One walk, or several partial ones that make one scan.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    /// The device of the root.
    device: u64,
    rules: &'a mut Arc<Rules>,
    /// Files that an earlier run of the source knew.
    cache: &'a Cache,
    /// The files that must be read.
    pub(super) unread: Vec<RelPath>,
    /// How many directories were opened.
    pub(super) opened: usize,
    /// How many names were looked at, ignored ones not counted.
    seen: usize,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The directory; nothing for the root.
    pub(super) dir: Option<&'a RelPath>,
    pub(super) fd: BorrowedFd<'a>,
    /// The rule that ignores the directory.
    pub(super) ignored_by: Option<Rank>,
    /// Whether what the rules said before still holds here.
    pub(super) same_rules: bool,
}

impl<'a> Walk<'a> {
    /// Returns a walk that has seen nothing.
    pub(super) const fn new(device: u64, rules: &'a mut Arc<Rules>, cache: &'a Cache) -> Self {
        Self {
            device,
            rules,
            cache,
            unread: Vec::new(),
            opened: 0,
            seen: 0,
        }
    }

    /// Walks the directory at `place`; nothing where it is gone.
    pub(super) fn dir(
        &mut self,
        mut place: Place<'_>,
        old: Option<&Dir>,
    ) -> Result<Option<Dir>, ScanError> {
        self.opened += 1;
        let names = match dir::list(place.fd) {
            Ok(names) => names,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(ScanError::io("list directory", place.dir, error)),
        };
        place.same_rules &= self.enter(place, &names)?;
        let mut walked = Dir {
            ignored_by: place.ignored_by,
            names: BTreeMap::new(),
        };
        for (name, kind) in names {
            let before = old.and_then(|dir| dir.names.get(&name));
            if let Some(node) = self.name(place, (&name, kind), before)? {
                walked.names.insert(name, node);
            }
        }
        Ok(Some(walked))
    }

    /// Looks at one name of a directory; nothing where it is gone.
    pub(super) fn name(
        &mut self,
        place: Place<'_>,
        (name, kind): (&[u8], FileType),
        old: Option<&Node>,
    ) -> Result<Option<Node>, ScanError> {
        // A name that is a way would lead elsewhere.
        if name.is_empty() || name.contains(&b'/') {
            return Ok(Some(Node::Skipped(SkipReason::NoName)));
        }
        let bytes = dir::below(place.dir, name);
        let path = match RelPath::from_bytes(&bytes) {
            Ok(path) => path,
            // Its own rules, which travel with each release as a blob of their own.
            Err(InvalidRelPath::Reserved) if bytes == CODEVOL_IGNORE.as_bytes() => {
                return Ok(Some(Node::Ignored { is_dir: false }));
            }
            Err(reason) => return Ok(Some(Node::Skipped(SkipReason::Name(reason)))),
        };
        // What is ignored costs nothing, not even a stat, where the directory tells its type.
        let was_ignored = matches!(old, Some(Node::Ignored { is_dir: false }));
        let is_plain = kind != FileType::Directory && kind != FileType::Unknown;
        let is_known = kind == FileType::Directory || (is_plain && was_ignored && place.same_rules);
        let status = (!is_known).then(|| dir::status_at(place.fd, name));
        let status = match status {
            None => None,
            Some(Ok(status)) => Some(status),
            Some(Err(Errno::NOENT)) => return Ok(None),
            Some(Err(error)) => return Err(ScanError::io("stat", Some(&path), error)),
        };
        let is_dir = status.map_or(kind, |status| status.kind) == FileType::Directory;
        let ignored_by = match old {
            Some(Node::Ignored { is_dir: before }) if place.same_rules && *before == is_dir => {
                return Ok(Some(Node::Ignored { is_dir }));
            }
            Some(Node::Dir(dir)) if place.same_rules && is_dir => dir.ignored_by,
            Some(Node::File(_) | Node::Link(_)) if place.same_rules && !is_dir => None,
            Some(_) | None => self
                .rules
                .ignored_by(place.ignored_by, path.as_str(), is_dir),
        };
        if let Some(rank) = ignored_by
            && !(is_dir && self.rules.must_walk(path.as_str(), rank))
        {
            return Ok(Some(Node::Ignored { is_dir }));
        }
        self.count()?;
        match status {
            Some(status) if !is_dir => self.leaf(place, (name, &path), status, old),
            Some(_) | None => self.descend(place, (name, &path), ignored_by, old),
        }
    }

    fn descend(
        &mut self,
        place: Place<'_>,
        (name, path): (&[u8], &RelPath),
        ignored_by: Option<Rank>,
        old: Option<&Node>,
    ) -> Result<Option<Node>, ScanError> {
        let Some(fd) = self.open(place.fd, name, path)? else {
            return Ok(None);
        };
        let fd = match fd {
            Ok(fd) => fd,
            Err(reason) => return Ok(Some(Node::Skipped(reason))),
        };
        let old = match old {
            Some(Node::Dir(dir)) => Some(dir),
            Some(_) | None => None,
        };
        let place = Place {
            dir: Some(path),
            fd: fd.as_fd(),
            ignored_by,
            same_rules: place.same_rules,
        };
        Ok(self.dir(place, old)?.map(Node::Dir))
    }

    /// Opens a directory; nothing where it is gone, a reason where it is not to be walked.
    fn open(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &RelPath,
    ) -> Result<Option<Result<OwnedFd, SkipReason>>, ScanError> {
        match dir::open_dir(at, name) {
            Ok(fd) => match dir::status(&fd) {
                Ok(status) if status.stat.dev != self.device => {
                    Ok(Some(Err(SkipReason::OtherFileSystem)))
                }
                Ok(_) => Ok(Some(Ok(fd))),
                Err(error) => Err(ScanError::io("stat", Some(path), error)),
            },
            Err(Errno::XDEV) => Ok(Some(Err(SkipReason::OtherFileSystem))),
            Err(Errno::ACCESS) => Ok(Some(Err(SkipReason::Unreadable))),
            // It was a directory a moment ago; an event or the next scan sees what it is now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(ScanError::io("open directory", Some(path), error)),
        }
    }

    fn leaf(
        &mut self,
        place: Place<'_>,
        (name, path): (&[u8], &RelPath),
        status: Status,
        old: Option<&Node>,
    ) -> Result<Option<Node>, ScanError> {
        let special = match status.kind {
            FileType::RegularFile => return Ok(Some(self.file(path, status, old))),
            FileType::Symlink => return link(place, name, path),
            FileType::Fifo => Special::Fifo,
            FileType::Socket => Special::Socket,
            FileType::Directory
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Special::Device,
        };
        Ok(Some(Node::Skipped(SkipReason::Special(special))))
    }

    fn file(&mut self, path: &RelPath, status: Status, old: Option<&Node>) -> Node {
        if status.stat.size > FILE_BYTES_MAX {
            return Node::Skipped(SkipReason::TooLarge);
        }
        let known: Option<Known> = match old {
            Some(Node::File(known)) => Some(*known),
            Some(_) | None => self.cache.known(path),
        };
        match known.filter(|known| known.stat == status.stat && !known.racy) {
            Some(known) => Node::File(known),
            None => {
                self.unread.push(path.clone());
                Node::Unread
            }
        }
    }

    /// Reads what bears on the rules; says whether they are the same as before.
    fn enter(
        &mut self,
        place: Place<'_>,
        names: &[(Vec<u8>, FileType)],
    ) -> Result<bool, ScanError> {
        let mut files = RuleFiles::default();
        // Nothing in an ignored directory says what is carried.
        let names = if place.ignored_by.is_none() {
            names
        } else {
            &[]
        };
        for (name, _) in names {
            files.see(name);
            if name == GIT_IGNORE.as_bytes() {
                files.gitignore = read_rules(place, name)?;
            }
            if place.dir.is_none() && name == CODEVOL_IGNORE.as_bytes() {
                files.codevolignore = read_rules(place, name)?;
            }
        }
        let dir = place.dir.map_or("", RelPath::as_str);
        if self.rules.knows(dir, &files) {
            return Ok(true);
        }
        Arc::make_mut(self.rules).enter(dir, files)?;
        Ok(false)
    }

    fn count(&mut self) -> Result<(), ScanError> {
        self.seen += 1;
        // Implied directories are no entries, but something has to bound the walk.
        if self.seen > 2 * ENTRIES_MAX {
            return Err(ManifestError::TooMany(self.seen).into());
        }
        Ok(())
    }
}

fn link(place: Place<'_>, name: &[u8], path: &RelPath) -> Result<Option<Node>, ScanError> {
    let target = match dir::target(place.fd, name) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(ScanError::io("read link", Some(path), error)),
    };
    let Ok(text) = target.to_str() else {
        return Ok(Some(Node::Skipped(SkipReason::TargetNotUtf8)));
    };
    Ok(Some(match text.parse::<LinkTarget>() {
        Ok(target) => Node::Link(target),
        Err(reason) => Node::Skipped(SkipReason::Target(reason)),
    }))
}

/// Reads an ignore file; nothing where it is gone.
fn read_rules(place: Place<'_>, name: &[u8]) -> Result<Option<String>, RulesError> {
    let unreadable = |source| RulesError::Unreadable {
        path: String::from_utf8_lossy(&dir::below(place.dir, name)).into_owned(),
        source,
    };
    let file = match dir::open_file(place.fd, name) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(unreadable(error.into())),
    };
    let status = dir::status(&file).map_err(|error| unreadable(error.into()))?;
    if status.kind != FileType::RegularFile {
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    let mut text = String::new();
    file.take(IGNORE_RULES_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > IGNORE_RULES_BYTES_MAX {
        return Err(RulesError::TooLong);
    }
    Ok(Some(text))
}
