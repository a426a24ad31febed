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

/// Whether some process says that it uses a release.
pub(super) fn is_used(release: &Dir) -> Result<bool, DirError> {
    let file = match release.open_file(MARKER) {
        Ok(file) => file,
        Err(error) => return Ok(super::check::no_file::<()>(error)?.is_some()),
    };
    Ok(!take(&file, FlockOperation::NonBlockingLockExclusive)?)
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
