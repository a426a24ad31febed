//! The calls that are about the members: who they are, who may join, who is out.

use std::sync::PoisonError;
use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Reply};
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::role::Role;

use super::Desk;

impl Desk {
    pub(super) async fn remove_node(
        &self,
        name: &NodeName,
        author: &Text,
    ) -> Result<Reply, CallFailure> {
        self.door.remove(name, author)?;
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revoke(name);
        for volume in self.volumes.values() {
            volume.fleet.removed(name.clone()).await;
        }
        let done = format!("node `{name}` is a member no more");
        Ok(Reply::Done(Text::cut(done)))
    }

    pub(super) fn invite(
        &self,
        invited: (Role, Option<NodeName>),
        ttl_s: u64,
        author: &Text,
    ) -> Result<Reply, CallFailure> {
        let ttl = Duration::from_secs(ttl_s);
        Ok(Reply::Invited(self.door.invite(invited, ttl, author)?))
    }

    /// Checks that there is an agent of this name.
    pub(super) fn agent(&self, name: &NodeName) -> Result<(), CallFailure> {
        let refused = |message: String| {
            let refused = CallFailure::new(FailureSort::Refused, "not-found", message);
            Err(refused.hint("`codevol node ls` lists the members"))
        };
        match self.door.members().into_iter().find(|m| m.name == *name) {
            Some(member) if member.role == Role::Agent => Ok(()),
            Some(member) => refused(format!(
                "`{name}` is no agent, but of role `{}`",
                member.role
            )),
            None => refused(format!("there is no node `{name}`")),
        }
    }

    pub(super) async fn nodes(&self) -> Reply {
        let mut members = self.door.members();
        let (online, mut seen) = {
            let sessions = self.sessions.lock();
            let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
            (sessions.online(), sessions.heard())
        };
        for volume in self.volumes.values() {
            let status = volume.fleet.status().await;
            seen.extend(
                status
                    .into_iter()
                    .flat_map(|status| status.nodes)
                    .map(|node| (node.name, node.last_seen_at)),
            );
        }
        for member in &mut members {
            member.online = online.contains(&member.name);
            member.last_seen_at = seen.get(&member.name).copied().flatten();
        }
        Reply::Nodes(members)
    }
}
