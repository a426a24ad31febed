//! What an event changes in the facts.

use std::time::Instant;

use super::node::Node;
use super::{Command, Event, Intent, Machine, Output, Rollout, Standing, Step, Waiting};
use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::limits::HELD_MAX;
use crate::name::NodeName;

impl Machine {
    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Published {
                release,
                seq,
                intent,
            } => {
                if seq > self.kept.seen {
                    self.kept.seen = seq;
                    self.published(release, intent);
                }
            }
            Event::Behind { newest } => self.behind(newest),
            Event::Enrolled { node } => {
                let joining = Node {
                    joining: true,
                    ..Node::default()
                };
                self.nodes.entry(node).or_insert(joining);
            }
            Event::Online {
                node,
                held,
                active,
                standing,
            } => {
                let facts = Node {
                    online: true,
                    held: held.into_iter().take(HELD_MAX).collect(),
                    active,
                    ..Node::default()
                };
                self.online(node, facts, standing, now);
            }
            Event::Offline { node } => self.offline(&node),
            Event::Removed { node } => self.removed(&node),
            Event::Retry { release } => self.retry(release),
            Event::Held { node, hold } => self.held(&node, hold),
            Event::Freeze(frozen) => {
                self.kept.frozen = Some(frozen);
                self.hold_back(|rollout| !rollout.target.wanted);
            }
            Event::Thaw => {
                self.kept.frozen = None;
                self.kept.restored = false;
            }
            Event::Progress { node } => {
                let verify_timeout = self.policy.verify_timeout;
                if let Some(facts) = self.nodes.get_mut(&node) {
                    facts.progress(verify_timeout, now);
                }
            }
            report @ (Event::Staged { .. }
            | Event::Dropped { .. }
            | Event::StepFailed { .. }
            | Event::Activated { .. }
            | Event::Verified { .. }
            | Event::Returned { .. }) => self.report(report, now),
        }
    }

    fn report(&mut self, report: Event, now: Instant) {
        let verify_until = now + self.policy.verify_timeout;
        match report {
            Event::Staged { node, release } => {
                if let Some(facts) = self.connected(&node)
                    && facts.held.len() < HELD_MAX
                {
                    facts.held.insert(release);
                    // It has it after all: an earlier attempt was refused.
                    facts.refused.remove(&release);
                    facts.finish(Command::Push(release));
                }
            }
            Event::Dropped { node, release } => {
                if let Some(facts) = self.connected(&node) {
                    facts.held.remove(&release);
                }
            }
            Event::StepFailed {
                node,
                release,
                retryable,
            } => self.step_failed(&node, release, retryable, now),
            Event::Activated { node, release } => {
                if let Some(facts) = self.connected(&node) {
                    let asked = facts.is_asked(Command::Activate(release));
                    if asked || !facts.runs(release) {
                        facts.was = facts.worth_going_back_to(release).or(facts.was);
                        facts.active = Some(release);
                        facts.again = false;
                        facts.returned = false;
                        facts.stand(Standing::Verifying, verify_until);
                        facts.finish(Command::Activate(release));
                    }
                }
            }
            Event::Verified {
                node,
                release,
                standing,
            } => {
                if let Some(facts) = self.connected(&node)
                    && facts.runs(release)
                {
                    facts.stand(standing, verify_until);
                    self.judge(&node);
                }
            }
            Event::Returned { node, from, to } => self.returned(&node, (from, to), verify_until),
            Event::Published { .. }
            | Event::Behind { .. }
            | Event::Enrolled { .. }
            | Event::Online { .. }
            | Event::Offline { .. }
            | Event::Removed { .. }
            | Event::Progress { .. }
            | Event::Retry { .. }
            | Event::Held { .. }
            | Event::Freeze(_)
            | Event::Thaw => {}
        }
    }

    fn returned(
        &mut self,
        name: &NodeName,
        (from, to): (ReleaseId, ReleaseId),
        verify_until: Instant,
    ) {
        let Some(facts) = self.connected(name) else {
            return;
        };
        let asked = facts.answers_return(to);
        facts.finish(Command::Return(to));
        if asked || facts.active != Some(to) {
            facts.active = Some(to);
            facts.again = false;
            facts.returned = true;
            facts.stand(Standing::Verifying, verify_until);
            if !asked {
                self.found_broken(name, from);
            }
        }
    }

    /// Takes in whether a person holds a node that has just connected. To be told before
    /// [`Event::Online`]: what follows is decided with that. Else a member that found the release broken,
    /// and was then held elsewhere by its operator, would only leave, and the next wave would begin.
    pub fn greets(&mut self, name: &NodeName, hold: Option<Hold>) {
        self.held(name, hold);
    }

    /// Takes a node out of whatever runs, or lets it in again: what it refused was refused because it
    /// was held.
    fn held(&mut self, name: &NodeName, hold: Option<Hold>) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        if let Some(hold) = hold {
            self.kept.holds.insert(name.clone(), hold);
            self.leave(name);
        } else if self.kept.holds.remove(name).is_some() {
            node.refused.clear();
            self.judge(name);
        }
    }

    fn connected(&mut self, name: &NodeName) -> Option<&mut Node> {
        self.nodes.get_mut(name).filter(|node| node.online)
    }

    fn published(&mut self, release: ReleaseId, intent: Intent) {
        let wanted = match intent {
            Intent::Held => return,
            Intent::Watched => false,
            Intent::Wanted => true,
        };
        self.enqueue(Waiting { release, wanted });
    }

    /// Only the newest waits; while frozen, the newest of each kind.
    fn enqueue(&mut self, next: Waiting) {
        let frozen = self.kept.frozen.is_some();
        self.kept
            .waiting
            .retain(|waiting| frozen && !next.wanted && waiting.wanted);
        self.kept.waiting.push(next);
    }

    fn online(&mut self, name: NodeName, mut facts: Node, standing: Standing, now: Instant) {
        // A connection that replaces another one ends it: what was asked on that one is lost.
        self.offline(&name);
        if let Some(known) = self.nodes.get(&name).filter(|n| n.active == facts.active) {
            facts.was = known.was;
            facts.returned = known.returned;
        }
        facts.stand(standing, now + self.policy.verify_timeout);
        self.awaited.remove(&name);
        self.nodes.insert(name.clone(), facts);
        self.judge(&name);
    }

    fn offline(&mut self, name: &NodeName) {
        if let Some(node) = self.connected(name) {
            node.online = false;
            node.asked = None;
            node.verify_until = None;
            self.leave(name);
        }
    }

    fn removed(&mut self, name: &NodeName) {
        self.nodes.remove(name);
        self.awaited.remove(name);
        self.forget_strangers();
        self.leave(name);
    }

    /// Forgets what was kept of nodes that are no members; also where the source stopped before it was
    /// told so. One that joins again by such a name is another one.
    pub(super) fn forget_strangers(&mut self) {
        let (nodes, kept) = (&self.nodes, &mut self.kept);
        kept.holds.retain(|name, _| nodes.contains_key(name));
        for names in kept.broken.values_mut() {
            names.retain(|name| nodes.contains_key(name));
        }
        for quarantined in &mut kept.quarantined {
            let stays = &mut quarantined.stays;
            stays.retain(|name| nodes.contains_key(name));
        }
    }

    fn step_failed(&mut self, name: &NodeName, release: ReleaseId, retryable: bool, now: Instant) {
        let Some(node) = self.connected(name) else {
            return;
        };
        let pushed = node.is_asked(Command::Push(release));
        if !pushed
            && !node.is_asked(Command::Activate(release))
            && !node.is_asked(Command::Return(release))
        {
            return;
        }
        if retryable {
            node.retry_later(now);
            return;
        }
        node.asked = None;
        if node.refused.len() < HELD_MAX {
            node.refused.insert(release);
        }
        let member = self.leave(name);
        if let Some(rollout) = &mut self.kept.rollout
            && rollout.target.release == release
        {
            rollout.refused |= member && pushed;
        }
    }

    /// A person's word overrides what nodes hold against a release. The quarantine is lifted when
    /// the rollout begins: until then the attempt before is still being taken back.
    fn retry(&mut self, release: ReleaseId) {
        for node in self.nodes.values_mut() {
            node.refused.remove(&release);
        }
        let running = self.kept.rollout.as_mut().filter(|rollout| {
            rollout.target.release == release && !matches!(rollout.step, Step::Return { .. })
        });
        if let Some(rollout) = running {
            rollout.target.wanted = true;
        } else if self.live() == Some(release) {
            self.kept.broken.remove(&release);
            self.activate_again(release, |node| node.standing == Standing::Broken);
        } else {
            self.enqueue(Waiting {
                release,
                wanted: true,
            });
        }
    }

    /// Puts a rollout that activates nothing yet back into the queue, if it is one of these; whether
    /// it did. What was published since replaces it there.
    pub(super) fn hold_back(&mut self, which: impl Fn(&Rollout) -> bool) -> bool {
        let held = self
            .kept
            .rollout
            .take_if(|rollout| matches!(rollout.step, Step::Stage) && which(rollout));
        let Some(rollout) = held else {
            return false;
        };
        let newer = std::mem::take(&mut self.kept.waiting);
        for waiting in std::iter::once(rollout.target).chain(newer) {
            self.enqueue(waiting);
        }
        self.decided.push(Output::HeldBack(rollout.target.release));
        true
    }
}
