//! The release log: append-only, one file a seq, and the first writer of a seq wins. A record is
//! written under a temporary name, made durable with all that it names, then linked to its seq: a torn one never counts.
//! Signatures are not its business; that bytes are those once written, and that each record names
//! the one before it, is.
//!
//! A log that was restored from a backup takes in what others have kept. Where not all of it can be
//! had, a gap is noted before the record that follows: `000042.gap`. Nothing else passes for one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codevol_protocol::codec::{self, DecodeError};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::release::{Release, ReleaseError, Seq, SignedRelease};

use crate::dir::{Dir, DirError};
use crate::landing::{Arrival, Content, Landing};
use crate::persist::{self, Created};
use crate::wal::Place;

const MODE: u32 = 0o600;
/// A few texts and fingerprints, each bounded.
const RECORD_BYTES_MAX: u64 = 16 << 20;
const CHECKSUM_BYTES: usize = 32;
const GAP: &str = ".gap";

/// The log of one volume, all of it in memory as well.
#[derive(Debug)]
pub struct Log {
    dir: Arc<Dir>,
    /// By seq, rising.
    records: Vec<Record>,
    /// The seqs before which records are lost.
    gaps: BTreeSet<Seq>,
    seqs: BTreeMap<ReleaseId, Seq>,
}

/// One release of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: ReleaseId,
    /// What it says.
    pub release: Release,
    /// As it travels.
    pub signed: SignedRelease,
}

/// A record that is to be appended.
#[derive(Debug)]
#[must_use]
pub enum Next {
    /// A record of its seq is in the log already.
    Held(Append),
    /// It is to land with what it names.
    New(Box<Record>),
}

/// Whose record stands at a seq now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Append {
    /// The one that was to be appended; it is durable.
    Appended,
    /// Another, which was there first.
    Lost,
}

/// The log cannot be read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file of it cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A file holds other bytes than were written.
    #[error("log record `{name}` is damaged")]
    Damaged {
        /// The file.
        name: String,
    },
    /// A file's bytes are no signed release.
    #[error("log record `{name}` does not decode")]
    Decode {
        /// The file.
        name: String,
        /// Why not.
        source: DecodeError,
    },
    /// A file's release breaks a rule.
    #[error("log record `{name}` is no release")]
    Release {
        /// The file.
        name: String,
        /// Which rule.
        source: ReleaseError,
    },
    /// A record is not the next one: of another seq, or with another parent than the one before it.
    #[error("record `{name}` does not follow {newest}")]
    Chain {
        /// The record's file.
        name: String,
        /// The newest record before it.
        newest: Seq,
    },
}

/// No single release is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// None begins so.
    #[error("no release has an id that begins with `{}`", .0.escape_debug())]
    None(String),
    /// Several begin so.
    #[error("{count} releases have an id that begins with `{prefix}`")]
    Several {
        /// What was asked for.
        prefix: String,
        /// How many there are.
        count: usize,
    },
}

impl Log {
    /// Reads the whole log, checks that it is one chain from the first release on, and removes what
    /// was never finished. Each record is durable when this returns.
    ///
    /// # Errors
    /// When a record cannot be read, is damaged, or does not follow the one before it.
    pub fn open(dir: &Dir) -> Result<Self, LogError> {
        persist::take_over(dir)?;
        let (mut seqs, mut gaps) = (Vec::new(), BTreeSet::new());
        for (file, _) in dir.entries()? {
            let text = file.to_str().unwrap_or_default();
            let digits = text.strip_suffix(GAP).unwrap_or(text);
            match digits.parse().map(Seq) {
                Ok(seq) if *name(seq) == *file => seqs.push(seq),
                Ok(seq) if *gap(seq) == *file => drop(gaps.insert(seq)),
                Ok(_) | Err(_) => {
                    tracing::warn!(file = %file.display(), "not a record of the log");
                }
            }
        }
        seqs.sort_unstable();
        let mut log = Self {
            dir: Arc::new(dir.try_clone()?),
            records: Vec::with_capacity(seqs.len()),
            gaps,
            seqs: BTreeMap::new(),
        };
        for seq in seqs {
            let record = log.load(seq)?;
            log.follow(record, seq)?;
        }
        Ok(log)
    }

