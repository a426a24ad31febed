//! The journal: who did what, one JSON line each, and each line names the hash of the one before. A
//! line is on the disk when [`Journal::append`], or [`Journal::sync`] after it was written, has returned. It is history, not state: nothing is
//! decided by it. It shows damage and careless edits, not the work of someone who writes the whole
//! chain anew.
//!
//! `journal.jsonl` is appended to; when full it becomes `journal-000000000123.jsonl` after its last
//! line's number, and the chain goes on in a new one. So many of these are kept; older ones may also
//! be carried off, oldest first.

mod line;
mod read;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write as _;

use jiff::Timestamp;
use rustix::fs;

use self::line::Chain;
pub use self::line::{Event, Line};
pub use self::read::{Found, Reader};
use self::read::{check_torn, split_torn};
use crate::dir::{Dir, DirError};

const CURRENT: &str = "journal.jsonl";
const MODE: u32 = 0o600;
/// A file that is as large is put aside; it holds the longest line several times.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// How many files that were put aside are kept.
const FILES_ASIDE_MAX: usize = 16;

/// The journal of one daemon, open to append.
#[derive(Debug)]
pub struct Journal {
    dir: Dir,
    file: File,
    /// How much of the file is whole lines.
    bytes: u64,
    /// Whether something may follow them that an append that failed left behind.
    dirty: bool,
    chain: Chain,
    cut_bytes: u64,
    file_bytes_max: u64,
    files_aside_max: usize,
}

/// A line that is not what was written, or not where it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of `{file}` is damaged: {why}")]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// The line's number in it, from 1 on.
    pub line: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The journal cannot be read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file of it cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A line is damaged.
    #[error(transparent)]
    Bad(#[from] BadLine),
    /// An event has no JSON form.
    #[error("cannot write an event as JSON")]
    Encode(#[from] serde_json::Error),
}

impl JournalError {
    /// Whether the same may succeed when it is tried again, perhaps after its cause is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dir(error) => error.errno().is_some(),
            Self::Bad(_) | Self::Encode(_) => false,
        }
    }
}

impl Journal {
    /// Opens the journal of a directory, or begins one. A last line that was cut short, which nobody
    /// was told of, is removed.
    ///
    /// # Errors
    /// When a file cannot be used or the last whole line is damaged. Lines before it are checked by
    /// [`Self::verify`] alone.
    pub fn open(dir: &Dir) -> Result<Self, JournalError> {
        Self::open_bounded(dir, FILE_BYTES_MAX, FILES_ASIDE_MAX)
    }

    fn open_bounded(
        dir: &Dir,
        file_bytes_max: u64,
        files_aside_max: usize,
    ) -> Result<Self, JournalError> {
        let file = dir.append_file(CURRENT, MODE)?;
        let bytes = dir.read(CURRENT, FILE_BYTES_MAX)?;
        let (lines, torn) = split_torn(&bytes);
        let last = last_line(CURRENT, lines)?;
        check_torn(split_lines(lines).count() as u64, torn)?;
        let mut chain = last.as_ref().map(Chain::after);
        if chain.is_none()
            && let Some(file) = files(dir)?.iter().rev().nth(1)
        {
            let last = last_line(file, &dir.read(file, FILE_BYTES_MAX)?)?;
            chain = last.as_ref().map(Chain::after);
        }
        let mut journal = Self {
            dir: dir.try_clone()?,
            file,
            bytes: lines.len() as u64,
            dirty: !torn.is_empty(),
            chain: chain.unwrap_or_else(Chain::start),
            cut_bytes: torn.len() as u64,
            file_bytes_max,
            files_aside_max,
        };
        journal.clean()?;
        journal.sync()?;
        journal.dir.sync()?;
        Ok(journal)
    }

    /// Returns how many bytes of a last line that was cut short were removed at the opening.
    #[must_use]
    pub const fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Appends a line; it is durable when this returns. Returns its number.
    ///
    /// # Errors
    /// When it cannot be written; the journal is as it was then, and takes the next line. After
    /// [`DirError::Sync`] the line is there, and perhaps not durable.
    pub fn append(&mut self, at: Timestamp, event: Event) -> Result<u64, JournalError> {
        let seq = self.write_all([(at, event)])?;
        self.sync()?;
        Ok(seq)
    }

