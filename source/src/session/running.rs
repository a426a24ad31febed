//! The sessions that run: at most one a node, the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use codevol_protocol::name::NodeName;
use codevol_protocol::release::UnixMillis;
use codevol_transport::{CloseCode, Link};

use crate::fleet::SessionId;

/// What a peer is told whose key is no member's any more.
pub(crate) const REVOKED: &str = "this key is enrolled no more";
/// Within this time, a node that is replaced again and again is two hosts with one key.
const TURNS_WITHIN: Duration = Duration::from_secs(60);
/// How often a node may be replaced within that time before it is said.
const TURNS_MAX: usize = 2;

/// How many connections one member may make calls by at once.
const CALLERS_MAX: usize = 8;

/// The sessions that run: at most one an agent, a few a member that makes calls.
#[derive(Debug, Default)]
pub struct Sessions {
    next: u64,
    running: BTreeMap<NodeName, (SessionId, Link)>,
    calling: BTreeMap<NodeName, Vec<(SessionId, Link)>>,
    /// When the last connection of a member that made calls ended.
    heard: BTreeMap<NodeName, UnixMillis>,
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

    /// Enters a link by which a member makes calls; nothing where it has as many as it may.
    pub fn enter_caller(&mut self, node: NodeName, link: Link) -> Option<SessionId> {
        let links = self.calling.entry(node).or_default();
        if links.len() >= CALLERS_MAX {
            return None;
        }
        self.next += 1;
        let id = SessionId(self.next);
        links.push((id, link));
        Some(id)
    }

    /// Forgets a link by which a member made calls.
    pub fn leave_caller(&mut self, node: &NodeName, id: SessionId, now: UnixMillis) {
        // One that was revoked is heard no more.
        let Some(links) = self.calling.get_mut(node) else {
            return;
        };
        links.retain(|(each, _)| *each != id);
        if links.is_empty() {
            self.calling.remove(node);
        }
        self.heard.insert(node.clone(), now);
    }

    /// Closes the links of a node that is a member no more.
    pub fn revoke(&mut self, node: &NodeName) {
        self.heard.remove(node);
        let calling = self.calling.remove(node).unwrap_or_default();
        for (_, link) in self.running.remove(node).into_iter().chain(calling) {
            link.close(CloseCode::Revoked, REVOKED);
        }
    }

    /// Returns when members that make calls were last connected.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<NodeName, Option<UnixMillis>> {
        let heard = self.heard.iter();
        heard.map(|(node, at)| (node.clone(), Some(*at))).collect()
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
        let nodes = self.running.keys().chain(self.calling.keys());
        nodes.cloned().collect()
    }
}
