//! A release's tree as a tar: its marker first, then each entry in the manifest's order, and each folder
//! before what is in it. Owners are nobody's, times the release's, modes those of a release directory.

use std::io::{self, Read, Write};

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::marker::{MARKER, Marker};
use codevol_protocol::path::RelPath;
use tar::{EntryType, Header};

use super::SealError;
use super::prefix::Prefix;

/// What a name begins with by which a layer of an image removes what a lower one has.
pub(crate) const WHITEOUT: &str = ".wh.";
/// The name by which a layer hides all that lower ones have in the same folder.
pub(crate) const OPAQUE: &str = ".wh..wh..opq";
const BLOCK_BYTES: usize = 512;
/// The latest time that a tar's number of eleven octal digits can say, in seconds.
const MTIME_MAX: u64 = 0o77_777_777_777;
/// Under this name a tar carries a name that is too long for a header.
const LONG_NAME: &[u8] = b"././@LongLink";
const DIR_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;

/// A release's tree, and where it begins.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) marker: &'a Marker,
    pub(crate) manifest: &'a Manifest,
    pub(crate) prefix: &'a Prefix,
    /// Whether it is a layer on others: what they have in its folder is no part of the release.
    pub(crate) hides_below: bool,
}

impl Tree<'_> {
    /// Names an entry that a layer of an image cannot hold.
    pub(crate) fn unfit_for_a_layer(&self) -> Option<&RelPath> {
        let is_whiteout = |path: &RelPath| path.components().any(|name| name.starts_with(WHITEOUT));
        let mut paths = self.manifest.entries().iter().map(|(path, _)| path);
        paths.find(|path| is_whiteout(path))
    }

    /// Writes the tar; `files` gives the bytes of the files in the manifest's order.
    pub(crate) fn write<W: Write>(
        &self,
        out: &mut W,
        files: &mut dyn Read,
    ) -> Result<(), SealError> {
        let mtime = (self.marker.created_at.0 / 1_000).min(MTIME_MAX);
        let mut tar = Tar { out, mtime };
        for folder in self.prefix.folders() {
            tar.folder(&folder)?;
        }
        if self.hides_below {
            tar.file(&self.prefix.join(OPAQUE), (0, false), &mut io::empty())?;
        }
        let mut marker = serde_json::to_vec(self.marker)?;
        marker.push(b'\n');
        let size = marker.len() as u64;
        tar.file(&self.prefix.join(MARKER), (size, false), &mut &*marker)?;
        let mut folders: Vec<&str> = Vec::new();
        for (path, entry) in self.manifest.entries() {
            self.enter(path, &mut folders, &mut tar)?;
            let name = self.prefix.join(path.as_str());
            match entry {
                Entry::Dir => tar.folder(&name)?,
                Entry::Symlink { target } => tar.link(&name, target.as_str())?,
                Entry::File {
                    blob,
                    size,
                    executable,
                } => {
                    let found = tar.file(&name, (*size, *executable), files)?;
                    if found != *blob {
                        return Err(SealError::Damaged(path.clone()));
                    }
                }
            }
        }
        // Two empty blocks are the end.
        tar.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        Ok(())
    }

    /// Writes the folders that a path lies in, those that the path before it did not lie in.
    fn enter<'p, W: Write>(
        &self,
        path: &'p RelPath,
        folders: &mut Vec<&'p str>,
        tar: &mut Tar<'_, W>,
    ) -> Result<(), SealError> {
        let mut components: Vec<&str> = path.components().collect();
        components.pop();
        let same = folders.iter().zip(&components).take_while(|(a, b)| a == b);
        folders.truncate(same.count());
        for component in components.into_iter().skip(folders.len()) {
            folders.push(component);
            tar.folder(&self.prefix.join(&folders.join("/")))?;
        }
        Ok(())
    }
}

struct Tar<'w, W> {
    out: &'w mut W,
    mtime: u64,
}

impl<W: Write> Tar<'_, W> {
    fn folder(&mut self, name: &str) -> Result<(), SealError> {
        let header = self.header(EntryType::Directory, DIR_MODE, 0);
        self.head(header, &format!("{name}/"), "")
    }

    fn link(&mut self, name: &str, target: &str) -> Result<(), SealError> {
        let header = self.header(EntryType::Symlink, LINK_MODE, 0);
        self.head(header, name, target)
    }

    /// Writes a file of so many bytes, and returns which they are.
    fn file(
        &mut self,
        name: &str,
        (size, executable): (u64, bool),
        bytes: &mut dyn Read,
    ) -> Result<BlobId, SealError> {
        let mode = if executable { 0o755 } else { 0o644 };
        let header = self.header(EntryType::Regular, mode, size);
        self.head(header, name, "")?;
        let mut hashing = Hashing {
            out: self.out,
            hasher: blake3::Hasher::new(),
        };
        let copied = io::copy(&mut bytes.take(size), &mut hashing)?;
        let blob = BlobId::from(hashing.hasher.finalize());
        if copied != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.pad(size)?;
        Ok(blob)
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }

    /// Writes a header, and before it what of its names does not fit. They are written byte for byte.
    fn head(&mut self, mut header: Header, name: &str, target: &str) -> Result<(), SealError> {
        let old = header.as_old_mut();
        for (text, field, kind) in [
            (name, &mut old.name, EntryType::GNULongName),
            (target, &mut old.linkname, EntryType::GNULongLink),
        ] {
            let fits = text.len().min(field.len());
            for (byte, place) in text.bytes().zip(field.iter_mut()) {
                *place = byte;
            }
            if fits < text.len() {
                long(self.out, kind, text)?;
            }
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        pad(self.out, size)
    }
}

/// Writes a name that does not fit into a header.
fn long<W: Write>(out: &mut W, kind: EntryType, text: &str) -> io::Result<()> {
    let mut header = Header::new_gnu();
    for (byte, place) in LONG_NAME.iter().zip(header.as_old_mut().name.iter_mut()) {
        *place = *byte;
    }
    header.set_entry_type(kind);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // It ends with a zero.
    let size = text.len() as u64 + 1;
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(text.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, size)
}

fn pad<W: Write>(out: &mut W, size: u64) -> io::Result<()> {
    let block = BLOCK_BYTES as u64;
    let missing = (block - size % block) % block;
    io::copy(&mut io::repeat(0).take(missing), out)?;
    Ok(())
}

struct Hashing<'w, W> {
    out: &'w mut W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