    /// Appends lines: who reads the journal sees them when this returns, and so they survive the end of
    /// this process; they are durable after [`Self::sync`]. Returns the number of the last.
    ///
    /// # Errors
    /// As [`Self::append`]; of several lines the first may be there.
    pub fn write_all(
        &mut self,
        events: impl IntoIterator<Item = (Timestamp, Event)>,
    ) -> Result<u64, JournalError> {
        let (mut text, mut chain) = (String::new(), self.chain.clone());
        for (at, event) in events {
            let (line, next) = chain.seal(at, event)?;
            let added = line.len() as u64;
            if added > self.file_bytes_max {
                let (path, bytes_max) = (CURRENT.to_owned(), self.file_bytes_max);
                return Err(DirError::TooLong { path, bytes_max }.into());
            }
            if self.bytes + text.len() as u64 + added > self.file_bytes_max {
                self.put(&text, chain)?;
                text.clear();
                self.rotate()?;
            }
            text.push_str(&line);
            chain = next;
        }
        self.put(&text, chain)?;
        Ok(self.chain.seq)
    }

    /// Puts whole lines, which end a chain, behind those that are there.
    fn put(&mut self, text: &str, chain: Chain) -> Result<(), JournalError> {
        self.clean()?;
        if text.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| DirError::io("write", CURRENT, error))?;
        self.dirty = false;
        self.bytes += text.len() as u64;
        self.chain = chain;
        Ok(())
    }

    /// Reads every line and checks that they are one chain, up to the line that was written last;
    /// returns how many there are. Where the oldest files were carried off, the first line that is
    /// left is believed.
    ///
    /// # Errors
    /// With the first line that is damaged or out of place.
    pub fn verify(&self) -> Result<u64, JournalError> {
        let found = Reader::new(self.dir.try_clone()?).read(drop)?;
        if found.last.unwrap_or_default() < self.chain.seq {
            let why = "the lines after it are gone";
            return Err(bad(CURRENT, found.newest_lines, why).into());
        }
        Ok(found.lines)
    }

    /// Returns the newest lines, at most so many, oldest first.
    ///
    /// # Errors
    /// When one of them is damaged.
    pub fn tail(&self, lines_max: usize) -> Result<Vec<Line>, JournalError> {
        let mut lines = Vec::new();
        for file in files(&self.dir)?.iter().rev() {
            let bytes = self.dir.read(file, FILE_BYTES_MAX)?;
            let texts: Vec<&[u8]> = split_lines(&bytes).collect();
            let wanted = lines_max - lines.len();
            for (index, text) in texts.iter().enumerate().rev().take(wanted) {
                let line = Line::read(text).map_err(|why| bad(file, index as u64 + 1, why))?;
                lines.push(line);
            }
        }
        lines.reverse();
        Ok(lines)
    }

    /// Cuts off what follows the last whole line.
    fn clean(&mut self) -> Result<(), DirError> {
        if self.dirty {
            self.file
                .set_len(self.bytes)
                .map_err(|error| DirError::io("cut", CURRENT, error))?;
            self.dirty = false;
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), DirError> {
        self.sync()?;
        let aside = format!("journal-{:012}.jsonl", self.chain.seq);
        match self.dir.rename(CURRENT, &self.dir, &aside) {
            // An earlier try came so far, and could not open the new one.
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.file = self.dir.append_file(CURRENT, MODE)?;
        self.bytes = 0;
        self.dir.sync()?;
        let aside = names_aside(&self.dir)?;
        let kept = aside.len().min(self.files_aside_max);
        for name in aside.iter().take(aside.len() - kept) {
            self.dir.remove_file(name)?;
        }
        Ok(())
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&self) -> Result<(), DirError> {
        fs::fdatasync(&self.file).map_err(|errno| DirError::sync(CURRENT, errno))
    }
}

/// Returns the files of the journal, oldest first; the one that is appended to comes last.
fn files(dir: &Dir) -> Result<Vec<String>, DirError> {
    let mut files = names_aside(dir)?;
    files.push(CURRENT.to_owned());
    Ok(files)
}

/// Returns the files that were put aside, oldest first.
fn names_aside(dir: &Dir) -> Result<Vec<String>, DirError> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in dir.entries()? {
        let aside = |name: &&str| name.starts_with("journal-") && name.ends_with(".jsonl");
        names.extend(name.to_str().filter(aside).map(str::to_owned));
    }
    Ok(names)
}

/// Splits whole lines; what follows the last newline counts as one more.
fn split_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

fn last_line(file: &str, lines: &[u8]) -> Result<Option<Line>, BadLine> {
    let Some((index, text)) = split_lines(lines).enumerate().last() else {
        return Ok(None);
    };
    Line::read(text)
        .map(Some)
        .map_err(|why| bad(file, index as u64 + 1, why))
}

fn bad(file: &str, line: u64, why: &'static str) -> BadLine {
    BadLine {
        file: file.to_owned(),
        line,
        why,
    }
}
