//! `.codevol-release.json` at the root of each release: for people, for Python code, and for the
//! shared lock by which a process says that it uses the release.

use std::io::Write as _;

use codevol_protocol::release::{Git, UnixMillis};
use codevol_store::dir::{Dir, DirError};
use serde::Serialize;

use super::held::Held;

/// The file's name.
pub const MARKER: &str = ".codevol-release.json";

#[derive(Serialize)]
struct Marker<'a> {
    schema: &'static str,
    volume: &'a str,
    seq: u64,
    id: String,
    manifest: String,
    parent: Option<String>,
    origin: String,
    created_at: Option<String>,
    author: &'a str,
    message: &'a str,
    git: Option<&'a Git>,
    files: usize,
    bytes: u64,
}

pub(super) fn write(tree: &Dir, held: &Held) -> Result<(), DirError> {
    let error = |source| DirError::Io {
        action: "write",
        path: MARKER.to_owned(),
        source,
    };
    let mut bytes = serde_json::to_vec(&marker(held)).map_err(|e| error(e.into()))?;
    bytes.push(b'\n');
    let mut file = tree.create_file(MARKER, 0o644)?;
    file.write_all(&bytes).map_err(error)
}

fn marker(held: &Held) -> Marker<'_> {
    let release = held.release();
    Marker {
        schema: "codevol.release/1",
        volume: release.volume.as_str(),
        seq: release.seq.0,
        id: held.id().to_string(),
        manifest: release.manifest.to_string(),
        parent: release.parent.map(|id| id.to_string()),
        origin: release.origin.to_string(),
        created_at: rfc3339(release.created_at),
        author: release.author.as_str(),
        message: release.message.as_str(),
        git: release.git.as_ref(),
        files: held.manifest().files(),
        bytes: release.total_bytes,
    }
}

/// The moment is the publisher's word: one that no calendar has is left out.
fn rfc3339(at: UnixMillis) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(at.to_string())
}
