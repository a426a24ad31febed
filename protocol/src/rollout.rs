//! The rollout machine of one volume: which release is live, which node does what next. The source
//! daemon feeds it what happened and carries out what it asks; it has no IO and no clock.
//!
//! ```text
//!                 +-- one broken --> return -- all back, quarantined, live unmoved --+
//!                 |                                                                  v
//!  waiting --> stage --> activate wave by wave, verify -- none broken, live moves --> ended
//! ```
//!
//! A [`Policy`] says how many activate at a time. All members stage before the first activates, and
//! a wave ends when each of its members is good or unproven, or has left. The waves are planned anew
//! of those that are left when staging ends, and are part of [`Saved`] from then on.
//!
//! It is driven by levels, not by edges: `nodes` holds the last known facts of each node, and after
//! every event the machine compares what each node is to do with what it was asked. So reports may
//! come twice, a lost one is asked for again, and a node that catches up outside of a rollout takes
//! the same steps by the same rules. Only what [`Saved`] holds must survive a restart.
//!
//! Choices that the design leaves open:
//! * A rollout all of whose members left ends as one that began with none: `live` moves, and the
//!   first to verify the release in catch-up judges it. Only if a member *refused* to stage it
//!   and none was left to activate it, the rollout fails: nothing says that it can be run at all.
//! * A `broken` in catch-up, where another node found the same release good, is that node's own
//!   trouble: it alone returns, and stays there until `live` moves or a person retries.
//! * Freezing puts an unwanted rollout that still stages back into the queue; one that already
//!   activates goes on to its end, so that the servers stay together.
//! * Where the policy is to *stop*, the broken node returns (the last good release stays, there),
//!   the release is quarantined, `live` does not move, and no further wave begins. A node that had
//!   activated stays on it, is watched on, and returns by itself if it finds the release broken
//!   too: only `broken` takes a release back. One that was asked to activate and has not answered
//!   returns. The fleet is then divided, which is what was asked for, until live moves or a person
//!   retries. A release that is broken in catch-up returns everywhere: none has found it good.
//! * Where *all* must be online, no step forward is taken while an enrolled node is away. A rollout
//!   that still stages goes back into the queue, where a newer release replaces it; one that
//!   activates waits where it is. Who comes back to that one catches up when live has moved.
//! * A node that a person holds is no member of any rollout, and nobody waits for it. It is sent what
//!   is rolled out, so that it can follow at once when it is let go; it is asked to activate nothing,
//!   and to return to nothing. What it finds of the release that it is held on says nothing of that
//!   release: it is there because a person wants it so. It keeps by itself that it is held.
//! * After a restore from a backup what the nodes run was live, and the newest of it is. A release that is
//!   broken on the one and good on another is then the first one's own trouble, whoever was heard first.
//!   What a node is held on was wanted there alone, perhaps because it was live nowhere: it counts for nobody.
//! * After a restart of the source nothing is started, and no member left behind, until the known
//!   nodes are back or [`RECONNECT_TIMEOUT`] has passed.

mod act;
mod broken;
mod decide;
mod node;
mod policy;
mod restored;
mod saved;
mod view;
mod want;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::name::NodeName;
use crate::release::Seq;

use node::Node;
pub use policy::{Canary, OnBroken, Policy, RequireOnline, Wave};
pub use saved::{Frozen, Lived, Quarantined, Rollout, Saved, Step, Waiting};
pub use view::{NodeState, NodeView, Phase, RolloutView, View};

/// How long a restarted source waits for the nodes that it knows.
pub const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After a step failed in a way that may pass: when it is asked for again.
pub const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How many releases that were live are remembered, to go back to.
pub const LIVED_MAX: usize = 20;
/// How many quarantined releases are remembered.
pub const QUARANTINED_MAX: usize = 1_024;