    /// Puts a record that was written ahead in its place, unless a whole one stands there. Before the
    /// log is opened.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(dir: &Dir, name: &str, bytes: &[u8]) -> Result<(), DirError> {
        match dir.read(name, RECORD_BYTES_MAX) {
            Ok(held) if body(&held).is_some() => Ok(()),
            Err(error) if !error.is_not_found() => Err(error),
            // A power cut took its bytes or its name.
            Ok(_) | Err(_) => persist::write(dir, name, MODE, bytes),
        }
    }

    /// Has the record that is to follow the newest one land, last, together with what it names. A record
    /// that stands there already is prepared and appended once more without harm.
    ///
    /// # Errors
    /// When it is not the next record.
    pub fn prepare(&self, signed: &SignedRelease, landing: &mut Landing) -> Result<Next, LogError> {
        let record = parse(signed.clone(), "new")?;
        let seq = record.release.seq;
        if let Some(held) = self.get(seq) {
            return Ok(Next::Held(verdict(held, &record)));
        }
        self.check_next(&record, seq)?;
        landing.set_last(Arrival {
            place: Place::Log,
            dir: self.dir.clone(),
            path: name(seq),
            mode: MODE,
            content: Content::Bytes(bytes_of(signed)),
        });
        Ok(Next::New(Box::new(record)))
    }

    /// Appends what was prepared and has landed.
    ///
    /// # Errors
    /// When it is not the next record any more, or the one that stands there cannot be read.
    pub fn append(&mut self, next: Next, landed: Created) -> Result<Append, LogError> {
        let record = match next {
            Next::Held(verdict) => return Ok(verdict),
            Next::New(record) => record,
        };
        let seq = record.release.seq;
        self.check_next(&record, seq)?;
        match landed {
            Created::New => {
                self.follow(*record, seq)?;
                Ok(Append::Appended)
            }
            Created::Exists => {
                let winner = self.load(seq)?;
                let verdict = verdict(&winner, &record);
                self.follow(winner, seq)?;
                Ok(verdict)
            }
        }
    }

    /// Takes in a record that was lost here and that somebody else has kept; says whether it is new.
    /// Where it does not follow the one before it, that there is a gap is durable before it is. It may come
    /// late: before one that stands behind a gap there is room.
    ///
    /// # Errors
    /// When it is no release, or the disk fails.
    pub fn take_in(&mut self, signed: &SignedRelease) -> Result<Append, LogError> {
        let record = parse(signed.clone(), "taken in")?;
        let seq = record.release.seq;
        if let Some(held) = self.get(seq) {
            return Ok(verdict(held, &record));
        }
        let at = self.records.partition_point(|r| r.release.seq < seq);
        if !follows(
            at.checked_sub(1)
                .and_then(|before| self.records.get(before)),
            &record,
        ) {
            persist::write(&self.dir, &gap(seq), MODE, b"")?;
            self.gaps.insert(seq);
        }
        let record = match persist::create(&self.dir, &name(seq), MODE, &bytes_of(signed))? {
            Created::New => record,
            Created::Exists => self.load(seq)?,
        };
        self.seqs.insert(record.id, seq);
        self.records.insert(at, record);
        Ok(Append::Appended)
    }

    /// Returns the last record before the first gap; nothing where there is none.
    #[must_use]
    pub fn before_gap(&self) -> Option<Seq> {
        let first = self.gaps.first()?;
        let mut before = self.records.iter().map(|r| r.release.seq);
        Some(before.rfind(|seq| seq < first).unwrap_or(Seq(0)))
    }

    /// Returns the record of a seq.
    #[must_use]
    pub fn get(&self, seq: Seq) -> Option<&Record> {
        let found = self.records.binary_search_by_key(&seq, |r| r.release.seq);
        self.records.get(found.ok()?)
    }

    /// Returns the record of an id.
    #[must_use]
    pub fn by_id(&self, id: &ReleaseId) -> Option<&Record> {
        self.get(*self.seqs.get(id)?)
    }

    /// Returns the one record whose id begins so.
    ///
    /// # Errors
    /// When none does, or several do.
    pub fn find(&self, prefix: &str) -> Result<&Record, FindError> {
        let mut found = self
            .iter()
            .filter(|record| !prefix.is_empty() && record.id.to_string().starts_with(prefix));
        match (found.next(), found.count()) {
            (None, _) => Err(FindError::None(prefix.to_owned())),
            (Some(record), 0) => Ok(record),
            (Some(_), more) => Err(FindError::Several {
                prefix: prefix.to_owned(),
                count: more + 1,
            }),
        }
    }

    /// Returns the newest record; nothing before the first release.
    #[must_use]
    pub fn newest(&self) -> Option<&Record> {
        self.records.last()
    }

    /// Returns all records, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.records.iter()
    }

    fn load(&self, seq: Seq) -> Result<Record, LogError> {
        let name = name(seq);
        let bytes = self.dir.read(&name, RECORD_BYTES_MAX)?;
        let Some(body) = body(&bytes) else {
            return Err(LogError::Damaged { name });
        };
        match codec::decode(body) {
            Ok(signed) => parse(signed, &name),
            Err(source) => Err(LogError::Decode { name, source }),
        }
    }

    fn check_next(&self, record: &Record, seq: Seq) -> Result<(), LogError> {
        let newest = self.newest();
        let last = newest.map_or(Seq(0), |newest| newest.release.seq);
        let is_behind_gap = seq > last && self.gaps.contains(&seq);
        if record.release.seq == seq && (follows(newest, record) || is_behind_gap) {
            Ok(())
        } else {
            Err(LogError::Chain {
                name: name(seq),
                newest: last,
            })
        }
    }

    fn follow(&mut self, record: Record, seq: Seq) -> Result<(), LogError> {
        self.check_next(&record, seq)?;
        self.seqs.insert(record.id, seq);
        self.records.push(record);
        Ok(())
    }
}

/// Whether nothing is between them.
fn follows(before: Option<&Record>, record: &Record) -> bool {
    let last = before.map_or(Seq(0), |before| before.release.seq);
    record.release.seq.0 == last.0 + 1 && record.release.parent == before.map(|before| before.id)
}

/// Returns what stands before the checksum, if that is its own.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    (blake3::hash(body).as_bytes() == checksum).then_some(body)
}

fn parse(signed: SignedRelease, name: &str) -> Result<Record, LogError> {
    let release = signed.read().map_err(|source| LogError::Release {
        name: name.to_owned(),
        source,
    })?;
    Ok(Record {
        id: signed.id(),
        release,
        signed,
    })
}

/// The same record with another signature is the same release.
fn verdict(held: &Record, record: &Record) -> Append {
    if held.id == record.id {
        Append::Appended
    } else {
        Append::Lost
    }
}

/// Returns what is written for a record.
fn bytes_of(signed: &SignedRelease) -> Vec<u8> {
    let mut bytes = codec::encode(signed);
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    bytes
}

fn name(seq: Seq) -> String {
    format!("{:06}", seq.0)
}

fn gap(seq: Seq) -> String {
    format!("{}{GAP}", name(seq))
}
