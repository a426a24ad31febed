//! What a member may do. There is one table, it names every call, and whoever is not in its line may
//! not make that call, whichever way it came.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Receives and runs releases. It calls nobody.
    Agent,
    /// A person's machine: makes every call.
    Operator,
    /// CI: pushes, and asks how things stand.
    Publisher,
}

impl Role {
    /// Returns the word for it, as in the tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
        }
    }

    /// Whether a member of this role may make a call.
    #[must_use]
    pub fn permits(self, call: &Call) -> bool {
        entry(call).1.contains(&self)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Call {
    /// Returns the word for it, as in the journal.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        entry(self).0
    }
}

/// The line of a call: its name, and who may make it.
const fn entry(call: &Call) -> (&'static str, &'static [Role]) {
    const PUBLISH: &[Role] = &[Role::Operator, Role::Publisher];
    const OPERATE: &[Role] = &[Role::Operator];
    match call {
        Call::Status | Call::Watch => ("status", PUBLISH),
        // Who lifts a freeze overrules the person who froze the volume.
        Call::Push(push) if push.thaw => ("push --thaw", OPERATE),
        Call::Deliver(delivery) if delivery.push.thaw => ("push --thaw", OPERATE),
        // Nor does it overrule the person whose edit stands in the tree.
        Call::Deliver(delivery) if delivery.force => ("push --force", OPERATE),
        Call::Push(_) | Call::Deliver(_) => ("push", PUBLISH),
        Call::Health { .. } => ("health", OPERATE),
        Call::Invite { .. } | Call::InviteAs { .. } => ("invite", OPERATE),
        Call::Nodes => ("node ls", OPERATE),
        Call::RemoveNode { .. } => ("node rm", OPERATE),
        Call::Log { .. } | Call::Story { .. } | Call::At { .. } => ("log", OPERATE),
        Call::Rollback { .. } | Call::RollbackNode { .. } => ("rollback", OPERATE),
        Call::Freeze { .. } => ("freeze", OPERATE),
        Call::Thaw { .. } | Call::ThawNode { .. } => ("thaw", OPERATE),
        Call::Retry { .. } => ("retry", OPERATE),
        Call::Ignored { .. } => ("ignored", OPERATE),
        Call::Diff { .. } | Call::NodeDiff { .. } => ("diff", OPERATE),
        Call::Ping { .. } => ("ping", OPERATE),
        Call::Collect { .. } => ("gc", OPERATE),
        // A key lies on the host whose daemon is asked.
        Call::Rotate => ("node rotate", &[]),
        // It hands out the code.
        Call::Seal { .. } => ("seal", OPERATE),
        Call::Verify { .. } => ("verify", OPERATE),
        Call::Audit => ("audit verify", OPERATE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Push;
    use crate::call::delivery::Delivery;
    use crate::name::Text;

    fn what(thaw: bool) -> Push {
        Push {
            volume: None,
            paths: Vec::new(),
            message: Text::default(),
            dry_run: false,
            thaw,
            yes: false,
            wait: false,
        }
    }

    fn push(thaw: bool) -> Call {
        Call::Push(what(thaw))
    }

    fn deliver(thaw: bool, force: bool) -> Call {
        Call::Deliver(Box::new(Delivery {
            push: what(thaw),
            whole: false,
            force,
            host: Text::default(),
            git: None,
            manifest_bytes: 0,
            rules_bytes: 0,
        }))
    }

    #[test]
    fn a_publisher_pushes_and_asks_how_things_stand_and_an_agent_calls_nobody() {
        let node = "dag-01".parse().unwrap();
        let others = [
            push(true),
            Call::Nodes,
            Call::RemoveNode { name: node },
            Call::Thaw {
                volume: None,
                message: Text::default(),
            },
            Call::Health { ready: false },
            Call::Audit,
            deliver(true, false),
            deliver(false, true),
        ];
        for call in [
            Call::Status,
            Call::Watch,
            push(false),
            deliver(false, false),
        ] {
            assert!(Role::Publisher.permits(&call), "{}", call.name());
        }
        for call in &others {
            assert!(!Role::Publisher.permits(call), "{}", call.name());
            assert!(Role::Operator.permits(call), "{}", call.name());
        }
        for call in others.iter().chain(&[Call::Status, push(false)]) {
            assert!(!Role::Agent.permits(call), "{}", call.name());
        }
    }
}
