//! How a rollout goes through the fleet: who activates first, how many at a time, and what one
//! broken server means for the others.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Standing;
use super::node::Node;
use crate::name::NodeName;

/// What the operator of a source decides about its rollouts. A change holds from the next decision
/// on; the waves of a rollout that activates stay as they were planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many activate first, alone.
    pub canary: Canary,
    /// How many of the others activate at a time.
    pub wave: Wave,
    /// What becomes of those that had activated when one is found broken.
    pub on_broken: OnBroken,
    /// Who must be online for a rollout to take a step forward.
    pub require_online: RequireOnline,
    /// How long a node may take for a verdict before it counts as unproven; its own timeouts and a
    /// way back fit into it. Progress that it reports begins it anew.
    pub verify_timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            canary: Canary::Auto,
            wave: Wave::All,
            on_broken: OnBroken::Return,
            require_online: RequireOnline::Any,
            verify_timeout: Duration::from_secs(90),
        }
    }
}

/// The size of the first wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// One server, unless no member has a code server: then an activation proves nothing that
    /// staging did not.
    Auto,
    /// So many; with 0 there is no first wave of its own.
    Nodes(usize),
}

/// The size of the waves after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// All that are left.
    All,
    /// So many, and one at least.
    Nodes(usize),
    /// So many in a hundred of all members, rounded up, and one at least.
    Percent(u8),
}

/// What one broken member means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBroken {
    /// Every member that had activated goes back.
    Return,
    /// The broken one goes back. The others that had activated stay until a person decides, each
    /// unless it finds the release broken too; nobody else activates.
    Stop,
}

/// Who must be online for a rollout to begin, to activate, to go on to its next wave and to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireOnline {
    /// Nobody in particular: who is away catches up later.
    Any,
    /// Every enrolled node.
    All,
}

impl Policy {
    /// Plans in which groups the members activate. The first are those that can tell best whether
    /// the release is broken; among equals the name decides.
    pub(super) fn waves<'a>(
        &self,
        members: impl Iterator<Item = (&'a NodeName, &'a Node)>,
    ) -> Vec<BTreeSet<NodeName>> {
        let mut members: Vec<(Telling, &NodeName)> = members
            .map(|(name, node)| (Telling::of(node), name))
            .collect();
        members.sort();
        let canary = match self.canary {
            Canary::Auto => usize::from(members.iter().any(|(tells, _)| *tells < Telling::Nothing)),
            Canary::Nodes(nodes) => nodes,
        };
        let size = match self.wave {
            Wave::All => members.len(),
            Wave::Nodes(nodes) => nodes,
            Wave::Percent(percent) => (members.len() * usize::from(percent)).div_ceil(100),
        };
        let (first, others) = members.split_at(canary.min(members.len()));
        let named =
            |wave: &[(Telling, &NodeName)]| wave.iter().map(|(_, n)| (*n).clone()).collect();
        std::iter::once(first)
            .chain(others.chunks(size.max(1)))
            .filter(|wave| !wave.is_empty())
            .map(named)
            .collect()
    }
}

/// How well a node can tell whether a release is broken, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// Its code servers load what it activates.
    Well,
    /// It has or may have code servers, and they did not load well what it runs.
    Perhaps,
    /// It has no code server.
    Nothing,
}

impl Telling {
    const fn of(node: &Node) -> Self {
        match node.standing {
            Standing::Proven | Standing::Good => Self::Well,
            Standing::Verifying | Standing::Unproven | Standing::Broken => Self::Perhaps,
            Standing::Activated => Self::Nothing,
        }
    }
}
