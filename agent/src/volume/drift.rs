//! Drift: what on the disk is not what the release says.

use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Kind};

use super::Root;
use super::check::{Stamp, hash, no_file};
use super::cursor::Cursor;
use super::land::mode;
use super::marker::MARKER;

/// How much drift is reported for one release; more than that is said by the count alone.
const DRIFT_MAX: usize = 1_000;

/// One path that is not as the release says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The path, as text: a foreign name need not be a path of a tree.
    pub path: String,
    /// How it differs.
    pub kind: DriftKind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// Other bytes, another mode, another kind of thing.
    Changed,
    /// Nothing stands there.
    Missing,
    /// The release knows nothing of it.
    Foreign,
}

impl Root {
    /// Compares a held release with what stands on the disk: with `deep` by re-hashing every file,
    /// else by stat alone where a stat was recorded. Foreign names that `ignored` admits are passed
    /// over, and what Python writes beside its modules.
    ///
    /// # Errors
    /// When the release is not held or the disk fails.
    pub fn drift(
        &self,
        id: ReleaseId,
        deep: bool,
        ignored: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Drift>, DirError> {
        let Some(held) = self.held.get(&id) else {
            return Ok(Vec::new());
        };
        let dir = match self.places.releases.open_dir(&held.dir_name()) {
            Ok(dir) => dir,
            Err(error) => {
                no_file::<()>(error)?;
                let path = held.dir_name();
                let kind = DriftKind::Missing;
                return Ok(vec![Drift { path, kind }]);
            }
        };
        let stamps = self.stamps_of(id);
        let stamps = stamps.get(..).filter(|_| !deep).unwrap_or_default();
        compare(&dir, held.manifest(), stamps, ignored)
    }
}

/// Compares a tree with its manifest.
pub(super) fn compare(
    dir: &Dir,
    manifest: &Manifest,
    stamps: &[Option<Stamp>],
    ignored: &dyn Fn(&str) -> bool,
) -> Result<Vec<Drift>, DirError> {
    let mut drift = Vec::new();
    let mut cursor = Cursor::new(dir);
    for (index, (path, entry)) in manifest.entries().iter().enumerate() {
        let stamp = stamps.get(index).copied().flatten();
        if let Some(kind) = differs(&mut cursor, path, entry, stamp)? {
            let path = path.to_string();
            drift.push(Drift { path, kind });
        }
        if drift.len() >= DRIFT_MAX {
            return Ok(drift);
        }
    }
    foreign(dir, manifest, ignored, &mut drift)?;
    drift.sort();
    Ok(drift)
}

fn differs(
    cursor: &mut Cursor<'_>,
    path: &RelPath,
    entry: &Entry,
    stamp: Option<Stamp>,
) -> Result<Option<DriftKind>, DirError> {
    let (dir, name) = match cursor.seek(path) {
        Ok(found) => found,
        Err(error) => {
            no_file::<()>(error)?;
            return Ok(Some(DriftKind::Missing));
        }
    };
    let Some(stat) = dir.stat(name)? else {
        return Ok(Some(DriftKind::Missing));
    };
    let same = match entry {
        Entry::File { blob, size, .. } => {
            let plain = stat.kind == Kind::File && stat.size == *size && stat.mode == mode(entry);
            let known = stamp.is_some_and(|stamp| stamp.is_of(&stat));
            plain && (known || hash(dir, name, *size)? == Some(*blob))
        }
        Entry::Symlink { target } => {
            stat.kind == Kind::Symlink && dir.read_link(name)? == target.as_str()
        }
        Entry::Dir => stat.kind == Kind::Dir,
    };
    Ok((!same).then_some(DriftKind::Changed))
}

/// Finds what the manifest does not know. What lies in a foreign directory is not listed again.
fn foreign(
    root: &Dir,
    manifest: &Manifest,
    ignored: &dyn Fn(&str) -> bool,
    drift: &mut Vec<Drift>,
) -> Result<(), DirError> {
    let mut todo: Vec<String> = vec![String::new()];
    while let Some(at) = todo.pop() {
        let below = if at.is_empty() {
            root.try_clone()
        } else {
            root.open_dir(&at)
        };
        let dir = match below {
            Ok(dir) => dir,
            Err(error) => {
                no_file::<()>(error)?;
                continue;
            }
        };
        for (name, kind) in dir.entries()? {
            let name = name.to_string_lossy();
            let path = if at.is_empty() {
                name.into_owned()
            } else {
                format!("{at}/{name}")
            };
            match stands_for(manifest, &path) {
                Known::Entry => {}
                Known::Above if kind == Kind::Dir => todo.push(path),
                Known::Above | Known::Nothing => {
                    if path != MARKER && !is_bytecode(&path) && !ignored(&path) {
                        let kind = DriftKind::Foreign;
                        drift.push(Drift { path, kind });
                    }
                }
            }
            if drift.len() >= DRIFT_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
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

/// Whether Python itself writes such a name beside its modules.
fn is_bytecode(path: &str) -> bool {
    path.rsplit('/').next() == Some("__pycache__")
}

impl DriftKind {
    /// Returns the kind as the status document says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
        }
    }
}
