//! The books that the oracle keeps: of what the source heard, and of what it asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::super::{Command, Event, OnBroken, Policy, Saved, Standing, Step};
use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::limits::STEP_TIMEOUT;
use crate::name::NodeName;

/// What the source could know of an agent.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) online: bool,
    /// When it was asked for what it has not done yet, or said last that it goes on with it.
    pub(super) busy_since: Option<(Command, Instant)>,
    /// What it said that it holds, and did not refuse since.
    pub(super) holds: BTreeSet<ReleaseId>,
    /// What it said that it holds, and did not say since that it has lost.
    pub(super) has: BTreeSet<ReleaseId>,
    /// What it said last that it runs.
    pub(super) runs: Option<ReleaseId>,
    /// It activated the release of the attempt that runs, so long ago.
    pub(super) activated_at: Option<Instant>,
    /// What it found then.
    pub(super) verdict: Option<Standing>,
    /// A person holds it on this release.
    pub(super) held_on: Option<ReleaseId>,
    /// How what it runs stood, as it said last.
    pub(super) stands: Option<(ReleaseId, Standing)>,
    /// Whether the machine may have let it leave the attempt that runs.
    pub(super) may_have_left: bool,
    /// The same of the attempt before: the next one may begin before the end of that one is told.
    had_left: bool,
}

impl Heard {
    /// In the attempt that runs; what cannot be told is not good.
    pub(super) fn found_good(&self) -> bool {
        matches!(self.verdict, Some(Standing::Proven | Standing::Good))
    }

    pub(super) fn runs_well(&self) -> bool {
        let stands = self
            .stands
            .filter(|(release, _)| self.runs == Some(*release));
        let good = [Standing::Good, Standing::Proven, Standing::Activated];
        stands.is_some_and(|(_, standing)| good.contains(&standing))
    }

    pub(super) fn is_done(&mut self, command: Command) {
        self.busy_since.take_if(|(asked, _)| *asked == command);
    }
}

/// The books of one attempt to roll out a release; new ones with each attempt.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) heard: BTreeMap<NodeName, Heard>,
    pub(super) target: Option<ReleaseId>,
    /// Of the attempt before.
    target_before: Option<ReleaseId>,
    /// Who was online when it began.
    pub(super) members: BTreeSet<NodeName>,
    /// As planned when staging ended.
    pub(super) waves: Vec<BTreeSet<NodeName>>,
    pub(super) asked: BTreeSet<NodeName>,
    /// Who was asked to activate which release since it was last tried, or said that it runs it.
    pub(super) touched: BTreeSet<(ReleaseId, NodeName)>,
    pub(super) broken: BTreeSet<NodeName>,
    /// Who found which release broken since it was last tried anew, whatever it was then.
    pub(super) verdicts: BTreeSet<(ReleaseId, NodeName)>,
    /// Who need not go back since it was found broken: the policy is to stop, and they had found it
    /// good, or were away.
    pub(super) staying: BTreeSet<NodeName>,
    /// What some node ever found good.
    pub(super) good_somewhere: BTreeSet<ReleaseId>,
    /// Which releases a rollout stopped at since live moved last: some may stay on those.
    pub(super) stopped: BTreeSet<ReleaseId>,
    /// When the rollout moved last, or a node said something new.
    pub(super) moved_at: Option<Instant>,
    /// Until when a restarted source keeps everyone's place.
    pub(super) kept_until: Option<Instant>,
}

impl Books {
    pub(super) fn source_started(&mut self, saved: &Saved, kept_until: Instant) {
        self.kept_until = Some(kept_until);
        self.moved_at = Some(kept_until);
        // A rollout that goes on all the same: it crashed before that was durable, and asks once more.
        self.broken.clear();
        for (node, heard) in &mut self.heard {
            // It knows what it had made durable.
            heard.held_on = saved.holds.get(node).map(|hold| hold.release);
            heard.online = false;
            heard.busy_since = None;
        }
    }

    /// What a source knows that was put back from a backup.
    pub(super) fn forget(&mut self, saved: &Saved) {
        let held = saved.holds.iter().map(|(node, hold)| {
            let held_on = Some(hold.release);
            let heard = Heard {
                held_on,
                ..Heard::default()
            };
            (node.clone(), heard)
        });
        let stopped = saved.quarantined.iter().filter(|q| !q.stays.is_empty());
        *self = Self {
            heard: held.collect(),
            touched: std::mem::take(&mut self.touched),
            good_somewhere: std::mem::take(&mut self.good_somewhere),
            stopped: stopped.map(|q| q.release).collect(),
            ..Self::default()
        };
        if let Some(rollout) = &saved.rollout
            && !matches!(rollout.step, Step::Return { .. })
        {
            self.begin(rollout.target.release);
            self.activate(&rollout.waves);
            self.asked = rollout.members().cloned().collect();
        }
    }

