//! What a hot-fix from elsewhere is about to do to the tree, as STATE says it: whatever the process
//! lived to do of it, the next one does the rest.

use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::Entry;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::{Git, Seq};
use codevol_store::dir::Dir;
use codevol_store::state::{Document, StateError};
use serde::{Deserialize, Serialize};

const NAME: &str = "write-through.json";
const SCHEMA: &str = "codevol.write-through/1";

/// A hot-fix on its way into the tree and into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WriteIntent {
    /// The release that it becomes: where the log has that, it was appended.
    pub(super) seq: Seq,
    /// What it is laid over.
    pub(super) base: Option<ReleaseId>,
    /// The files.
    pub(super) writes: Vec<Write>,
    pub(super) author: Text,
    pub(super) host: Text,
    pub(super) message: Text,
    pub(super) git: Option<Git>,
}

/// A file of a hot-fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Write {
    pub(super) path: RelPath,
    /// What is to stand there.
    pub(super) entry: Entry,
    /// What stood there when it was decided: anything else is somebody's edit.
    pub(super) before: Option<Entry>,
}

/// Where the intent of a volume is kept: one at the most.
#[derive(Debug)]
pub(super) struct Intents {
    dir: Dir,
}

impl Intents {
    pub(super) const fn new(dir: Dir) -> Self {
        Self { dir }
    }

    /// Returns what was begun and not ended.
    pub(super) fn pending(&self) -> Result<Option<WriteIntent>, StateError> {
        let kept: Option<Document<WriteIntent>> = Document::open(&self.dir, NAME, SCHEMA)?;
        Ok(kept.map(|kept| kept.get().clone()))
    }

    /// Begins, durably.
    pub(super) fn begin(&self, intent: WriteIntent) -> Result<(), StateError> {
        Document::create(&self.dir, NAME, SCHEMA, intent)?;
        Ok(())
    }

    /// Ends, durably.
    pub(super) fn end(&self) -> Result<(), StateError> {
        self.dir.remove_file(NAME)?;
        self.dir.sync()?;
        Ok(())
    }
}
