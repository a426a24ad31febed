//! What is known to drift, put together from looks at whole releases and at single paths. No IO.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codevol_protocol::drift::Drifted;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::Text;
use codevol_protocol::release::Seq;
use codevol_protocol::status;

use crate::volume::{Drift, DriftKind, Found};

/// How many judgements of single paths are remembered: a look at a whole release may be older.
const JUDGED_MAX: usize = 4_096;
const CURRENT: &str = "current";

/// A moment of this state: what is judged later counts more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tick(u64);

/// What drifts on the disk of one volume.
#[derive(Debug, Default)]
pub(super) struct Standing {
    releases: BTreeMap<ReleaseId, (Seq, Found)>,
    flipped: bool,
    tick: Tick,
    judged: VecDeque<(Tick, ReleaseId, String)>,
    /// The newest judgement that is not remembered any more.
    forgotten: Tick,
}

impl Standing {
    /// Begins a look.
    pub(super) fn begin(&mut self) -> Tick {
        self.tick.0 += 1;
        self.tick
    }

    /// Takes in whether `current` was flipped.
    pub(super) const fn current(&mut self, flipped: bool) {
        self.flipped = flipped;
    }

    /// Whether `current` was flipped.
    pub(super) const fn is_flipped(&self) -> bool {
        self.flipped
    }

    /// Takes in what a look at a whole release found that had begun at that moment. What was judged
    /// since stays as it was judged. Returns whether it could be taken in.
    pub(super) fn whole(
        &mut self,
        (id, seq): (ReleaseId, Seq),
        began: Tick,
        found: &Found,
    ) -> bool {
        if self.forgotten > began {
            return false;
        }
        let newer: Vec<&str> = self
            .judged
            .iter()
            .filter(|(tick, of, _)| *tick > began && *of == id)
            .map(|(_, _, top)| top.as_str())
            .collect();
        let is_newer = |drift: &&Drift| newer.iter().any(|top| covers(top, &drift.path));
        let kept = self.releases.get(&id).map(|(_, before)| &*before.drift);
        let kept = kept.unwrap_or_default().iter().filter(is_newer).cloned();
        let taken = found.drift.iter().filter(|drift| !is_newer(drift)).cloned();
        let mut drift: Vec<Drift> = kept.chain(taken).collect();
        drift.sort();
        let more = found.more;
        self.set((id, seq), Found { drift, more });
        true
    }

    /// Takes in what was found at a path and below it.
    pub(super) fn part(&mut self, (id, seq): (ReleaseId, Seq), top: &str, found: &Found) {
        let before = self.releases.remove(&id).map(|(_, found)| found);
        let Found { mut drift, more } = before.unwrap_or_default();
        drift.retain(|drift| !covers(top, &drift.path));
        drift.extend(found.drift.iter().cloned());
        drift.sort();
        let more = if top.is_empty() { found.more } else { more };
        self.set((id, seq), Found { drift, more });
        self.judge(id, top);
    }

    /// Takes in that a path is as released again.
    pub(super) fn restored(&mut self, id: ReleaseId, done: &[Drift]) {
        if let Some((seq, mut found)) = self.releases.remove(&id) {
            found.drift.retain(|drift| !done.contains(drift));
            self.set((id, seq), found);
        }
        for drift in done {
            self.judge(id, &drift.path);
        }
    }

    /// Forgets what is not held any more.
    pub(super) fn retain(&mut self, is_held: impl Fn(ReleaseId) -> bool) {
        self.releases.retain(|id, _| is_held(*id));
    }

    /// Returns what drifts, release by release.
    pub(super) fn releases(&self) -> impl Iterator<Item = (ReleaseId, &Found)> {
        self.releases.iter().map(|(id, (_, found))| (*id, found))
    }

    /// Returns all of it as it is told, the active release first and then the newest; and how much is
    /// only counted.
    pub(super) fn list(&self, active: Option<(ReleaseId, Seq)>) -> (Vec<status::Drift>, u64) {
        let mut list = Vec::new();
        if let Some((_, release)) = active.filter(|_| self.flipped) {
            let (path, kind) = (Text::cut(CURRENT), DriftKind::Flipped);
            list.push(status::Drift {
                release,
                path,
                kind,
            });
        }
        let mut order: Vec<_> = self.releases.iter().collect();
        let active = active.map(|(id, _)| id);
        order.sort_by_key(|(id, (seq, _))| (active != Some(**id), std::cmp::Reverse(*seq)));
        for (_, (seq, found)) in &order {
            list.extend(found.drift.iter().map(|drift| told(*seq, drift)));
        }
        let more = order.iter().map(|(_, (_, found))| found.more).sum();
        (list, more)
    }

    fn set(&mut self, (id, seq): (ReleaseId, Seq), found: Found) {
        if found.is_empty() {
            self.releases.remove(&id);
        } else {
            self.releases.insert(id, (seq, found));
        }
    }

