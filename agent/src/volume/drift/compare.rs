//! Comparing a tree with its manifest: entries, the modes of directories, and what the manifest does
//! not know.

use std::io::{self, Read as _};

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Kind, Stat};
use rustix::io::Errno;

use super::super::check::no_file;
use super::super::cursor::Cursor;
use super::super::land::mode;
use super::super::pace::Pace;
use super::super::rules::{Rules, admits};
use super::super::spare::directories;
use super::{DIR_MODE, DriftKind, Found, SEEN_MAX, Seen, TOP};

const CHUNK_BYTES: usize = 1 << 20;

/// Whether a tree is what its manifest says, and holds nothing else. Names that its rules leave out
/// are not expected where this is asked: nothing ran in it yet.
pub(in crate::volume) fn matches(dir: &Dir, manifest: &Manifest) -> Result<bool, DirError> {
    let looking = Looking {
        dir,
        manifest,
        rules: None,
        strict: true,
    };
    let found = looking.below("", &mut Pace::free(), &mut Seen::default())?;
    Ok(found.is_some_and(|found| found.is_empty()))
}

/// Whether every entry of a manifest stands in a tree, whatever else does.
pub(in crate::volume) fn holds_all(dir: &Dir, manifest: &Manifest) -> Result<bool, DirError> {
    let (pace, seen) = (&mut Pace::free(), &mut Seen::default());
    let mut cursor = Cursor::new(dir);
    for (path, entry) in manifest.entries() {
        if differs(&mut cursor, (path, entry), pace, seen)? != Some(None) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A look at one tree.
pub(super) struct Looking<'a> {
    dir: &'a Dir,
    manifest: &'a Manifest,
    rules: Option<&'a Rules>,
    /// Whether what cannot be told is drift.
    strict: bool,
}

impl<'a> Looking<'a> {
    pub(super) const fn new(
        dir: &'a Dir,
        manifest: &'a Manifest,
        rules: Option<&'a Rules>,
    ) -> Self {
        Self {
            dir,
            manifest,
            rules,
            strict: false,
        }
    }

    /// Compares a path and all below it; all of the tree where it is empty.
    pub(super) fn below(
        &self,
        top: &str,
        pace: &mut Pace,
        seen: &mut Seen,
    ) -> Result<Option<Found>, DirError> {
        let mut found = Found::default();
        let mut cursor = Cursor::new(self.dir);
        for (path, entry) in self.entries_below(top) {
            match differs(&mut cursor, (path, entry), pace, seen)? {
                Some(Some(kind)) => found.push(path.as_str(), kind),
                Some(None) => {}
                None => return Ok(None),
            }
        }
        // What is about to be built anew is not refused for a directory's mode.
        if !self.strict {
            self.modes(top, &mut found)?;
        }
        if !self.foreign(top, &mut found, pace)? {
            return Ok(None);
        }
        Ok(Some(found.sorted()))
    }

    /// Returns the path that can be judged of the one that may have changed: what lies in something
    /// foreign, or below what stands in the way of a directory, is judged by that.
    pub(super) fn judged<'p>(&self, path: &'p str) -> Result<&'p str, DirError> {
        let ends = path.match_indices('/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let above = path.get(..end).unwrap_or(path);
            let is_dir = match self.dir.stat(above) {
                Ok(stat) => stat.is_some_and(|stat| stat.kind == Kind::Dir),
                Err(error) => {
                    no_file::<()>(error)?;
                    false
                }
            };
            match stands_for(self.manifest, above) {
                Known::Above if is_dir => {}
                Known::Above | Known::Entry | Known::Nothing => return Ok(above),
            }
        }
        Ok(path)
    }

    fn entries_below(&self, top: &str) -> &'a [(RelPath, Entry)] {
        let entries = self.manifest.entries();
        if top.is_empty() {
            return entries;
        }
        let Ok(top) = top.parse::<RelPath>() else {
            return &[];
        };
        let first = entries.partition_point(|(path, _)| *path < top);
        let rest = entries.get(first..).unwrap_or_default();
        let end = rest.partition_point(|(path, _)| *path == top || path.is_below(&top));
        rest.get(..end).unwrap_or_default()
    }

    /// Compares the modes of directories; that of the release's own where all of it is compared.
    fn modes(&self, top: &str, found: &mut Found) -> Result<(), DirError> {
        if top.is_empty() && self.dir.stat_self()?.mode != DIR_MODE {
            found.push(TOP, DriftKind::Changed);
        }
        for path in directories(self.manifest) {
            let within = top.is_empty()
                || path.as_str() == top
                || path
                    .as_str()
                    .strip_prefix(top)
                    .is_some_and(|rest| rest.starts_with('/'));
            if !within {
                continue;
            }
            let stat = match self.dir.stat(path.as_str()) {
                Ok(stat) => stat,
                Err(error) if error.is_permission_denied() => None,
                Err(error) => no_file(error)?,
            };
            // One of another kind is told by what it hides.
            if stat.is_some_and(|stat| stat.kind == Kind::Dir && stat.mode != DIR_MODE) {
                found.push(path.as_str(), DriftKind::Changed);
            }
        }
        Ok(())
    }

    /// Finds what the manifest does not know. What lies in a foreign directory is not listed again.
    fn foreign(&self, top: &str, found: &mut Found, pace: &mut Pace) -> Result<bool, DirError> {
        let mut todo = vec![top.to_owned()];
        if !top.is_empty() {
            match stands_for(self.manifest, top) {
                Known::Entry => return Ok(true),
                Known::Above => {}
                Known::Nothing => {
                    todo.clear();
                }
            }
            let stat = match self.dir.stat(top) {
                Ok(stat) => stat,
                Err(error) => no_file(error)?,
            };
            if let Some(stat) = stat.filter(|stat| todo.is_empty() || stat.kind != Kind::Dir) {
                self.note(top, stat.kind, found);
                todo.clear();
            }
        }
        while let Some(at) = todo.pop() {
            let below = if at.is_empty() {
                self.dir.try_clone()
            } else {
                self.dir.open_dir(&at)
            };
            let entries = match below.and_then(|dir| dir.entries()) {
                Ok(entries) => entries,
                Err(error) if error.is_permission_denied() => continue,
                Err(error) => {
                    no_file::<()>(error)?;
                    continue;
                }
            };
            for (name, kind) in entries {
                let name = name.to_string_lossy();
                let path = if at.is_empty() {
                    name.into_owned()
                } else {
                    format!("{at}/{name}")
                };
                match stands_for(self.manifest, &path) {
                    Known::Entry => {}
                    Known::Above if kind == Kind::Dir => todo.push(path),
                    Known::Above | Known::Nothing => self.note(&path, kind, found),
                }
            }
            if !pace.hashed(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note(&self, path: &str, kind: Kind, found: &mut Found) {
        let admitted = admits(self.rules, path, kind == Kind::Dir);
        if admitted == Some(false) || (self.strict && admitted.is_none()) {
            found.push(path, DriftKind::Foreign);
        }
    }
}

/// Returns how an entry differs, where it does; nothing where the look was stopped.
fn differs(
    cursor: &mut Cursor<'_>,
    (path, entry): (&RelPath, &Entry),
    pace: &mut Pace,
    seen: &mut Seen,
) -> Result<Option<Option<DriftKind>>, DirError> {
    if !pace.file() {
        return Ok(None);
    }
    let (dir, name) = match cursor.seek(path) {
        Ok(found) => found,
        Err(error) if error.is_permission_denied() => return Ok(Some(Some(DriftKind::Changed))),
        Err(error) => {
            no_file::<()>(error)?;
            return Ok(Some(Some(DriftKind::Missing)));
        }
    };
    let Some(stat) = dir.stat(name)? else {
        return Ok(Some(Some(DriftKind::Missing)));
    };
    let same = match entry {
        Entry::File { blob, size, .. } => {
            let plain = stat.kind == Kind::File && stat.size == *size && stat.mode == mode(entry);
            let target = (*blob, &stat);
            match plain.then(|| holds(dir, name, target, (&mut *pace, seen))) {
                Some(held) => match held? {
                    Some(held) => held,
                    None => return Ok(None),
                },
                None => false,
            }
        }
        Entry::Symlink { target } => {
            stat.kind == Kind::Symlink && reads(dir, name, target.as_str())
        }
        Entry::Dir => stat.kind == Kind::Dir,
    };
    Ok(Some((!same).then_some(DriftKind::Changed)))
}

/// A link whose target is no text is no link of ours.
fn reads(dir: &Dir, name: &str, target: &str) -> bool {
    dir.read_link(name).is_ok_and(|found| found == target)
}

/// Whether a file's bytes are a blob's; nothing where the look was stopped. A file that cannot be read
/// does not hold them.
pub(in crate::volume) fn holds(
    dir: &Dir,
    name: &str,
    (blob, stat): (BlobId, &Stat),
    (pace, seen): (&mut Pace, &mut Seen),
) -> Result<Option<bool>, DirError> {
    let inode = (stat.dev, stat.ino);
    if seen.0.get(&inode) == Some(&blob) {
        return Ok(Some(true));
    }
    let mut file = match dir.open_file(name) {
        Ok(file) => file,
        Err(error) if error.is_permission_denied() => return Ok(Some(false)),
        Err(error) => {
            no_file::<()>(error)?;
            return Ok(Some(false));
        }
    };
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = stat.size.saturating_add(1);
    while left > 0 {
        let room = usize::try_from(left)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let read = match file.read(chunk.get_mut(..room).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A place of the disk that cannot be read any more: damage, and no failure of ours.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                return Ok(Some(false));
            }
            Err(source) => {
                return Err(DirError::Io {
                    action: "read",
                    path: name.to_owned(),
                    source,
                });
            }
        };
        hasher.update(chunk.get(..read).unwrap_or_default());
        left = left.saturating_sub(read as u64);
        if !pace.hashed(read as u64) {
            return Ok(None);
        }
    }
    let same = BlobId::from(hasher.finalize()) == blob;
    if same && seen.0.len() < SEEN_MAX {
        seen.0.insert(inode, blob);
    }
    Ok(Some(same))
}

enum Known {
    /// An entry.
    Entry,
    /// A directory that holds entries.
    Above,
    Nothing,
}

fn stands_for(manifest: &Manifest, path: &str) -> Known {
    let Ok(path) = path.parse::<RelPath>() else {
        return Known::Nothing;
    };
    let entries = manifest.entries();
    let first = entries.partition_point(|(before, _)| *before < path);
    match entries.get(first) {
        // An empty directory of the manifest is looked into as well: it is to stay empty.
        Some((found, Entry::Dir)) if *found == path => Known::Above,
        Some((found, _)) if *found == path => Known::Entry,
        Some((found, _)) if found.is_below(&path) => Known::Above,
        Some(_) | None => Known::Nothing,
    }
}
