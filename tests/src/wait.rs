//! Waiting for a state, under a deadline.

use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `probe` finds what it looks for, and returns that.
///
/// # Panics
/// When the deadline passes, with what was seen last.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let last = match probe() {
            Ok(found) => return found,
            Err(last) => last,
        };
        assert!(
            began.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain for: {what}\nlast seen: {last}"
        );
        thread::sleep(INTERVAL);
    }
}

/// Waits without a deadline of its own, for what other tests of this run hold.
pub(crate) fn wait_patiently<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    loop {
        match probe() {
            Some(found) => return found,
            None => thread::sleep(INTERVAL),
        }
    }
}

/// Waits until `holds` does.
///
/// # Panics
/// When the deadline passes.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || {
        holds()
            .then_some(())
            .ok_or_else(|| "it is not so".to_owned())
    });
}
