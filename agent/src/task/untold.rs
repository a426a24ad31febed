//! What the source may not have heard: that this node found a release broken and went back by itself.
//! The next `Hello` then says what was active and how it stood, and the return follows: the source
//! hears it in the order in which it happened, and asks nobody for that release once more.

use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{Active, Verification};

/// A return by itself of which the source may not know.
#[derive(Debug, Default)]
pub(super) struct Untold {
    left: Option<Active>,
    is_in_hello: bool,
}

impl Untold {
    /// Notes which release was left, and what was found of it.
    pub(super) fn went_back(&mut self, broken: ReleaseId, found: Verification) {
        self.left = Some(Active {
            release: broken,
            verification: Some(found),
        });
        self.is_in_hello = false;
    }

    /// Returns what `Hello` is to say of the active release in place of what is active.
    pub(super) fn hello(&mut self) -> Option<Active> {
        self.is_in_hello = self.left.is_some();
        self.left.clone()
    }

    /// The source has greeted. Returns whether it is to be told of the return.
    pub(super) fn greeted(&mut self) -> bool {
        let is_told = std::mem::take(&mut self.is_in_hello);
        if is_told {
            self.left = None;
        }
        is_told
    }

    /// The source has asked for something since: it knew then.
    pub(super) fn asked(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::evidence::{Evidence, Verdict};

    use super::*;

    fn broken() -> Active {
        let found = Verification {
            verdict: Verdict::Broken,
            evidence: Evidence::Activated,
            code_servers: Vec::new(),
            failure: None,
            elapsed_ms: 1,
        };
        Active {
            release: ReleaseId::of(b"broken"),
            verification: Some(found),
        }
    }

    fn left() -> Untold {
        let mut untold = Untold::default();
        let Active {
            release,
            verification,
        } = broken();
        untold.went_back(release, verification.unwrap());
        untold
    }

    #[test]
    fn a_return_while_the_source_is_away_is_told_when_it_is_back() {
        let mut untold = left();
        // Of the link before: it says nothing of what the source knows.
        assert!(!untold.greeted());
        assert_eq!(untold.hello(), Some(broken()));
        // That link ended before the source said anything.
        assert_eq!(untold.hello(), Some(broken()));
        assert!(untold.greeted());
        assert!(!untold.greeted());
        assert_eq!(untold.hello(), None);
    }

    #[test]
    fn a_return_that_the_source_has_acted_upon_is_not_told_again() {
        let mut untold = left();
        untold.asked();
        assert_eq!(untold.hello(), None);
        assert!(!untold.greeted());
    }
}