    fn judge(&mut self, id: ReleaseId, top: &str) {
        let tick = self.begin();
        self.judged.push_back((tick, id, top.to_owned()));
        if self.judged.len() > JUDGED_MAX
            && let Some((tick, _, _)) = self.judged.pop_front()
        {
            self.forgotten = tick;
        }
    }
}

/// Returns a path as it is told.
pub(super) fn told(release: Seq, drift: &Drift) -> status::Drift {
    status::Drift {
        release,
        path: Text::cut(drift.path.as_str()),
        kind: drift.kind,
    }
}

/// What has changed from one list to the next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// What was not there before.
    pub(super) appeared: Drifted,
    /// What is not there any more.
    pub(super) vanished: Drifted,
}

/// Compares two lists.
pub(super) fn changes(before: &[status::Drift], after: &[status::Drift]) -> Changes {
    let (was, is): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let only = |all: &[status::Drift], without: &BTreeSet<&status::Drift>| {
        let only = all.iter().filter(|drift| !without.contains(drift));
        Drifted::cut(only.cloned(), 0)
    };
    Changes {
        appeared: only(after, &was),
        vanished: only(before, &is),
    }
}

/// Whether a path is another one, or lies below it; all lies below the empty one.
fn covers(top: &str, path: &str) -> bool {
    top.is_empty()
        || path
            .strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const R1: Seq = Seq(1);

    fn id(n: u8) -> ReleaseId {
        ReleaseId::of(&[n])
    }

    fn found(paths: &[&str]) -> Found {
        let drift = paths.iter().map(|path| Drift {
            path: (*path).to_owned(),
            kind: DriftKind::Changed,
        });
        Found {
            drift: drift.collect(),
            more: 0,
        }
    }

    fn paths(standing: &Standing) -> Vec<String> {
        let (list, _) = standing.list(Some((id(1), R1)));
        let path = |drift: &status::Drift| format!("{} {}", drift.release, drift.path);
        list.iter().map(path).collect()
    }

    #[test]
    fn a_path_is_judged_with_what_lies_below_it() {
        let mut standing = Standing::default();
        standing.part((id(1), R1), "sub", &found(&["sub/a", "sub/b"]));
        standing.part((id(1), R1), "subway", &found(&["subway"]));
        standing.part((id(1), R1), "sub/a", &found(&[]));
        assert_eq!(paths(&standing), ["r1 sub/b", "r1 subway"]);
        standing.part((id(1), R1), "sub", &found(&[]));
        standing.part((id(1), R1), "", &found(&["x"]));
        assert_eq!(paths(&standing), ["r1 x"]);
        standing.part((id(1), R1), "x", &found(&[]));
        assert!(standing.releases().next().is_none());
    }

    #[test]
    fn a_long_look_does_not_undo_what_was_judged_meanwhile() {
        let mut standing = Standing::default();
        let began = standing.begin();
        standing.part((id(1), R1), "new", &found(&["new"]));
        standing.part((id(1), R1), "mended", &found(&[]));
        assert!(standing.whole((id(1), R1), began, &found(&["mended", "old"])));
        assert_eq!(paths(&standing), ["r1 new", "r1 old"]);
        let began = standing.begin();
        assert!(standing.whole((id(1), R1), began, &found(&[])));
        assert!(paths(&standing).is_empty());
    }

    #[test]
    fn a_look_that_is_older_than_what_is_remembered_counts_for_nothing() {
        let mut standing = Standing::default();
        let began = standing.begin();
        for n in 0..=JUDGED_MAX {
            standing.part((id(1), R1), &format!("{n}"), &found(&[]));
        }
        assert!(!standing.whole((id(1), R1), began, &found(&["old"])));
        assert!(paths(&standing).is_empty());
    }

    #[test]
    fn the_active_release_comes_first_and_what_is_not_held_is_forgotten() {
        let mut standing = Standing::default();
        standing.part((id(2), Seq(2)), "", &found(&["a"]));
        standing.part((id(3), Seq(3)), "", &found(&["a"]));
        standing.part((id(1), R1), "", &found(&["b"]));
        standing.current(true);
        assert_eq!(paths(&standing), ["r1 current", "r1 b", "r3 a", "r2 a"]);
        standing.restored(id(3), &found(&["a"]).drift);
        standing.retain(|held| held != id(2));
        standing.current(false);
        assert_eq!(paths(&standing), ["r1 b"]);
    }

    #[test]
    fn changes_tell_what_came_and_what_went() {
        let list = |paths: &[&str]| {
            let drift = found(paths).drift;
            drift.iter().map(|d| told(R1, d)).collect::<Vec<_>>()
        };
        let changes = changes(&list(&["a", "b"]), &list(&["b", "c"]));
        assert_eq!(changes.appeared.summary(), "r1 c (changed)");
        assert_eq!(changes.vanished.summary(), "r1 a (changed)");
    }
}
