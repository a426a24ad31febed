//! A sealed release read back: an OCI layout whose last layer is one, or a tar. It comes from elsewhere,
//! so nothing in it is believed: each entry is held against the rules of a tree, the whole against what
//! the marker at its beginning says, and no more is read than that declares.
//!
//! Nothing is unpacked. What the files hold goes into one file that has no name, and is gone with us.

mod items;
mod spool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use codevol_protocol::id::BlobId;
use codevol_protocol::limits::{ENTRIES_MAX, RELEASE_BYTES_MAX};
use codevol_protocol::manifest::{Entry, Manifest, ManifestError};
use codevol_protocol::marker::{MARKER, MARKER_SCHEMA, Marker};
use codevol_protocol::path::RelPath;
use flate2::read::MultiGzDecoder;

use self::items::{Items, Kind};
use super::base::{INDEX_FILE, Image, LAYOUT_FILE};
use super::digest::Hashed;
use super::tree::OPAQUE;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// How long a marker may be, in bytes.
const MARKER_BYTES_MAX: u64 = 1 << 20;
/// How much memory a decompressor of a layer may take, as a base-2 logarithm of bytes.
const WINDOW_LOG_MAX: u32 = 27;

/// Why a sealed release is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// One entry is against the rules.
    #[error("`{}` holds `{entry}`, which {why}", path.display())]
    Entry {
        path: PathBuf,
        /// Its name, escaped.
        entry: String,
        why: String,
    },
    /// The whole is no sealed release, or a damaged one.
    #[error("`{}` is no sealed release: {why}", path.display())]
    Whole { path: PathBuf, why: String },
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// There is no room for what its files hold.
    #[error("cannot keep what `{}` holds", path.display())]
    Spool { path: PathBuf, source: io::Error },
}

/// A sealed release, read and found to be what it says.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) marker: Marker,
    pub(crate) manifest: Manifest,
    /// What the files hold, one after the other.
    spool: File,
    places: BTreeMap<RelPath, u64>,
}

impl Sealed {
    /// Whether something is, by its looks, a sealed release, whole or not.
    pub(crate) fn is_like(path: &Path) -> bool {
        let is_tar = path.extension().is_some_and(|end| end == "tar") && path.is_file();
        is_tar || (path.join(LAYOUT_FILE).is_file() && path.join(INDEX_FILE).is_file())
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// When it cannot be read, or is not what it should be: the error names the entry.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let wrong = |why: String| OpenError::Whole {
            path: path.to_owned(),
            why,
        };
        let unreadable = |source| OpenError::Read {
            path: path.to_owned(),
            source,
        };
        if !path.is_dir() {
            let file = File::open(path).map_err(unreadable)?;
            return Reading::new(path).read(&mut BufReader::new(file));
        }
        let image = Image::open(path).map_err(|error| wrong(error.to_string()))?;
        let Some((layer, _)) = image.layers.last() else {
            return Err(wrong("the image in it has no layer".to_owned()));
        };
        let (file, expected) = image
            .layer(layer)
            .map_err(|error| wrong(error.to_string()))?;
        let mut file = Hashed::new(BufReader::new(file.take(layer.size)));
        let sealed = match layer.media_type.rsplit_once('+') {
            Some((_, "gzip")) => Reading::new(path).read(&mut MultiGzDecoder::new(&mut file))?,
            Some((_, "zstd")) => {
                let mut decoder =
                    zstd::stream::read::Decoder::new(&mut file).map_err(unreadable)?;
                let bounded = decoder.window_log_max(WINDOW_LOG_MAX);
                bounded.map_err(unreadable)?;
                Reading::new(path).read(&mut decoder)?
            }
            None if layer.media_type.ends_with(".tar") => Reading::new(path).read(&mut file)?,
            Some(_) | None => {
                let kind = layer.media_type.escape_debug();
                return Err(wrong(format!("its last layer is a `{kind}`")));
            }
        };
        // What follows the tar's end.
        io::copy(&mut file, &mut io::sink()).map_err(unreadable)?;
        let (_, found, bytes) = file.finish();
        if (found, bytes) == (expected, layer.size) {
            Ok(sealed)
        } else {
            Err(wrong(format!(
                "the bytes of its layer {expected} are others"
            )))
        }
    }

    /// Opens what a file of it holds: to be read as far as its entry says, before the next is opened.
    ///
    /// # Errors
    /// When it holds no such file.
    pub(crate) fn open_file(&self, path: &RelPath) -> io::Result<File> {
        let place = self.places.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut file = self.spool.try_clone()?;
        file.seek(SeekFrom::Start(*place))?;
        Ok(file)
    }
}

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        let (exit, kind) = match &error {
            OpenError::Entry { .. } | OpenError::Whole { .. } => (ExitStatus::Refused, "sealed"),
            OpenError::Read { .. } | OpenError::Spool { .. } => (ExitStatus::Failed, "failed"),
        };
        let report = Self::new(exit, kind, error.to_string());
        let report = match std::error::Error::source(&error) {
            Some(source) => report.because(source),
            None => report,
        };
        report.hint(
            "`codevol seal REL -o X`, on a host of the fleet that it comes from, makes it anew",
        )
    }
}

