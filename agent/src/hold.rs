//! What a volume's task keeps in STATE of what persons said, and of what it found broken: both outlast
//! a restart, with or without a source.

use codevol_protocol::hold::{Hold, HoldReport, Thawed};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::VolumeName;
use serde::{Deserialize, Serialize};

/// The schema of [`Kept`].
pub const HOLD_SCHEMA: &str = "codevol.hold/1";
/// How many broken releases are remembered: more than are ever held.
const BROKEN_MAX: usize = 64;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Set while a person has this node stay where it is.
    pub hold: Option<Hold>,
    /// How that ended last.
    pub thawed: Option<Thawed>,
    /// Releases that this node left because they were broken, oldest first: it goes back to none of
    /// them unless a person names it.
    pub broken: Vec<ReleaseId>,
}

impl Kept {
    /// Returns it with a release that is broken.
    #[must_use]
    pub fn with_broken(&self, release: ReleaseId) -> Self {
        let mut kept = self.without_broken(release);
        kept.broken.push(release);
        let over = kept.broken.len().saturating_sub(BROKEN_MAX);
        kept.broken.drain(..over);
        kept
    }

    /// Returns it with a release that is broken no more.
    #[must_use]
    pub fn without_broken(&self, release: ReleaseId) -> Self {
        let mut kept = self.clone();
        kept.broken.retain(|broken| *broken != release);
        kept
    }

    /// Returns what the source is told.
    #[must_use]
    pub fn report(&self, volume: VolumeName) -> HoldReport {
        HoldReport {
            volume,
            hold: self.hold.clone(),
            thawed: self.thawed.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_broken_releases_are_remembered_once_each() {
        let id = |n: usize| ReleaseId::of(&n.to_be_bytes());
        let mut kept = Kept::default();
        for n in (0..BROKEN_MAX + 3).chain([BROKEN_MAX]) {
            kept = kept.with_broken(id(n));
        }
        assert_eq!(kept.broken.len(), BROKEN_MAX);
        assert_eq!(kept.broken.first(), Some(&id(3)));
        assert_eq!(kept.broken.last(), Some(&id(BROKEN_MAX)));
        assert!(
            !kept
                .without_broken(id(BROKEN_MAX))
                .broken
                .contains(&id(BROKEN_MAX))
        );
    }
}
