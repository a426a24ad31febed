//! How many fleets with real Dagster run at once, over all test processes of this checkout.

use std::fs::{File, TryLockError};

use crate::binary::target_dir;
use crate::wait::wait_patiently;

/// Importing Dagster takes a core for a second: more fleets than this starve each other.
const FLEETS_MAX: usize = 2;

/// The right to run one fleet with real Dagster, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _lock: File,
}

impl Slot {
    /// Waits for one.
    ///
    /// # Panics
    /// When the target folder cannot be written.
    #[must_use]
    pub fn take() -> Self {
        wait_patiently(|| {
            let mut slots = (0..FLEETS_MAX).map(|n| format!("dagster-slot-{n}.lock"));
            slots.find_map(|name| {
                let lock = File::create(target_dir().join(name)).expect("a slot is opened");
                match lock.try_lock() {
                    Ok(()) => Some(Self { _lock: lock }),
                    Err(TryLockError::WouldBlock) => None,
                    Err(TryLockError::Error(error)) => panic!("cannot lock a slot: {error}"),
                }
            })
        })
    }
}
