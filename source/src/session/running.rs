//! The sessions that run: at most one a node, the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use codevol_protocol::name::NodeName;
use codevol_transport::{CloseCode, Link};

use crate::fleet::SessionId;

/// Within this time, a node that is replaced again and again is two hosts with one key.
const TURNS_WITHIN: Duration = Duration::from_secs(60);
/// How often a node may be replaced within that time before it is said.
const TURNS_MAX: usize = 2;

/// The sessions that run: at most one a node.
#[derive(Debug, Default)]
pub struct Sessions {
    next: u64,
    running: BTreeMap<NodeName, (SessionId, Link)>,
    /// When the links of a node were replaced; those of late.
    replaced: BTreeMap<NodeName, Vec<Instant>>,
}

/// A link that was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// Its session.
    pub id: SessionId,
    /// Whether two hosts with one key take turns: an alarm.
    pub takes_turns: bool,
}

impl Sessions {
    /// Enters a new link of a node; the older one, if there is one, is closed as replaced.
    pub fn enter(&mut self, node: NodeName, link: Link) -> Entered {
        self.next += 1;
        let id = SessionId(self.next);
        let mut takes_turns = false;
        if let Some((_, older)) = self.running.insert(node.clone(), (id, link)) {
            older.close(CloseCode::Replaced, "a newer connection of the same key");
            let times = self.replaced.entry(node).or_default();
            times.retain(|at| at.elapsed() < TURNS_WITHIN);
            times.push(Instant::now());
            // Said once a series, not at each turn of it.
            takes_turns = times.len() == TURNS_MAX;
        }
        Entered { id, takes_turns }
    }

    /// Forgets a session that ended.
    pub fn leave(&mut self, node: &NodeName, id: SessionId) {
        if self
            .running
            .get(node)
            .is_some_and(|(current, _)| *current == id)
        {
            self.running.remove(node);
        }
    }

    /// Closes the link of a node that is a member no more.
    pub fn revoke(&mut self, node: &NodeName) {
        if let Some((_, link)) = self.running.remove(node) {
            link.close(CloseCode::Revoked, "this key is enrolled no more");
        }
    }

    /// Returns how long a packet takes to each connected node and back, as QUIC estimates it.
    #[must_use]
    pub fn rtts(&self) -> BTreeMap<NodeName, Duration> {
        let running = self.running.iter();
        running
            .map(|(node, (_, link))| (node.clone(), link.rtt()))
            .collect()
    }

    /// Returns the nodes that are connected.
    #[must_use]
    pub fn online(&self) -> BTreeSet<NodeName> {
        self.running.keys().cloned().collect()
    }
}
