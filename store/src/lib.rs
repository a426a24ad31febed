//! What outlives a process: directories pinned by descriptor, files replaced whole, and the durable
//! state that source and agent keep in them. It decides nothing about releases and knows no peer.
//!
//! ```text
//! dir        calls relative to a descriptor that no link and no mount can lead astray
//! persist    one small file: replaced whole, or made if absent; durable when it returns
//! blanks     empty files made in advance, where a new one is waited for
//! lock       one daemon a directory
//! state_dir  STATE: the lock, the journal, a folder a volume
//! state      small documents, held in memory, replaced whole
//! wal        what makes a small release durable with one write (source)
//! landing    many files durably under their names, at the price of one
//! together   several files and directories made durable at the same time
//! register   small values that are replaced often, in place
//! manifests  canonical manifests by id
//! blobs      the bytes of files by hash (source)
//! pieces     a tree handed over piece by piece
//! log        the release log: one record a seq, first writer wins (source)
//! journal    who did what, line by line, each chained to the one before
//! ```

pub mod blanks;
pub mod blobs;
pub mod dir;
pub mod journal;
pub mod landing;
pub mod lock;
pub mod log;
pub mod manifests;
pub mod persist;
pub mod pieces;
pub mod recorder;
pub mod register;
pub mod state;
pub mod state_dir;
pub mod together;
pub mod wal;
