//! Reading a journal, all files of it, whether or not its daemon appends to it meanwhile.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use codevol_protocol::audit::{Audit, Audited, DamagedLine, Whole};
use codevol_protocol::name::Text;

use super::line::Chain;
use super::{BadLine, CURRENT, FILE_BYTES_MAX, JournalError, Line, bad, names_aside, split_lines};
use crate::dir::{Dir, DirError};

/// How often the files are opened anew where they move meanwhile. In a journal as it is set up, one is put
/// aside once in many thousands of lines.
const OPEN_TRIES_MAX: usize = 1_000;

/// The journal of a daemon, open to read.
#[derive(Debug)]
pub struct Reader {
    dir: Dir,
}

/// The files of a journal with their names, oldest first.
type Files = Vec<(String, File)>;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// How many files there are.
    pub files: u64,
    /// How many lines they have.
    pub lines: u64,
    /// The number of the first line: more than 1 where the oldest files are gone.
    pub first: Option<u64>,
    /// The number of the last line.
    pub last: Option<u64>,
    /// The bytes of a last line that was cut short: nobody was told that it is durable.
    pub cut_bytes: u64,
    /// How many lines the newest file has.
    pub newest_lines: u64,
}

impl Reader {
    /// Reads the journal that lies in a directory.
    #[must_use]
    pub const fn new(dir: Dir) -> Self {
        Self { dir }
    }

    /// Reads every line, oldest first, and checks that they are one chain. Where the oldest files
    /// are gone, the first line that is left is believed. Lines that are cut off the end leave a
    /// chain that is whole: only who knows how long it was can miss them.
    ///
    /// # Errors
    /// With the first line that is damaged or out of place, when those before it were handed out.
    pub fn read(&self, mut each: impl FnMut(Line)) -> Result<Found, JournalError> {
        let mut found = Found::default();
        let mut chain = None;
        for (name, file) in self.open()? {
            found.files += 1;
            let is_newest = name == CURRENT;
            let bytes = read_whole(&name, file)?;
            let (whole, torn) = split_torn(&bytes);
            let mut number = 0;
            for text in split_lines(whole) {
                number += 1;
                let line = check(text, chain.as_ref()).map_err(|why| bad(&name, number, why))?;
                chain = Some(Chain::after(&line));
                found.first.get_or_insert(line.seq);
                found.last = Some(line.seq);
                each(line);
            }
            found.lines += number;
            if is_newest {
                check_torn(number, torn)?;
                found.cut_bytes = torn.len() as u64;
                found.newest_lines = number;
            } else if !torn.is_empty() {
                return Err(bad(&name, number + 1, "it is cut short").into());
            }
        }
        Ok(found)
    }

    /// Reads as [`Self::read`], for whoever only wants to know whether that works. `journal` is where
    /// the journal lies, for the report.
    ///
    /// # Errors
    /// When a file cannot be read. That a line is damaged is an answer.
    pub fn audit(&self, journal: &Path) -> Result<Audit, JournalError> {
        let found = match self.read(drop) {
            Ok(found) => Audited::Whole(Whole {
                files: found.files,
                lines: found.lines,
                first: found.first,
                last: found.last,
                cut_bytes: found.cut_bytes,
            }),
            Err(JournalError::Bad(bad)) => Audited::Damaged(DamagedLine {
                file: Text::cut(bad.file),
                line: bad.line,
                why: Text::cut(bad.why),
            }),
            Err(error @ (JournalError::Dir(_) | JournalError::Encode(_))) => return Err(error),
        };
        let journal = Text::cut(journal.to_string_lossy());
        Ok(Audit { journal, found })
    }

    /// Opens the files, oldest first.
    fn open(&self) -> Result<Files, DirError> {
        for _ in 0..OPEN_TRIES_MAX {
            if let Some(files) = self.try_open()? {
                return Ok(files);
            }
        }
        let why = "files are put aside faster than they can be opened";
        Err(DirError::io("open", CURRENT, io::Error::other(why)))
    }

    /// Opens the files; nothing where they were put aside or removed meanwhile so that one may be lacking.
    /// The newest is opened before the others are looked for: when it is put aside then, what is open
    /// ends there, and is found among them by its inode.
    fn try_open(&self) -> Result<Option<Files>, DirError> {
        let newest = self.open_file(CURRENT)?;
        let mut files = Files::new();
        for name in names_aside(&self.dir)? {
            match (self.open_file(&name)?, &newest) {
                (Some((_, inode)), Some((newest, of_newest))) if inode == *of_newest => {
                    let newest = newest.try_clone();
                    let newest = newest.map_err(|error| DirError::io("open", CURRENT, error))?;
                    files.push((CURRENT.to_owned(), newest));
                    return Ok(Some(files));
                }
                (Some((file, _)), _) => files.push((name, file)),
                // The oldest one, which was removed since.
                (None, _) if files.is_empty() => {}
                (None, _) => return Ok(None),
            }
        }
        let inode = |opened: Option<(File, u64)>| opened.map(|(_, inode)| inode);
        let (newest, of_newest) = newest.unzip();
        // One that was removed already, so often were files put aside, is older than those.
        if inode(self.open_file(CURRENT)?) != of_newest {
            return Ok(None);
        }
        files.extend(newest.map(|file| (CURRENT.to_owned(), file)));
        Ok(Some(files))
    }

    /// Opens a file, and returns it with its inode; nothing where it is not there.
    fn open_file(&self, name: &str) -> Result<Option<(File, u64)>, DirError> {
        match self.dir.open_file(name) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => {
                let file = opened?;
                let inode = inode(name, &file)?;
                Ok(Some((file, inode)))
            }
        }
    }
}

fn inode(name: &str, file: &File) -> Result<u64, DirError> {
    let metadata = file.metadata();
    Ok(metadata
        .map_err(|error| DirError::io("stat", name, error))?
        .ino())
}

fn read_whole(name: &str, file: File) -> Result<Vec<u8>, DirError> {
    let failed = |error: io::Error| DirError::io("read", name, error);
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.last().is_some_and(|last| *last != b'\n') {
        // The end of a line that was just being written.
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let (path, bytes_max) = (name.to_owned(), FILE_BYTES_MAX);
        return Err(DirError::TooLong { path, bytes_max });
    }
    Ok(bytes)
}

/// Splits off what follows the last newline.
pub(super) fn split_torn(bytes: &[u8]) -> (&[u8], &[u8]) {
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.split_at(last.map_or(0, |last| last + 1))
}

/// A line that was cut short ends early. One that is whole up to its newline was damaged there, and
/// whoever wrote it was told that it is durable.
pub(super) fn check_torn(lines_before: u64, torn: &[u8]) -> Result<(), BadLine> {
    let whole = torn
        .split_last()
        .is_some_and(|(_, text)| Line::read(text).is_ok());
    if whole {
        return Err(bad(
            CURRENT,
            lines_before + 1,
            "its newline is another byte",
        ));
    }
    Ok(())
}

fn check(text: &[u8], chain: Option<&Chain>) -> Result<Line, &'static str> {
    let line = Line::read(text)?;
    match chain {
        Some(chain) => chain.check(&line)?,
        None if line.seq == 1 => Chain::start().check(&line)?,
        // The files before it are gone.
        None => {}
    }
    Ok(line)
}
