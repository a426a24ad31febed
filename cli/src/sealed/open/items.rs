//! What stands in a tar, one after the other: names, folders, links and files, and nothing else. The
//! header's parts are the `tar` crate's to find; what they mean, and how much of them is read, is decided
//! here, since what two readers of one tar see as different is a hole.

use std::io::{self, Read};

use codevol_protocol::limits::{ENTRIES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use tar::{EntryType, Header, PaxExtensions};

const BLOCK_BYTES: usize = 512;
/// How long a name may be: a path of a tree, and the folders that it lies in.
const NAME_BYTES_MAX: u64 = 2 * PATH_BYTES_MAX as u64;
/// How long the extensions of one entry may be, in bytes.
const EXTENSIONS_BYTES_MAX: u64 = 64 << 10;
/// How many headers there may be: entries, the folders they lie in, and their names and extensions.
const HEADERS_MAX: usize = 4 * ENTRIES_MAX + PATH_DEPTH_MAX;
/// How much is read at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Takes a chunk of a file, or knows why it does not.
type Take<'t> = dyn FnMut(&[u8]) -> Result<(), ()> + 't;

/// Why no more can be read.
#[derive(Debug)]
pub(super) enum ItemError {
    /// An entry is none that a tree can have.
    Entry { name: Vec<u8>, why: String },
    /// It is no tar, or a broken one.
    Tar(String),
    /// The stream.
    Read(io::Error),
}

/// One thing that stands in the tar.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    Folder,
    Link(Vec<u8>),
    /// To be read by [`Items::read_file`] before the next item.
    File {
        size: u64,
        executable: bool,
    },
}

/// Reads a tar. Memory is taken for names and for one chunk.
pub(super) struct Items<R> {
    stream: R,
    headers: usize,
    /// The file that is to be read next, by its name and its length.
    file: Option<(Vec<u8>, u64)>,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Items<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self {
            stream,
            headers: 0,
            file: None,
        }
    }

    /// Returns the next item; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, ItemError> {
        let mut before = Before::default();
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(|error| broken(&error))?;
            match header.entry_type() {
                EntryType::GNULongName => before.name = Some(self.long_name(size)?),
                EntryType::GNULongLink => before.target = Some(self.long_name(size)?),
                EntryType::XHeader => self.extensions(size, &mut before)?,
                // Such as the comment by which git names a commit.
                EntryType::XGlobalHeader => drop(self.text(size, EXTENSIONS_BYTES_MAX)?),
                kind => return self.item(&header, kind, before).map(Some),
            }
        }
    }

    /// Reads the file of the last item, chunk by chunk.
    pub(super) fn read_file(&mut self, size: u64, take: &mut Take<'_>) -> Result<(), ItemError> {
        let (name, declared) = self.file.take().unwrap_or_default();
        let mut left = size.min(declared);
        let mut chunk = Vec::new();
        while left > 0 {
            chunk.clear();
            let read = (&mut self.stream)
                .take(left.min(CHUNK_BYTES))
                .read_to_end(&mut chunk)
                .map_err(ItemError::Read)?;
            if read == 0 {
                let why = "is cut short: the archive ends in it".to_owned();
                return Err(ItemError::Entry { name, why });
            }
            left -= read as u64;
            // Whoever takes it knows why it does not.
            take(&chunk).map_err(|()| ItemError::Tar("it is not kept".to_owned()))?;
        }
        self.skip_padding(size)
    }

    fn item(
        &mut self,
        header: &Header,
        kind: EntryType,
        before: Before,
    ) -> Result<Item, ItemError> {
        let name = before
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let refused = |why: String| {
            let name = name.clone();
            Err(ItemError::Entry { name, why })
        };
        let size = header.entry_size().map_err(|error| broken(&error))?;
        if before.size.is_some_and(|said| said != size) {
            return refused("has two lengths that differ".to_owned());
        }
        let mode = header.mode().map_err(|error| broken(&error))?;
        if mode & !0o777 != 0 {
            return refused(format!("has the mode {mode:04o}"));
        }
        let kind = match kind {
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => {
                let target = before.target.or_else(|| {
                    let target = header.link_name_bytes();
                    target.map(std::borrow::Cow::into_owned)
                });
                Kind::Link(target.unwrap_or_default())
            }
            EntryType::Regular => Kind::File {
                size,
                executable: mode & 0o100 != 0,
            },
            other => return refused(format!("is {}", what(other))),
        };
        if size > 0 && !matches!(kind, Kind::File { .. }) {
            return refused(format!("is no file and has {size} bytes"));
        }
        self.file = matches!(kind, Kind::File { .. }).then(|| (name.clone(), size));
        Ok(Item { name, kind })
    }

    /// Reads a header; nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, ItemError> {
        if self.file.as_ref().is_some_and(|(_, size)| *size == 0) {
            self.file = None;
        }
        if let Some((name, _)) = self.file.take() {
            let why = "was not read".to_owned();
            return Err(ItemError::Entry { name, why });
        }
        self.headers += 1;
        if self.headers > HEADERS_MAX {
            return Err(ItemError::Tar("it has too many entries".to_owned()));
        }
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let rest = bytes.get_mut(filled..).unwrap_or_default();
            match self.stream.read(rest) {
                Ok(0) => return Err(ItemError::Tar("it has no end".to_owned())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ItemError::Read(error)),
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum is counted with blanks in its own place.
        let place = 148..156;
        let counted = bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if place.contains(&at) { b' ' } else { *byte }));
        let sum: u32 = counted.sum();
        let said = header.cksum().map_err(|error| broken(&error))?;
        if sum == said {
            Ok(Some(header))
        } else {
            Err(ItemError::Tar("a header's checksum is off".to_owned()))
        }
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ItemError> {
        let mut name = self.text(size, NAME_BYTES_MAX + 1)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn extensions(&mut self, size: u64, before: &mut Before) -> Result<(), ItemError> {
        let text = self.text(size, EXTENSIONS_BYTES_MAX)?;
        for extension in PaxExtensions::new(&text) {
            let extension = extension.map_err(|error| broken(&error))?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => before.name = Some(value.to_owned()),
                b"linkpath" => before.target = Some(value.to_owned()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|s| s.parse().ok());
                    let size = size.ok_or_else(|| ItemError::Tar("a length is none".to_owned()))?;
                    before.size = Some(size);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(ItemError::Tar("it has files with holes".to_owned()));
                }
                // Times, owners, attributes: a tree has none.
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&mut self, size: u64, bytes_max: u64) -> Result<Vec<u8>, ItemError> {
        if size > bytes_max {
            let why = format!("a name or an extension in it is {size} bytes long");
            return Err(ItemError::Tar(why));
        }
        let mut text = Vec::new();
        let read = (&mut self.stream).take(size).read_to_end(&mut text);
        if read.map_err(ItemError::Read)? as u64 != size {
            return Err(ItemError::Tar("it has no end".to_owned()));
        }
        self.skip_padding(size)?;
        Ok(text)
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), ItemError> {
        let block = BLOCK_BYTES as u64;
        let missing = (block - size % block) % block;
        let skipped = io::copy(&mut (&mut self.stream).take(missing), &mut io::sink());
        if skipped.map_err(ItemError::Read)? == missing {
            Ok(())
        } else {
            Err(ItemError::Tar("it has no end".to_owned()))
        }
    }
}

fn what(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a file with holes",
        _ => "of a kind that a tree cannot have",
    }
}

fn broken(error: &io::Error) -> ItemError {
    ItemError::Tar(format!("a header of it does not parse: {error}"))
}
