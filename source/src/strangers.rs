//! Whoever dials in and belongs to no fleet of ours: counted, and told of at each doubling, so that a
//! flood of them fills no log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};

/// How many there were since the start.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    count: AtomicU64,
}

impl Strangers {
    /// Counts one that was turned away.
    pub(crate) fn turned_away(&self, remote: SocketAddr, why: &dyn fmt::Display) {
        match self.count() {
            Some(strangers) => warn!(%remote, %why, strangers, "strangers were turned away"),
            None => debug!(%remote, %why, "stranger was turned away"),
        }
    }

    /// Counts one more, and returns how many there were where that is to be said.
    fn count(&self) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Some(count).filter(|count| count.is_power_of_two())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_told_of_a_few_times_with_their_count() {
        let strangers = Strangers::default();
        let told: Vec<u64> = (0..1_000).filter_map(|_| strangers.count()).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }
}
