//! How long to wait before the next try. Pure: the caller brings the randomness and does the waiting.

use std::time::Duration;

/// The waits between tries: each is drawn evenly between a fixed floor and a ceiling that doubles,
/// so that a fleet which lost its source at one moment does not come back at one moment.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns how long to wait before the next try. `random` is any evenly drawn number.
    pub fn next(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 1_u64
            .checked_shl(self.failures)
            .map_or(u64::MAX, |factor| FLOOR_MS.saturating_mul(factor));
        let ceiling_ms = doubled.min(CEILING_MS);
        Duration::from_millis(FLOOR_MS + random % (ceiling_ms - FLOOR_MS + 1))
    }

    /// Forgets the failures: a try succeeded.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

const FLOOR_MS: u64 = 100;
const CEILING_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings(backoff: &mut Backoff, tries: usize) -> Vec<u64> {
        // The largest of a round of draws: every remainder of the small ranges is among them.
        (0..tries)
            .map(|_| {
                let at = backoff.clone();
                backoff.next(0);
                let draws = (0..=CEILING_MS).map(|random| at.clone().next(random));
                u64::try_from(draws.max().unwrap().as_millis()).unwrap()
            })
            .collect()
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_bound_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let expected = [200, 400, 800, 1600, 3200, 5000, 5000];
        assert_eq!(ceilings(&mut backoff, expected.len()), expected);
        backoff.reset();
        assert_eq!(ceilings(&mut backoff, 2), [200, 400]);
    }

    #[test]
    fn no_wait_is_outside_the_bounds_however_often_it_failed() {
        let mut backoff = Backoff::default();
        for random in [0, 1, u64::MAX].into_iter().cycle().take(300) {
            let wait = backoff.next(random);
            assert!(wait >= Duration::from_millis(FLOOR_MS), "{wait:?}");
            assert!(wait <= Duration::from_millis(CEILING_MS), "{wait:?}");
        }
    }
}
