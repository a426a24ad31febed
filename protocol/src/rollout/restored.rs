//! What a restored source makes of nodes that know more than it: what they run was live. Whoever is
//! heard first may have been away, or be the one that just tried a newer release; so each adds what it
//! runs to the line of live releases, and the newest of them is live.

use std::collections::BTreeSet;

use super::{Frozen, Lived, Machine, Saved, Standing, Step, Waiting};
use crate::id::ReleaseId;
use crate::name::NodeName;
use crate::release::Seq;

impl Saved {
    /// Says that this comes from a backup. Nothing goes on before the volume is thawed; then the newest of
    /// what waited or was under way does, unless the nodes have gone past it.
    pub fn put_back(&mut self, frozen: Frozen) {
        self.frozen.get_or_insert(frozen);
        self.restored = true;
        let rollout = self.rollout.take();
        let ran = rollout.filter(|rollout| !matches!(rollout.step, Step::Return { .. }));
        let newest = self
            .waiting
            .pop()
            .or_else(|| ran.map(|rollout| rollout.target));
        self.waiting = Vec::from_iter(newest.map(|waiting| Waiting {
            wanted: false,
            ..waiting
        }));
    }
}

impl Machine {
    /// The numbers up to the newest are taken, and what was under way is over.
    pub(super) fn behind(&mut self, newest: Seq) {
        self.kept.restored = true;
        self.kept.seen = self.kept.seen.max(newest);
        self.kept.waiting.clear();
        self.give_up();
    }

    /// Takes in what a node runs, and how that stands there; nothing where the log was not restored, or
    /// lacks the release. To be told before [`Event::Online`] and [`Event::Returned`]: what follows is
    /// decided with those.
    ///
    /// [`Event::Online`]: super::Event::Online
    /// [`Event::Returned`]: super::Event::Returned
    pub fn take_in(
        &mut self,
        name: &NodeName,
        (release, standing): (ReleaseId, Standing),
        seq: impl Fn(ReleaseId) -> Option<Seq>,
    ) {
        // What a node is held on, one person wanted there: that says nothing of what is live.
        let counts = self.kept.restored && !self.is_held(name);
        let Some(number) = seq(release).filter(|_| counts) else {
            return;
        };
        let rollout = self.kept.rollout.as_ref();
        if rollout.is_some_and(|rollout| rollout.target.release == release) {
            // Its end decides.
            return;
        }
        let goes_past = |waiting: &Waiting| !waiting.wanted && seq(waiting.release) <= Some(number);
        self.kept.waiting.retain(|waiting| !goes_past(waiting));
        if self.is_quarantined(release) && !self.is_good_after_all(name, (release, standing)) {
            return;
        }
        if self.lived(release).is_none() && standing == Standing::Broken {
            // It is no place to lead others to, not even for a moment.
            self.quarantine(release, name, BTreeSet::new());
            return;
        }
        let is_newer = |lived: &Lived| seq(lived.release) > Some(number);
        if !self.kept.lived.last().is_some_and(is_newer) {
            if self.live() != Some(release) {
                self.go_live(release);
            }
        } else if self.lived(release).is_none() {
            let at = self.kept.lived.iter().position(is_newer).unwrap_or(0);
            let good = false;
            self.kept.lived.insert(at, Lived { release, good });
            self.shorten_line();
        }
    }

    /// Lifts the quarantine of a release that runs well on a node, not because a rollout stopped: it was
    /// tried anew since the backup, or is broken on the other node alone.
    fn is_good_after_all(
        &mut self,
        name: &NodeName,
        (release, standing): (ReleaseId, Standing),
    ) -> bool {
        let is_good = matches!(
            standing,
            Standing::Good | Standing::Proven | Standing::Activated
        );
        if !is_good || self.stays_on(name, release) {
            return false;
        }
        let lifted = self
            .kept
            .quarantined
            .extract_if(.., |q| q.release == release);
        let found: BTreeSet<NodeName> =
            lifted.map(|q| q.node).filter(|node| node != name).collect();
        self.kept.broken.insert(release, found);
        true
    }
}
