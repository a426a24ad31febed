//! Writing the marker at the root of each release.

use std::io::Write as _;

use codevol_protocol::marker::Marker;
use codevol_store::dir::{Dir, DirError};

pub use codevol_protocol::marker::MARKER;

use super::held::Held;

pub(super) fn write(tree: &Dir, held: &Held) -> Result<(), DirError> {
    let error = |source| DirError::Io {
        action: "write",
        path: MARKER.to_owned(),
        source,
    };
    let marker = Marker::new(held.id(), held.release(), held.manifest());
    let mut bytes = serde_json::to_vec(&marker).map_err(|e| error(e.into()))?;
    bytes.push(b'\n');
    let mut file = tree.create_file(MARKER, 0o644)?;
    file.write_all(&bytes).map_err(error)
}