/// Why a release is published, as far as it matters to when it goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// The watcher saw the tree change: waits while the volume is frozen.
    Watched,
    /// A person asked (push, hot-fix, rollback): goes live although the volume is frozen.
    Wanted,
    /// The watcher saw the tree of a quarantined release: not tried until somebody asks.
    Held,
}

/// What a node last knew of the release that it has activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// No verdict yet.
    Verifying,
    /// It cannot be told; the node goes on trying.
    Unproven,
    /// Verdict good, on less evidence than a node needs to be called live.
    Good,
    /// Verdict good, proven.
    Proven,
    /// Verdict good: it is activated, and there is no code server to ask.
    Activated,
    /// Verdict broken.
    Broken,
}

/// What happened. About an unknown node or release it is stale, and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A release is durable in the log. Told again at each start, a known one changes nothing.
    Published {
        /// The release.
        release: ReleaseId,
        /// Its place in the history.
        seq: Seq,
        /// Why.
        intent: Intent,
    },
    /// A node is a member now; it will connect.
    Enrolled {
        /// The node.
        node: NodeName,
    },
    /// A node connected, or a newer connection of its replaced the older one.
    Online {
        /// The node.
        node: NodeName,
        /// The releases that it holds whole.
        held: Vec<ReleaseId>,
        /// The release that `current` names there.
        active: Option<ReleaseId>,
        /// What it knows of that one.
        standing: Standing,
    },
    /// The log knows less than the nodes do: it was restored from a backup. What it takes in up to here
    /// is none of the machine's doing, and nothing of what was under way counts any more.
    Behind {
        /// The newest release that a node knows.
        newest: Seq,
    },
    /// A node's connection ended.
    Offline {
        /// The node.
        node: NodeName,
    },
    /// A node is enrolled no more.
    Removed {
        /// The node.
        node: NodeName,
    },
    /// A node moved forward in what it was asked to do.
    Progress {
        /// The node.
        node: NodeName,
    },
    /// A node holds a release whole.
    Staged {
        /// The node.
        node: NodeName,
        /// The release.
        release: ReleaseId,
    },
    /// A node holds a release no more.
    Dropped {
        /// The node.
        node: NodeName,
        /// The release.
        release: ReleaseId,
    },
    /// A node could not do what it was asked to with a release; nothing changed there.
    StepFailed {
        /// The node.
        node: NodeName,
        /// The release.
        release: ReleaseId,
        /// Whether asking again may help. Else it is asked again when it has reconnected.
        retryable: bool,
    },
    /// `current` names a release on a node.
    Activated {
        /// The node.
        node: NodeName,
        /// The release.
        release: ReleaseId,
    },
    /// A node found out how its active release stands.
    Verified {
        /// The node.
        node: NodeName,
        /// The release.
        release: ReleaseId,
        /// How it stands.
        standing: Standing,
    },
    /// A node put an older release back: asked to, or because it found `from` broken itself.
    Returned {
        /// The node.
        node: NodeName,
        /// What was active.
        from: ReleaseId,
        /// What is active.
        to: ReleaseId,
    },
    /// A person wants a release tried again (or at all, where it was held).
    Retry {
        /// The release.
        release: ReleaseId,
    },
    /// A node says whether a person had it stay where it is.
    Held {
        /// The node.
        node: NodeName,
        /// Set while it is held.
        hold: Option<Hold>,
    },
    /// Nothing that the watcher publishes goes live from now on.
    Freeze(Frozen),
    /// It does again.
    Thaw,
}

