//! Writing the marker at the root of each release.

use std::io::Write as _;

use codevol_protocol::marker::Marker;
use codevol_store::blanks::Blanks;
use codevol_store::dir::{Dir, DirError};

pub use codevol_protocol::marker::MARKER;

use super::held::Held;

/// No marker is longer, in bytes.
const BYTES_MAX: u64 = 64 << 10;

pub(super) fn write(tree: &Dir, held: &Held, blanks: &Blanks) -> Result<(), DirError> {
    let error = |source| DirError::Io {
        action: "write",
        path: MARKER.to_owned(),
        source,
    };
    let marker = Marker::new(held.id(), held.release(), held.manifest());
    let mut bytes = serde_json::to_vec(&marker).map_err(|e| error(e.into()))?;
    bytes.push(b'\n');
    let mut file = blanks.create_file(tree, MARKER, 0o644)?;
    file.write_all(&bytes).map_err(error)
}

/// Whether the marker of a release stands there, and not only a part of it.
pub(super) fn stands(tree: &Dir, held: &Held) -> Result<bool, DirError> {
    match tree.read(MARKER, BYTES_MAX) {
        Ok(bytes) => {
            Ok(serde_json::from_slice::<Marker>(&bytes).is_ok_and(|marker| marker.id == held.id()))
        }
        Err(DirError::TooLong { .. } | DirError::WrongKind { .. }) => Ok(false),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
