//! The baseline: what stood on a volume before codevol did is copied into a release of its own, `r0`, that
//! nobody signed. It is what the first release goes back to. What stands there stays as it is: a file that
//! is written in place later on must not change a release.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use codevol_protocol::id::{BlobId, FleetId, ReleaseId};
use codevol_protocol::key::SecretKey;
use codevol_protocol::limits::{ENTRIES_MAX, RELEASE_BYTES_MAX};
use codevol_protocol::manifest::{Entry, Manifest, ManifestError};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::path::{LinkTarget, RelPath};
use codevol_protocol::release::{Origin, Release, Seq, SignedRelease, UnixMillis};
use codevol_store::dir::{Dir, DirError, Kind};

use super::Root;
use super::activate::ActivateError;
use super::held::Held;
use super::marker;
use super::places::{CURRENT, OWN, RELEASES};

/// Where the tree is made before it has a name.
const BASELINE: &str = "baseline";
/// How much of a file is read at a time, in bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// Who is neither owner nor of the group may enter a directory, or read a file.
const OTHERS_ENTER: u32 = 0o001;
const OTHERS_READ: u32 = 0o004;
/// What is never code: Python makes the one itself, the others are of the version control.
const LEFT_OUT: [&str; 4] = ["__pycache__", ".git", ".hg", ".svn"];

/// Whose baseline it is.
#[derive(Debug)]
pub struct Baseline<'a> {
    /// The fleet.
    pub fleet: FleetId,
    /// The volume.
    pub volume: VolumeName,
    /// Who asks.
    pub author: Text,
    /// The host.
    pub host: Text,
    /// This node's key. It is no publisher's: no other node would take the release.
    pub key: &'a SecretKey,
}

/// What was adopted.
#[derive(Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The release.
    pub release: ReleaseId,
    /// How many files it has.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What stands there and is not in it, and why.
    pub skipped: Vec<(String, &'static str)>,
    /// Files that not everybody could read there, and that everybody can read in it.
    pub opened: Vec<String>,
}