/// What a node is to do. Each may be asked twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Send it this release, to stage.
    Push(ReleaseId),
    /// Activate and verify this release, which it holds. Where it is active already: verify again.
    Activate(ReleaseId),
    /// Put this release back, which it holds; answered with `Returned` also where it is active.
    Return(ReleaseId),
    /// Stop sending this release.
    Cancel(ReleaseId),
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make this durable before any later output is carried out.
    Save(Box<Saved>),
    /// Ask a node.
    Ask {
        /// The node.
        node: NodeName,
        /// What it is to do.
        command: Command,
    },
    /// A rollout begins.
    Started(ReleaseId),
    /// A rollout that had begun waits again, for a thaw or for a node that went; or a newer one that
    /// waits replaces it.
    HeldBack(ReleaseId),
    /// A release is broken and is not tried again unless a person asks.
    Quarantined {
        /// The release.
        release: ReleaseId,
        /// Who found it broken.
        node: NodeName,
    },
    /// The fleet is to run this release now; nothing where none is left to go back to.
    LiveMoved(Option<ReleaseId>),
    /// A rollout ended.
    Ended(Outcome),
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The release.
    pub release: ReleaseId,
    /// Whether it is live.
    pub live: bool,
    /// Who found it broken first.
    pub broken_on: Option<NodeName>,
    /// Whether it was taken back: it had been activated, and is active on no connected node.
    pub returned: bool,
    /// The wave of the broken node, else the last one; counted from 1.
    pub wave: usize,
    /// How many waves there were.
    pub waves: usize,
    /// How every known node stands.
    pub nodes: BTreeMap<NodeName, NodeState>,
}

/// The machine. Drain [`Machine::poll_output`] after each call of another method.
#[derive(Debug)]
pub struct Machine {
    kept: Saved,
    /// What was last given out to be saved.
    written: Saved,
    nodes: BTreeMap<NodeName, Node>,
    /// Whom a restarted source waits for, and how long.
    awaited: BTreeSet<NodeName>,
    awaited_until: Instant,
    policy: Policy,
    /// What the current call has decided; it follows the `Save`.
    decided: Vec<Output>,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// Continues from what was saved last ([`Saved::default`] at the very first start). `enrolled`
    /// are the nodes that may connect.
    #[must_use]
    pub fn restore(
        saved: Saved,
        enrolled: BTreeSet<NodeName>,
        policy: Policy,
        now: Instant,
    ) -> Self {
        let mut machine = Self {
            written: saved.clone(),
            kept: saved,
            nodes: enrolled
                .iter()
                .map(|node| (node.clone(), Node::default()))
                .collect(),
            awaited: enrolled,
            awaited_until: now + RECONNECT_TIMEOUT,
            policy,
            decided: Vec::new(),
            outputs: VecDeque::new(),
        };
        machine.forget_strangers();
        machine.leave_all_but_awaited();
        machine.settle(now);
        machine
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        self.apply(event, now);
        self.settle(now);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Machine::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let awaited = (!self.awaited.is_empty()).then_some(self.awaited_until);
        let nodes = self.nodes.values().filter_map(Node::deadline);
        nodes.chain(awaited).min()
    }

    /// Does what is due. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.awaited_until <= now {
            self.awaited.clear();
            self.leave_all_but_awaited();
        }
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for name in names {
            if self.nodes.get_mut(&name).is_some_and(|n| n.expire(now)) {
                self.leave(&name);
            }
        }
        self.settle(now);
    }

    /// Returns the release that the fleet is to run.
    #[must_use]
    pub fn live(&self) -> Option<ReleaseId> {
        self.kept.lived.last().map(|lived| lived.release)
    }

    fn lived(&self, release: ReleaseId) -> Option<&Lived> {
        self.kept
            .lived
            .iter()
            .find(|lived| lived.release == release)
    }

    /// Returns what must survive a restart, as it stands.
    #[must_use]
    pub const fn saved(&self) -> &Saved {
        &self.kept
    }

    /// Decides until nothing changes, and puts the `Save` before all that follows from it.
    fn settle(&mut self, now: Instant) {
        while self.advance() {}
        self.ask(now);
        if self.kept != self.written {
            self.written = self.kept.clone();
            self.outputs
                .push_back(Output::Save(Box::new(self.kept.clone())));
        }
        self.outputs.extend(self.decided.drain(..));
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