    pub(super) fn moves(&mut self, now: Instant) {
        self.moved_at = self.moved_at.max(Some(now));
    }

    pub(super) fn hear(&mut self, event: &Event, now: Instant) {
        self.pass(now);
        match event {
            Event::Online {
                node,
                held,
                active,
                standing,
            } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.holds = held.iter().copied().collect();
                heard.has.clone_from(&heard.holds);
                self.hear_online(node, *active, *standing, now);
            }
            Event::Behind { .. } => {}
            Event::Offline { node } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.online = false;
                heard.may_have_left = true;
            }
            Event::Progress { node } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.busy_since = heard.busy_since.map(|(command, _)| (command, now));
            }
            Event::Staged { node, release } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.holds.insert(*release);
                heard.has.insert(*release);
                heard.is_done(Command::Push(*release));
            }
            Event::StepFailed {
                node,
                release,
                retryable: false,
            } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.holds.remove(release);
                heard.may_have_left = true;
            }
            Event::StepFailed { .. } => {}
            Event::Activated { node, release } => self.hear_activated(node, *release, now),
            Event::Verified {
                node,
                release,
                standing,
            } => self.hear_verified(node, *release, *standing),
            Event::Returned { node, from, to } => self.hear_returned(node, (*from, *to), now),
            Event::Held { node, hold } => self.hear_held(node, hold.as_ref()),
            Event::Dropped { node, release } => {
                let heard = self.heard.entry(node.clone()).or_default();
                heard.holds.remove(release);
                heard.has.remove(release);
            }
            Event::Removed { node } => self.hear_removed(node),
            Event::Published { .. }
            | Event::Enrolled { .. }
            | Event::Retry { .. }
            | Event::Freeze(_)
            | Event::Thaw => {}
        }
    }

    /// Nothing that it said counts any more; not even that it found something broken.
    pub(super) fn hear_removed(&mut self, node: &NodeName) {
        self.heard.remove(node);
        self.members.remove(node);
        for wave in &mut self.waves {
            wave.remove(node);
        }
        self.touched.retain(|(_, touched)| touched != node);
        self.verdicts.retain(|(_, found)| found != node);
        self.broken.remove(node);
        self.staying.remove(node);
    }

    fn hear_activated(&mut self, node: &NodeName, release: ReleaseId, now: Instant) {
        let is_target = self.target == Some(release);
        let heard = self.heard.entry(node.clone()).or_default();
        heard.is_done(Command::Activate(release));
        heard.runs = Some(release);
        if is_target && self.asked.contains(node) && heard.activated_at.is_none() {
            heard.activated_at = Some(now);
            heard.verdict = None;
        }
    }

    fn hear_verified(&mut self, node: &NodeName, release: ReleaseId, standing: Standing) {
        let is_target = self.target == Some(release);
        self.judge(node, release, standing);
        let heard = self.heard.entry(node.clone()).or_default();
        heard.stands = Some((release, standing));
        let counts = heard.held_on != Some(release);
        if is_target && heard.activated_at.is_some() && counts {
            heard.verdict = Some(standing);
            if standing == Standing::Broken {
                self.broken.insert(node.clone());
            }
        }
    }

    fn hear_returned(&mut self, node: &NodeName, (from, to): (ReleaseId, ReleaseId), now: Instant) {
        let target = self.target;
        let heard = self.heard.entry(node.clone()).or_default();
        heard.is_done(Command::Return(to));
        heard.runs = Some(to);
        if target == Some(from) {
            heard.activated_at = None;
        }
        // It went back to a release that is tried anew meanwhile: that is an activation, too.
        if target == Some(to) && from != to {
            heard.activated_at = Some(now);
            heard.verdict = None;
        }
    }

    fn hear_held(&mut self, node: &NodeName, hold: Option<&Hold>) {
        let heard = self.heard.entry(node.clone()).or_default();
        let held_on = hold.map(|hold| hold.release);
        // It goes there, or is there.
        self.touched
            .extend(held_on.map(|release| (release, node.clone())));
        let was = std::mem::replace(&mut heard.held_on, held_on);
        heard.may_have_left |= held_on.is_some();
        // What it found while it was held counts from now on, if it still is there.
        if was.is_some()
            && held_on.is_none()
            && let Some((release, standing)) = heard.stands
        {
            self.judge(node, release, standing);
        }
    }

    fn hear_online(
        &mut self,
        node: &NodeName,
        active: Option<ReleaseId>,
        standing: Standing,
        now: Instant,
    ) {
        self.touched
            .extend(active.map(|active| (active, node.clone())));
        let heard = self.heard.entry(node.clone()).or_default();
        // A connection that replaces one ends it.
        heard.may_have_left |= heard.online;
        heard.online = true;
        heard.busy_since = None;
        heard.stands = active.map(|active| (active, standing));
        heard.runs = active;
        // It may run it since an earlier attempt: a restarted source cannot tell.
        let runs = active.is_some() && active == self.target;
        heard.activated_at = runs.then_some(now);
        let verdict = runs && standing != Standing::Verifying;
        heard.verdict = verdict.then_some(standing);
        let counts = active.is_none() || heard.held_on != active;
        let broken = heard.verdict == Some(Standing::Broken) && counts;
        if broken && self.asked.contains(node) {
            self.broken.insert(node.clone());
        }
        if let Some(active) = active {
            self.judge(node, active, standing);
        }
    }

    fn judge(&mut self, node: &NodeName, release: ReleaseId, standing: Standing) {
        let heard = self.heard.get(node);
        let runs = heard.and_then(|heard| heard.runs);
        let is_held_on = heard.is_some_and(|heard| heard.held_on == Some(release));
        if runs != Some(release) || is_held_on {
            return;
        }
        let verdict = (release, node.clone());
        match standing {
            Standing::Broken => self.verdicts.insert(verdict),
            Standing::Verifying | Standing::Unproven => return,
            Standing::Good | Standing::Proven | Standing::Activated => {
                self.good_somewhere.insert(release);
                self.verdicts.remove(&verdict)
            }
        };
    }

    /// Who is silent for too long may be let go; who does not come back to a restarted source too.
    pub(super) fn pass(&mut self, now: Instant) {
        let awaited = self.kept_until.is_some_and(|until| now < until);
        for heard in self.heard.values_mut() {
            let silent = heard
                .busy_since
                .is_some_and(|(_, at)| now >= at + STEP_TIMEOUT);
            heard.may_have_left |= silent || (!heard.online && !awaited);
        }
    }

    pub(super) fn begin(&mut self, release: ReleaseId) {
        self.target_before = self.target.replace(release);
        self.waves.clear();
        self.touched.retain(|(touched, node)| {
            let runs = self.heard.get(node).and_then(|heard| heard.runs);
            *touched != release || runs == Some(release)
        });
        self.asked.clear();
        self.broken.clear();
        self.members.clear();
        for (node, heard) in &mut self.heard {
            let is_member = heard.online && heard.held_on.is_none();
            if is_member {
                self.members.insert(node.clone());
            }
            heard.had_left = std::mem::replace(&mut heard.may_have_left, !is_member);
            heard.activated_at = None;
            heard.verdict = None;
        }
    }

    pub(super) fn activate(&mut self, waves: &[BTreeSet<NodeName>]) {
        self.waves = waves.to_vec();
        for heard in self.heard.values_mut() {
            heard.activated_at = None;
            heard.verdict = None;
        }
    }

    pub(super) fn stop(&mut self, on_broken: OnBroken) {
        let stays = |node: &&NodeName| {
            let heard = &self.heard[*node];
            heard.found_good() || !heard.online
        };
        self.staying.clear();
        if on_broken == OnBroken::Stop {
            let asked = self.certain().filter(|node| self.asked.contains(*node));
            self.staying = asked.filter(stays).cloned().collect();
        }
    }

    /// Who is a member for certain.
    pub(super) fn certain(&self) -> impl Iterator<Item = &NodeName> {
        let members = self.members.iter();
        members.filter(|node| !self.heard.get(*node).is_none_or(|h| h.may_have_left))
    }

    /// Whether the machine may have let a node leave the attempt at a release that ended just now.
    pub(super) fn may_have_left(&self, node: &NodeName, release: ReleaseId) -> bool {
        let ended_before = self.target_before == Some(release);
        self.heard
            .get(node)
            .is_none_or(|heard| heard.may_have_left || (ended_before && heard.had_left))
    }

    /// Good, unproven, or given up as unproven.
    pub(super) fn has_ended(&self, node: &NodeName, policy: &Policy, now: Instant) -> bool {
        self.heard.get(node).is_some_and(|heard| {
            let given_up = heard
                .activated_at
                .is_some_and(|at| now >= at + policy.verify_timeout);
            let verdict = heard.verdict.filter(|v| *v != Standing::Verifying);
            given_up || verdict.is_some_and(|v| v != Standing::Broken)
        })
    }
}
