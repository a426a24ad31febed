//! What the lines of the source's journal mean: the story of one release, and what ran where at a
//! moment. Lines are taken in the order in which they are chained, whatever the clock said.

mod at;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::at::{AtTime, Clock, Ran, Standing};
use crate::call::LogEntry;
use crate::evidence::Evidence;
use crate::id::ReleaseId;
use crate::name::{NodeName, Text, VolumeName};
use crate::release::{Seq, UnixMillis};

/// How many steps of a story are told: half of them its beginning, the others its end.
pub const STEPS_MAX: usize = 2_000;
/// How many bytes are told of what a step says in words.
const DETAIL_BYTES_MAX: usize = 256;

/// What the source writes into its journal, as verbs. Lines that are written stay: a name never
/// changes its meaning.
pub mod action {
    /// A release is in the log; its outcome is [`super::outcome::HELD`] where nobody wants it.
    pub const PUBLISH: &str = "publish";
    /// A message was added to a release.
    pub const NOTE: &str = "note";
    /// A release does not go live until a person asks.
    pub const HELD: &str = "held";
    /// A node holds the release.
    pub const STAGED: &str = "staged";
    /// A node's `current` names the release.
    pub const ACTIVATED: &str = "activated";
    /// A node looked at what its code servers loaded.
    pub const VERIFIED: &str = "verified";
    /// The source's store had lost files of the release; the outcome says whether the tree had them.
    pub const MEND: &str = "mend";
    /// A node found held bytes damaged, and is sent them anew.
    pub const MISSING: &str = "missing";
    /// A step failed on a node; the outcome names the step.
    pub const FAILED: &str = "failed";
    /// A node went back to this release.
    pub const RETURNED: &str = "returned";
    /// A release was found broken.
    pub const QUARANTINED: &str = "quarantined";
    /// A rollout ended; the outcome says how.
    pub const ROLLOUT: &str = "rollout";
    /// The fleet is to run this release.
    pub const LIVE: &str = "live";
    /// A person goes back from this release to an older tree.
    pub const ROLLBACK: &str = "rollback";
    /// A person wants this release to be tried once more.
    pub const RETRY: &str = "retry";
    /// Nothing new goes live.
    pub const FREEZE: &str = "freeze";
    /// That has ended.
    pub const THAW: &str = "thaw";
    /// A node is connected; the line names what it runs.
    pub const ONLINE: &str = "online";
    /// A node is not connected.
    pub const OFFLINE: &str = "offline";
    /// A node is a member no more.
    pub const REMOVE: &str = "remove";
    /// A node announced another key, or used it; the outcome says which.
    pub const ROTATE: &str = "rotate";
    /// A restored source took in the record of a release that a node had.
    pub const TAKE_IN: &str = "take in";
    /// The source was started: nobody is connected yet.
    pub const START: &str = "start";
    /// What drifts on a node has changed; the outcome says how.
    pub const DRIFT: &str = "drift";
    /// A person has a node stay on this release.
    pub const HOLD: &str = "hold";
    /// A node that was held on this release goes on.
    pub const UNHOLD: &str = "unhold";
}

/// How it ended, where a line's action does not say it.
pub mod outcome {
    /// Nobody wants the release yet.
    pub const HELD: &str = "held";
    /// The code server serves it.
    pub const GOOD: &str = "good";
    /// That cannot be told.
    pub const UNPROVEN: &str = "unproven";
    /// The code server serves an error.
    pub const BROKEN: &str = "broken";
    /// The rollout's release is live.
    pub const DONE: &str = "done";
    /// It is not.
    pub const FAILED: &str = "failed";
    /// Something on the disk is not what a release says.
    pub const FOUND: &str = "found";
    /// The node put back what drifted.
    pub const RESTORED: &str = "restored";
    /// It is as released again, by somebody else's doing.
    pub const GONE: &str = "gone";
}

/// A line of the journal, as far as stories need it.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// Its number.
    pub line: u64,
    /// What the source's clock said.
    pub at: UnixMillis,
    /// Who asked for it.
    pub actor: &'a Text,
    /// One of [`action`].
    pub action: &'a str,
    /// The volume; nothing where it is about all.
    pub volume: Option<&'a VolumeName>,
    /// The release.
    pub release: Option<ReleaseId>,
    /// The node.
    pub node: Option<&'a NodeName>,
    /// On what evidence.
    pub evidence: Option<Evidence>,
    /// How it ended.
    pub outcome: &'a str,
    /// Why, in words.
    pub detail: Option<&'a Text>,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// It is in the log.
    Published,
    /// It does not go live until a person asks.
    Held,
    /// A message was added.
    Noted,
    /// A node holds it.
    Staged,
    /// A node's `current` names it.
    Activated,
    /// A node's code servers serve it.
    Verified,
    /// Whether they do cannot be told.
    Unproven,
    /// They serve an error.
    Broken,
    /// A node found held bytes damaged.
    Missing,
    /// A step failed on a node.
    Failed,
    /// A node went back to the step's release.
    Returned,
    /// It was found broken.
    Quarantined,
    /// The fleet is to run the step's release.
    Live,
    /// Its rollout ended well.
    RolloutDone,
    /// Its rollout ended otherwise.
    RolloutFailed,
    /// A person went back from it.
    RolledBack,
    /// A person asked for it once more.
    Retried,
    /// Nothing new goes live.
    Frozen,
    /// That has ended.
    Thawed,
    /// A person has a node stay on it.
    NodeHeld,
    /// That has ended.
    NodeThawed,
}