/// What has been read so far.
struct Reading<'p> {
    path: &'p Path,
    /// The folder that the tree begins in, with a slash at its end; nothing before the marker.
    prefix: Option<String>,
    entries: Vec<(RelPath, Entry)>,
    places: BTreeMap<RelPath, u64>,
    /// How many bytes and files may come yet, by the marker.
    left: (u64, u64),
    spooled: u64,
}

impl<'p> Reading<'p> {
    const fn new(path: &'p Path) -> Self {
        Self {
            path,
            prefix: None,
            entries: Vec::new(),
            places: BTreeMap::new(),
            left: (0, 0),
            spooled: 0,
        }
    }

    fn read(mut self, stream: &mut dyn Read) -> Result<Sealed, OpenError> {
        let mut items = Items::new(stream);
        let marker = self.begin(&mut items)?;
        (self.left.0, self.left.1) = (marker.bytes, marker.files);
        let spool = spool::create(marker.bytes);
        let mut spool = spool.map_err(|source| OpenError::Spool {
            path: self.path.to_owned(),
            source,
        })?;
        while let Some(item) = items.next().map_err(|error| self.named(error))? {
            let path = self.path_of(&item.name)?;
            self.follows(&path, &item.name)?;
            let entry = match item.kind {
                Kind::Folder => Entry::Dir,
                Kind::Link(target) => {
                    let target = std::str::from_utf8(&target).or(Err("points at no UTF-8"));
                    let target = target.map_err(|why| self.refused(&item.name, why.to_owned()))?;
                    let target = target.parse().map_err(|error| {
                        self.refused(&item.name, format!("cannot be in a tree: {error}"))
                    })?;
                    Entry::Symlink { target }
                }
                Kind::File { size, executable } => {
                    let blob = self.keep(&item.name, size, (&mut items, &mut spool))?;
                    self.places.insert(path.clone(), self.spooled);
                    self.spooled += size;
                    Entry::File {
                        blob,
                        size,
                        executable,
                    }
                }
            };
            self.add(path, entry);
        }
        self.end(marker, spool)
    }

    /// Reads up to the marker, which says what follows.
    fn begin<R: Read>(&mut self, items: &mut Items<R>) -> Result<Marker, OpenError> {
        let mut above = String::new();
        while let Some(item) = items.next().map_err(|error| self.named(error))? {
            let name = String::from_utf8_lossy(&item.name).into_owned();
            match item.kind {
                // The folders above the tree, each in the one before it.
                Kind::Folder => {
                    let is_next = name.strip_prefix(&above).is_some_and(|rest| {
                        let rest = rest.strip_suffix('/').unwrap_or(rest);
                        rest.parse::<RelPath>().is_ok() && !rest.contains('/')
                    });
                    if !is_next {
                        let why = "stands before the marker, and not above it";
                        return Err(self.refused(&item.name, why.to_owned()));
                    }
                    above = format!("{}/", name.trim_end_matches('/'));
                }
                Kind::File { size: 0, .. } if name == format!("{above}{OPAQUE}") => {}
                Kind::File { size, .. } if name == format!("{above}{MARKER}") => {
                    if size > MARKER_BYTES_MAX {
                        return Err(self.refused(&item.name, "is too long".to_owned()));
                    }
                    let mut bytes = Vec::new();
                    items
                        .read_file(size, &mut |chunk| {
                            bytes.extend_from_slice(chunk);
                            Ok(())
                        })
                        .map_err(|error| self.named(error))?;
                    self.prefix = Some(above);
                    return self.marker(&bytes);
                }
                Kind::File { .. } | Kind::Link(_) => break,
            }
        }
        Err(self.wrong(format!("it does not begin with a `{MARKER}`")))
    }

