//! The clock: tokens end by it, and what happened when is told by it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::config::Loaded;
use crate::config::check::state_dir;

/// Before the first line of this program was written, in seconds since the epoch.
const EARLIEST_S: u64 = 1_735_689_600;
/// How far two clocks may differ: what was written last may come from another machine, by a backup.
const AHEAD_MAX: Duration = Duration::from_secs(120);
/// No more files are looked at.
const FILES_MAX: usize = 10_000;
const MEND: &str = "set the clock, and keep it set: `timedatectl set-ntp true`";

/// Looks whether anything of ours was written later than now.
pub(super) fn look(loaded: &Loaded) -> Check {
    let newest = written(&loaded.path).into_iter().chain(
        fs::read_dir(state_dir(&loaded.config))
            .into_iter()
            .flatten()
            .flatten()
            .take(FILES_MAX)
            .filter_map(|entry| written(&entry.path())),
    );
    judge(SystemTime::now(), newest.max())
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn judge(now: SystemTime, newest: Option<SystemTime>) -> Check {
    let earliest = SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST_S);
    if now < earliest {
        return Check::wrong("clock", "the clock stands years in the past").mend(MEND);
    }
    let ahead = newest.and_then(|newest| newest.duration_since(now).ok());
    match ahead.filter(|ahead| *ahead > AHEAD_MAX) {
        Some(ahead) => {
            let by = ahead.as_secs();
            let message =
                format!("a file of codevol's was written {by} s after now, by this clock");
            Check::wrong("clock", message).mend(MEND)
        }
        None => Check::ok("clock", "nothing of codevol's was written later than now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_clock_that_was_set_back_shows_by_what_was_written() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST_S) * 2;
        let state = |newest| judge(now, newest).state;
        assert_eq!(state(None), State::Ok);
        assert_eq!(state(Some(now - Duration::from_secs(1))), State::Ok);
        assert_eq!(state(Some(now + AHEAD_MAX)), State::Ok);
        let later = now + AHEAD_MAX + Duration::from_secs(1);
        assert_eq!(state(Some(later)), State::Wrong);
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(judge(past, None).state, State::Wrong);
    }
}
