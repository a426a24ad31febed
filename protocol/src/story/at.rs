//! What ran where at a moment: first which lines count ([`Clock`]), then what these say
//! ([`Standing`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fact, action, outcome};
use crate::evidence::Evidence;
use crate::id::ReleaseId;
use crate::name::{NodeName, Text, VolumeName};
use crate::release::{Seq, UnixMillis};

/// Finds the last line that was written at a moment or before.
///
/// Nothing is reordered by the clock. Where it was set back, it showed some moments twice: the later
/// time counts, with all lines before it, and that there was an earlier one is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    time: UnixMillis,
    last: Option<u64>,
    first_later: Option<u64>,
    was_set_back: Option<u64>,
}

impl Clock {
    /// Begins to look for a moment.
    #[must_use]
    pub const fn new(time: UnixMillis) -> Self {
        Self {
            time,
            last: None,
            first_later: None,
            was_set_back: None,
        }
    }

    /// Takes the next line.
    pub const fn take(&mut self, line: u64, at: UnixMillis) {
        if at.0 <= self.time.0 {
            self.last = Some(line);
            self.was_set_back = self.first_later;
        } else if self.first_later.is_none() {
            self.first_later = Some(line);
        }
    }

    /// Returns the last line that counts; nothing where the moment lies before all of them.
    #[must_use]
    pub const fn last(&self) -> Option<u64> {
        self.last
    }

    /// Returns the first of the lines that count and have a later time than the moment: it was
    /// written before the clock was set back.
    #[must_use]
    pub const fn was_set_back(&self) -> Option<u64> {
        self.was_set_back
    }
}

/// What a node ran at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The node.
    pub node: NodeName,
    /// The release that its `current` named; nothing where it had none.
    pub release: Option<Seq>,
    /// When it came there, as far as the journal goes.
    pub since: UnixMillis,
    /// What was known of it.
    pub evidence: Option<Evidence>,
    /// What its last verification found: `good`, `unproven` or `broken`.
    pub found: Option<Text>,
    /// Whether the source was in touch with it.
    pub online: bool,
    /// Who had it stay there, where somebody did.
    pub held_by: Option<Text>,
}

/// What ran where at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtTime {
    /// The moment.
    pub at: UnixMillis,
    /// The volume.
    pub volume: VolumeName,
    /// What the fleet was to run.
    pub live: Option<Seq>,
    /// Whether the volume was frozen, and by whom.
    pub frozen_by: Option<Text>,
    /// The nodes, by name.
    pub nodes: Vec<Ran>,
    /// The last line of the journal that counts.
    pub line: u64,
    /// The line that was written before the clock was set back behind the moment.
    pub set_back: Option<u64>,
    /// The number of the journal's first line: more than 1 where older ones are gone.
    pub journal_first: Option<u64>,
}

#[derive(Debug, Clone)]
struct Node {
    release: Option<ReleaseId>,
    since: UnixMillis,
    evidence: Option<Evidence>,
    found: Option<Text>,
    online: bool,
    held_by: Option<Text>,
}

/// What is known of a volume after some lines.
#[derive(Debug)]
pub struct Standing {
    volume: VolumeName,
    live: Option<ReleaseId>,
    frozen_by: Option<Text>,
    nodes: BTreeMap<NodeName, Node>,
}

impl Standing {
    /// Begins with nothing.
    #[must_use]
    pub const fn new(volume: VolumeName) -> Self {
        Self {
            volume,
            live: None,
            frozen_by: None,
            nodes: BTreeMap::new(),
        }
    }

    /// Takes the next line.
    pub fn take(&mut self, fact: &Fact<'_>) {
        match (fact.action, fact.node) {
            // Members are members of all volumes.
            (action::REMOVE, Some(node)) => drop(self.nodes.remove(node)),
            _ if fact.volume != Some(&self.volume) => {}
            (action::START, _) => {
                for node in self.nodes.values_mut() {
                    node.online = false;
                }
            }
            (action::LIVE, _) => self.live = fact.release,
            (action::FREEZE, _) => self.frozen_by = Some(fact.actor.clone()),
            (action::THAW, _) => self.frozen_by = None,
            (_, Some(name)) => self.take_of(name, fact),
            (_, None) => {}
        }
    }

    fn take_of(&mut self, name: &NodeName, fact: &Fact<'_>) {
        let runs = matches!(
            fact.action,
            action::ONLINE | action::ACTIVATED | action::VERIFIED | action::RETURNED
        );
        if !runs && !self.nodes.contains_key(name) {
            return;
        }
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node {
            release: None,
            since: fact.at,
            evidence: None,
            found: None,
            online: false,
            held_by: None,
        });
        match fact.action {
            action::HOLD => node.held_by = Some(fact.actor.clone()),
            action::UNHOLD => node.held_by = None,
            _ => node.online = fact.action != action::OFFLINE,
        }
        if !runs {
            return;
        }
        let moved = node.release != fact.release;
        if moved {
            node.release = fact.release;
            node.since = fact.at;
        }
        if moved || fact.action == action::ACTIVATED {
            node.found = None;
        }
        node.evidence = if fact.action == action::ACTIVATED {
            Some(Evidence::Activated)
        } else {
            fact.evidence
        };
        if matches!(fact.action, action::VERIFIED | action::RETURNED) {
            let words = [outcome::GOOD, outcome::UNPROVEN, outcome::BROKEN];
            let found = words.into_iter().find(|word| *word == fact.outcome);
            node.found = found.map(Text::cut);
        }
    }

    /// Returns what stands, of one node where it is named.
    #[must_use]
    pub fn finish(
        self,
        clock: &Clock,
        only: Option<&NodeName>,
        seq_of: impl Fn(ReleaseId) -> Option<Seq>,
    ) -> AtTime {
        let wanted = |(name, _): &(NodeName, Node)| only.is_none_or(|only| only == name);
        let nodes = self.nodes.into_iter().filter(wanted);
        AtTime {
            at: clock.time,
            volume: self.volume,
            live: self.live.and_then(&seq_of),
            frozen_by: self.frozen_by,
            nodes: nodes
                .map(|(name, node)| Ran {
                    node: name,
                    release: node.release.and_then(&seq_of),
                    since: node.since,
                    evidence: node.evidence,
                    found: node.found,
                    online: node.online,
                    held_by: node.held_by,
                })
                .collect(),
            line: clock.last.unwrap_or_default(),
            set_back: clock.was_set_back,
            journal_first: None,
        }
    }
}
