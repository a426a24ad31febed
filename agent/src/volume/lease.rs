//! The lock by which a process says that it uses a release. It ends with the process, however that
//! ends, and works through read-only mounts and across containers.

use std::fs::File;

use codevol_store::dir::{Dir, DirError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::marker::MARKER;

/// Says that this process uses a release, as long as the file is open. Nothing where the release
/// has no marker to lock.
pub(super) fn use_release(release: &Dir) -> Result<Option<File>, DirError> {
    let file = match release.open_file(MARKER) {
        Ok(file) => file,
        Err(error) => return super::check::no_file(error),
    };
    Ok(take(&file, FlockOperation::NonBlockingLockShared)?.then_some(file))
}

/// Whether a release may be removed.
#[derive(Debug)]
pub(super) enum Claim {
    /// Nobody says that it is used; and nobody can, as long as the file is open.
    Free(Option<File>),
    /// Some process says so.
    Used,
}

/// Claims a release for its removal.
pub(super) fn claim(release: &Dir) -> Result<Claim, DirError> {
    let file = match release.open_file(MARKER) {
        Ok(file) => file,
        Err(error) => {
            super::check::no_file::<()>(error)?;
            return Ok(Claim::Free(None));
        }
    };
    Ok(if take(&file, FlockOperation::NonBlockingLockExclusive)? {
        Claim::Free(Some(file))
    } else {
        Claim::Used
    })
}

/// Takes a lock where nobody else has one.
fn take(file: &File, operation: FlockOperation) -> Result<bool, DirError> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(DirError::Io {
            action: "lock",
            path: MARKER.to_owned(),
            source: errno.into(),
        }),
    }
}