/// Why nothing was adopted. What stands there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// There are releases already, and what stands beside them is not what was run.
    #[error("the volume holds releases already")]
    Begun,
    /// There is nothing.
    #[error("nothing stands there that could be adopted")]
    Empty,
    /// There is too much.
    #[error("more than {ENTRIES_MAX} entries, or {RELEASE_BYTES_MAX} bytes, stand there")]
    TooLarge,
    /// The tree breaks a rule of manifests.
    #[error("what stands there is no tree")]
    Manifest(#[from] ManifestError),
    /// The disk.
    #[error("it cannot be copied")]
    Dir(#[from] DirError),
    /// It was copied, and cannot be activated.
    #[error("it cannot be made the active release")]
    Activate(#[from] ActivateError),
}

impl Root {
    /// Copies what stands in the root into `r0`, durably, and makes that the active release. Done again
    /// after a crash it begins anew.
    ///
    /// # Errors
    /// When there is a release already, or the tree cannot be copied.
    pub fn adopt(&mut self, of: Baseline<'_>, now: UnixMillis) -> Result<Adopted, AdoptError> {
        if !self.held.is_empty() || self.unknown.is_some() {
            return Err(AdoptError::Begun);
        }
        let places = Arc::clone(&self.places);
        places.discard(&places.incoming, BASELINE)?;
        let tree = places.incoming.ensure_dir(BASELINE, 0o755)?;
        let mut copy = Copy::default();
        let copied = copy.dir(&places.root, &tree, ("", false));
        let copied = copied.and_then(|_is_any| copy.links(&tree));
        let whole = copied.and_then(|manifest| {
            let is_empty = manifest.is_empty();
            if is_empty {
                Err(AdoptError::Empty)
            } else {
                Ok(manifest)
            }
        });
        if whole.is_err() {
            places.discard(&places.incoming, BASELINE)?;
            places.empty_trash()?;
        }
        let (manifest, skipped, opened) = (whole?, copy.skipped, copy.opened);
        let (files, bytes) = (manifest.files(), manifest.total_bytes());
        let held = Held::baseline(record(of, &manifest, now), manifest);
        let held = Arc::new(held.ok_or(AdoptError::TooLarge)?);
        marker::write(&tree, &held, &places.blanks)?;
        held.write(&places.records, &places.blanks)?;
        places.step()?;
        // The records lie on the same file system.
        tree.sync_filesystem()?;
        places.step()?;
        places
            .incoming
            .rename_noreplace(BASELINE, &places.releases, &held.dir_name())?;
        places.releases.sync()?;
        let release = held.id();
        self.held.insert(release, held);
        self.activate(release, now)?;
        Ok(Adopted {
            release,
            files,
            bytes,
            skipped,
            opened,
        })
    }
}

fn record(of: Baseline<'_>, manifest: &Manifest, now: UnixMillis) -> SignedRelease {
    let release = Release {
        fleet: of.fleet,
        volume: of.volume,
        epoch: 0,
        seq: Seq(0),
        parent: None,
        manifest: manifest.id(),
        manifest_bytes: manifest.encode().len() as u64,
        entries: manifest.entries().len() as u64,
        total_bytes: manifest.total_bytes(),
        // Python's own files may stand in any release; else nothing may beside its own.
        ignore_rules: BlobId::of(b""),
        created_at: now,
        origin: Origin::Baseline,
        author: of.author,
        host: of.host,
        message: Text::cut("what stood here before codevol"),
        git: None,
        fingerprints: Vec::new(),
    };
    release.sign(of.key)
}

/// A copy that goes on.
#[derive(Debug, Default)]
struct Copy {
    entries: BTreeMap<RelPath, Entry>,
    bytes: u64,
    skipped: Vec<(String, &'static str)>,
    opened: Vec<String>,
}

impl Copy {
    /// Copies a directory, which some users cannot enter where it is closed, and all below it; its links are
    /// made last. Returns whether anything is in it.
    fn dir(
        &mut self,
        from: &Dir,
        to: &Dir,
        (at, is_closed): (&str, bool),
    ) -> Result<bool, AdoptError> {
        let before = self.entries.len();
        for (name, kind) in from.entries()? {
            let Some(name) = name.to_str() else {
                let path = format!("{at}{}", name.to_string_lossy());
                self.skipped.push((path, "its name is not UTF-8"));
                continue;
            };
            let is_ours = at.is_empty() && is_ours(name);
            if is_ours || (kind == Kind::Dir && LEFT_OUT.contains(&name)) {
                continue;
            }
            let path = format!("{at}{name}");
            let Ok(at) = path.parse::<RelPath>() else {
                self.skipped
                    .push((path, "no release can hold a path like this"));
                continue;
            };
            self.one((from, name), to, (at, kind, is_closed))?;
            if self.entries.len() > ENTRIES_MAX || self.bytes > RELEASE_BYTES_MAX {
                return Err(AdoptError::TooLarge);
            }
        }
        Ok(self.entries.len() > before)
    }

    fn one(
        &mut self,
        (from, name): (&Dir, &str),
        to: &Dir,
        (path, kind, is_closed): (RelPath, Kind, bool),
    ) -> Result<(), AdoptError> {
        let entry = match kind {
            Kind::Dir => {
                let (from, to) = (from.open_dir(name)?, to.ensure_dir(name, 0o755)?);
                let is_closed = is_closed || from.stat_self()?.mode & OTHERS_ENTER == 0;
                if self.dir(&from, &to, (&format!("{path}/"), is_closed))? {
                    return Ok(());
                }
                Entry::Dir
            }
            Kind::File => {
                let (entry, mode) = self.file((from, name), to, &path)?;
                if is_closed || mode & OTHERS_READ == 0 {
                    self.opened.push(path.to_string());
                }
                entry
            }
            Kind::Symlink => match target(from, name)? {
                Ok(target) => Entry::Symlink { target },
                Err(why) => {
                    self.skipped.push((path.to_string(), why));
                    return Ok(());
                }
            },
            Kind::Other => {
                let path = path.to_string();
                self.skipped
                    .push((path, "it is no file, directory or link"));
                return Ok(());
            }
        };
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Copies a file, and returns its mode too. What it says is what was copied, whatever is written to it
    /// meanwhile.
    fn file(
        &mut self,
        (from, name): (&Dir, &str),
        to: &Dir,
        path: &RelPath,
    ) -> Result<(Entry, u32), AdoptError> {
        let mut source = from.open_file(name)?;
        let error = |action| {
            move |source: io::Error| DirError::Io {
                action,
                path: path.to_string(),
                source,
            }
        };
        let stat = source.metadata().map_err(error("look at"))?;
        let mode = stat.permissions().mode();
        let executable = mode & 0o100 != 0;
        let mut copy = to.create_file(name, if executable { 0o755 } else { 0o644 })?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut size = 0_u64;
        loop {
            let read = source.read(&mut buffer).map_err(error("read"))?;
            let part = buffer.get(..read).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            hasher.update(part);
            copy.write_all(part).map_err(error("write"))?;
            size += part.len() as u64;
            if self.bytes + size > RELEASE_BYTES_MAX {
                return Err(AdoptError::TooLarge);
            }
        }
        self.bytes += size;
        let entry = Entry::File {
            blob: BlobId::from(hasher.finalize()),
            size,
            executable,
        };
        Ok((entry, mode))
    }

    /// Makes the links that stay inside the tree. The others are not in it.
    fn links(&mut self, tree: &Dir) -> Result<Manifest, AdoptError> {
        loop {
            let entries = self.entries.iter();
            let entries = entries.map(|(path, entry)| (path.clone(), entry.clone()));
            match Manifest::new(entries.collect()) {
                Ok(manifest) => {
                    for (path, entry) in manifest.entries() {
                        if let Entry::Symlink { target } = entry {
                            tree.symlink(target.as_str(), path.as_str())?;
                        }
                    }
                    return Ok(manifest);
                }
                Err(ManifestError::LinkLeaves(path)) => {
                    self.entries.remove(&path);
                    // Its directory was made, and is perhaps an empty one now.
                    if let Some(dir) = path.parent()
                        && !self.entries.keys().any(|path| path.is_below(&dir))
                    {
                        self.entries.insert(dir, Entry::Dir);
                    }
                    let path = path.to_string();
                    self.skipped.push((path, "the link leaves the volume"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns where a link points, or why no release can hold it.
fn target(from: &Dir, name: &str) -> Result<Result<LinkTarget, &'static str>, DirError> {
    match from.read_link(name) {
        Ok(target) => Ok(target.parse().or(Err("the link leaves the volume"))),
        Err(error) if error.is_no_text() => Ok(Err("the link's target is not UTF-8")),
        Err(error) => Err(error),
    }
}

/// What stands at the top of a root by codevol's own doing.
fn is_ours(name: &str) -> bool {
    name == CURRENT || name == RELEASES || name.starts_with(OWN)
}
