//! Faults that a test plans for its own thread.

use std::cell::Cell;

use codevol_store::dir::DirError;
use rustix::io::Errno;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volume) enum Fault {
    /// The process is gone: no later step is made either.
    Crash,
    /// The disk fails once.
    Once(Errno),
}

thread_local! {
    static PLANNED: Cell<Option<(usize, Fault)>> = const { Cell::new(None) };
    static FREE_BYTES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Plans a fault after so many steps. [`clear`] tells whether it came to that.
pub(super) fn plan(steps: usize, fault: Fault) {
    PLANNED.set(Some((steps, fault)));
}

/// Plans no fault any more; returns whether the planned one had happened.
pub(super) fn clear() -> bool {
    match PLANNED.take() {
        Some((steps, Fault::Crash)) => steps == 0,
        Some((_, Fault::Once(_))) => false,
        None => true,
    }
}

/// Pretends that so much is free.
pub(super) fn pretend_free(bytes: u64) {
    FREE_BYTES.set(Some(bytes));
}

pub(in crate::volume) fn free_bytes() -> Option<u64> {
    FREE_BYTES.get()
}

pub(in crate::volume) fn step() -> Result<(), DirError> {
    let (errno, next) = match PLANNED.get() {
        None => return Ok(()),
        Some((0, Fault::Crash)) => (Errno::IO, Some((0, Fault::Crash))),
        Some((0, Fault::Once(errno))) => (errno, None),
        Some((steps, fault)) => {
            PLANNED.set(Some((steps - 1, fault)));
            return Ok(());
        }
    };
    PLANNED.set(next);
    Err(DirError::Io {
        action: "make the step at",
        path: "planned fault".to_owned(),
        source: errno.into(),
    })
}