    fn marker(&self, bytes: &[u8]) -> Result<Marker, OpenError> {
        let marker: Marker = serde_json::from_slice(bytes)
            .map_err(|error| self.wrong(format!("its `{MARKER}` does not parse: {error}")))?;
        if marker.schema.as_str() != MARKER_SCHEMA {
            let schema = &marker.schema;
            return Err(self.wrong(format!(
                "its `{MARKER}` is a `{schema}`, not a `{MARKER_SCHEMA}`"
            )));
        }
        if marker.bytes > RELEASE_BYTES_MAX || marker.files > ENTRIES_MAX as u64 {
            let (files, bytes) = (marker.files, marker.bytes);
            return Err(self.wrong(format!("it declares {files} files and {bytes} bytes")));
        }
        Ok(marker)
    }

    /// Returns where in the tree something stands.
    fn path_of(&self, name: &[u8]) -> Result<RelPath, OpenError> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let below = name.strip_prefix(prefix.as_bytes()).ok_or_else(|| {
            self.refused(
                name,
                format!("lies outside of the tree, which begins at `{prefix}`"),
            )
        })?;
        // A folder's name ends with a slash.
        let below = below.strip_suffix(b"/").unwrap_or(below);
        RelPath::from_bytes(below)
            .map_err(|error| self.refused(name, format!("cannot be in a tree: {error}")))
    }

    /// Checks that a path may follow those before it.
    fn follows(&self, path: &RelPath, name: &[u8]) -> Result<(), OpenError> {
        if self
            .entries
            .last()
            .is_some_and(|(before, _)| before >= path)
        {
            return Err(self.refused(name, "stands twice, or out of order".to_owned()));
        }
        if self.entries.len() >= ENTRIES_MAX {
            let why = format!("is one too many: a tree has at most {ENTRIES_MAX} entries");
            return Err(self.refused(name, why));
        }
        Ok(())
    }

    fn add(&mut self, path: RelPath, entry: Entry) {
        // A folder that holds something is no entry of its own.
        if let Some((before, Entry::Dir)) = self.entries.last()
            && path.is_below(before)
        {
            self.entries.pop();
        }
        self.entries.push((path, entry));
    }

    /// Keeps what a file holds.
    fn keep<R: Read>(
        &mut self,
        name: &[u8],
        size: u64,
        (items, spool): (&mut Items<R>, &mut File),
    ) -> Result<BlobId, OpenError> {
        let (bytes, files) = self.left;
        let Some((bytes, files)) = bytes.checked_sub(size).zip(files.checked_sub(1)) else {
            let why = "is more than the marker declares".to_owned();
            return Err(self.refused(name, why));
        };
        self.left = (bytes, files);
        let mut hasher = blake3::Hasher::new();
        let mut failed = None;
        let read = items.read_file(size, &mut |chunk| {
            hasher.update(chunk);
            spool.write_all(chunk).map_err(|error| failed = Some(error))
        });
        if let Some(source) = failed {
            let path = self.path.to_owned();
            return Err(OpenError::Spool { path, source });
        }
        read.map_err(|error| self.named(error))?;
        Ok(BlobId::from(hasher.finalize()))
    }

    /// Holds all that was read against the rules of a tree, and against the marker.
    fn end(self, marker: Marker, spool: File) -> Result<Sealed, OpenError> {
        if self.left != (0, 0) {
            let (bytes, files) = self.left;
            let why = format!("{files} files and {bytes} bytes of what it declares are not there");
            return Err(self.wrong(why));
        }
        let path = self.path;
        let manifest = Manifest::new(self.entries).map_err(|error| match &error {
            ManifestError::LinkLeaves(entry) | ManifestError::BelowEntry(entry) => {
                OpenError::Entry {
                    path: path.to_owned(),
                    entry: entry.to_string(),
                    why: format!("cannot be in a tree: {error}"),
                }
            }
            error => OpenError::Whole {
                path: path.to_owned(),
                why: error.to_string(),
            },
        })?;
        if manifest.id() != marker.manifest {
            let path = path.to_owned();
            let why = "its tree is not the one that was sealed".to_owned();
            return Err(OpenError::Whole { path, why });
        }
        Ok(Sealed {
            marker,
            manifest,
            spool,
            places: self.places,
        })
    }

    fn refused(&self, name: &[u8], why: String) -> OpenError {
        OpenError::Entry {
            path: self.path.to_owned(),
            entry: String::from_utf8_lossy(name).escape_debug().to_string(),
            why,
        }
    }

    fn wrong(&self, why: String) -> OpenError {
        OpenError::Whole {
            path: self.path.to_owned(),
            why,
        }
    }

    fn named(&self, error: items::ItemError) -> OpenError {
        match error {
            items::ItemError::Entry { name, why } => self.refused(&name, why),
            items::ItemError::Tar(why) => self.wrong(why),
            items::ItemError::Read(source) => OpenError::Read {
                path: self.path.to_owned(),
                source,
            },
        }
    }
}
