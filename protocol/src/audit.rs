//! What a check of a daemon's journal found.

use serde::{Deserialize, Serialize};

use crate::name::Text;

/// A journal that was read line by line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The folder in which it lies, on its daemon's host.
    pub journal: Text,
    /// What was found.
    pub found: Audited,
}

/// Whether the lines of a journal are one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audited {
    /// They are.
    Whole(Whole),
    /// One is not what was written, or not where it was written.
    Damaged(DamagedLine),
}

/// A journal in which nothing is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Whole {
    /// How many files it has.
    pub files: u64,
    /// How many lines they have.
    pub lines: u64,
    /// The number of the first line: more than 1 where the oldest files are gone.
    pub first: Option<u64>,
    /// The number of the last line.
    pub last: Option<u64>,
    /// The bytes of a last line that was cut short.
    pub cut_bytes: u64,
}

/// The first line of a journal that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLine {
    /// The file.
    pub file: Text,
    /// The line's number in it, from 1 on.
    pub line: u64,
    /// What is wrong with it.
    pub why: Text,
}