impl StepKind {
    /// Returns what a line is in a story; nothing where it is none of it.
    #[must_use]
    pub fn of(action: &str, outcome: &str) -> Option<Self> {
        Some(match (action, outcome) {
            (action::PUBLISH, outcome::HELD) | (action::HELD, _) => Self::Held,
            (action::PUBLISH, _) => Self::Published,
            (action::NOTE, _) => Self::Noted,
            (action::STAGED, _) => Self::Staged,
            (action::ACTIVATED, _) => Self::Activated,
            (action::VERIFIED, outcome::BROKEN) => Self::Broken,
            (action::VERIFIED, outcome::UNPROVEN) => Self::Unproven,
            (action::VERIFIED, _) => Self::Verified,
            (action::MISSING, _) => Self::Missing,
            (action::FAILED, _) => Self::Failed,
            (action::RETURNED, _) => Self::Returned,
            (action::QUARANTINED, _) => Self::Quarantined,
            (action::LIVE, _) => Self::Live,
            (action::ROLLOUT, outcome::DONE) => Self::RolloutDone,
            (action::ROLLOUT, _) => Self::RolloutFailed,
            (action::ROLLBACK, _) => Self::RolledBack,
            (action::RETRY, _) => Self::Retried,
            (action::FREEZE, _) => Self::Frozen,
            (action::THAW, _) => Self::Thawed,
            (action::HOLD, _) => Self::NodeHeld,
            (action::UNHOLD, _) => Self::NodeThawed,
            _ => return None,
        })
    }
}

/// One step of a release's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The journal's line.
    pub line: u64,
    /// When: what the source's clock said.
    pub at: UnixMillis,
    /// What happened.
    pub step: StepKind,
    /// To which release: another one where a node or the fleet left this one for it.
    pub release: Option<Seq>,
    /// On which node.
    pub node: Option<NodeName>,
    /// Who asked for it.
    pub by: Text,
    /// On what evidence.
    pub evidence: Option<Evidence>,
    /// Why, in words; cut where it is long.
    pub detail: Option<Text>,
}

/// The whole story of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The release and what came of it.
    pub entry: LogEntry,
    /// Its steps, in the journal's order.
    pub steps: Vec<Step>,
    /// How many steps in the middle are not told.
    pub steps_cut: u64,
    /// The number of the journal's first line: more than 1 where older ones are gone.
    pub journal_first: Option<u64>,
}

/// Picks the steps of one release out of the journal.
#[derive(Debug)]
pub struct Teller<S> {
    volume: VolumeName,
    release: ReleaseId,
    seq_of: S,
    steps: Vec<Step>,
    end: VecDeque<Step>,
    steps_cut: u64,
    active: BTreeMap<NodeName, Option<ReleaseId>>,
    live: Option<ReleaseId>,
}

impl<S: Fn(ReleaseId) -> Option<Seq>> Teller<S> {
    /// Begins the story of a volume's release; `seq_of` knows the places of releases.
    pub const fn new(volume: VolumeName, release: ReleaseId, seq_of: S) -> Self {
        Self {
            volume,
            release,
            seq_of,
            steps: Vec::new(),
            end: VecDeque::new(),
            steps_cut: 0,
            active: BTreeMap::new(),
            live: None,
        }
    }

    /// Takes the next line.
    pub fn take(&mut self, fact: &Fact<'_>) {
        if fact.volume != Some(&self.volume) {
            return;
        }
        let told = StepKind::of(fact.action, fact.outcome).filter(|kind| self.is_told(*kind, fact));
        if let Some(kind) = told {
            self.tell(kind, fact);
        }
        match (fact.action, fact.node) {
            (
                action::ONLINE | action::ACTIVATED | action::VERIFIED | action::RETURNED,
                Some(node),
            ) => drop(self.active.insert(node.clone(), fact.release)),
            (action::LIVE, _) => self.live = fact.release,
            _ => {}
        }
    }

    /// Returns the steps, and how many in the middle were left out.
    pub fn finish(mut self) -> (Vec<Step>, u64) {
        self.steps.extend(self.end);
        (self.steps, self.steps_cut)
    }

    /// Whether a line belongs to the story: it names the release, or says who leaves it.
    fn is_told(&self, kind: StepKind, fact: &Fact<'_>) -> bool {
        let ours = Some(self.release);
        match kind {
            _ if fact.release == ours => true,
            StepKind::Returned => {
                let before = fact.node.and_then(|node| self.active.get(node));
                before == Some(&ours)
            }
            StepKind::Live | StepKind::Frozen | StepKind::Thawed => self.live == ours,
            _ => false,
        }
    }

    fn tell(&mut self, kind: StepKind, fact: &Fact<'_>) {
        let step = Step {
            line: fact.line,
            at: fact.at,
            step: kind,
            release: fact.release.and_then(&self.seq_of),
            node: fact.node.cloned(),
            by: cut(fact.actor),
            evidence: fact.evidence,
            detail: fact.detail.filter(|text| !text.is_empty()).map(cut),
        };
        if self.steps.len() < STEPS_MAX / 2 {
            self.steps.push(step);
            return;
        }
        self.end.push_back(step);
        if self.end.len() > STEPS_MAX / 2 {
            self.end.pop_front();
            self.steps_cut += 1;
        }
    }
}

fn cut(text: &Text) -> Text {
    let text = text.as_str();
    let end = text.floor_char_boundary(DETAIL_BYTES_MAX);
    if end == text.len() {
        Text::cut(text)
    } else {
        Text::cut(format!("{}...", text.get(..end).unwrap_or_default()))
    }
}
