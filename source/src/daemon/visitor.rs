//! Whoever dials in: a member, a stranger with a token, or neither.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::name::NodeName;
use codevol_protocol::role::Role;
use codevol_transport::{Alpn, CloseCode, Peer, Pending};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bus::now;
use crate::callers::{self, Member};
use crate::control::Desk;
use crate::session::{self, Entered, REVOKED, SessionContext, SessionError, Sessions};

/// How long a peer may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever dials in.
pub(super) struct Visitor {
    pub(super) desk: Desk,
    pub(super) context: SessionContext,
}

impl Visitor {
    pub(super) async fn serve(self, pending: Pending, shutdown: CancellationToken) {
        let remote = pending.remote_address();
        let peer = match pending.handshake(HANDSHAKE_TIMEOUT).await {
            Ok(peer) => peer,
            Err(error) => return self.desk.door.turn_away(remote, &error),
        };
        match peer.alpn {
            Alpn::Join => {
                if let Some(node) = self.desk.door.serve(peer).await
                    && self.desk.door.agents().contains(&node)
                {
                    for volume in self.desk.volumes.values() {
                        volume.fleet.enrolled(node.clone()).await;
                    }
                }
            }
            Alpn::Node => self.serve_member(peer, shutdown).await,
        }
    }

    async fn serve_member(self, peer: Peer, shutdown: CancellationToken) {
        let Some((node, role)) = self.desk.door.member_of(&peer.key) else {
            self.desk
                .door
                .turn_away(peer.remote, &"key is not enrolled");
            peer.link
                .close(CloseCode::NotEnrolled, "this key is not enrolled");
            return;
        };
        match role {
            Role::Agent => self.serve_agent(node, peer, shutdown).await,
            Role::Operator | Role::Publisher => {
                let member = Member { name: node, role };
                self.serve_caller(member, peer, shutdown).await;
            }
        }
    }

    async fn serve_caller(self, member: Member, peer: Peer, shutdown: CancellationToken) {
        let _counted = self.desk.traffic.enter(&peer.link);
        let node = &member.name;
        let entered = self
            .sessions()
            .enter_caller(node.clone(), peer.link.clone());
        let Some(id) = entered else {
            warn!(%node, remote = %peer.remote, "member has too many connections");
            peer.link
                .close(CloseCode::Busy, "too many connections of this key");
            return;
        };
        if !self.revoked_meanwhile(&peer, node) {
            info!(%node, remote = %peer.remote, role = %member.role, "member connected");
            let ended = callers::serve(&self.desk, &peer.link, &member, shutdown).await;
            self.noted(node, &peer, &ended);
        }
        self.sessions().leave_caller(node, id, now());
    }

    async fn serve_agent(self, node: NodeName, peer: Peer, shutdown: CancellationToken) {
        let _counted = self.desk.traffic.enter(&peer.link);
        let Entered { id, takes_turns } = self.sessions().enter(node.clone(), peer.link.clone());
        if takes_turns {
            error!(%node, remote = %peer.remote, "two hosts take turns with one node key");
            let remote = format!("connections replace one another, last from {}", peer.remote);
            self.desk.door.note(&node, "replaced", &remote);
        }
        if !self.revoked_meanwhile(&peer, &node) && self.has_used(&peer, &node) {
            let (context, link) = (self.context.clone(), peer.link.clone());
            let ended = session::run(context, link, (node.clone(), id, peer.key), shutdown).await;
            self.noted(&node, &peer, &ended);
        }
        self.sessions().leave(&node, id);
        // One that was removed while it was shown in: the fleets heard that before they heard of it.
        if !self.desk.door.agents().contains(&node) {
            for volume in self.desk.volumes.values() {
                volume.fleet.removed(node.clone()).await;
            }
        }
    }

    /// Takes note of the key before the node hears a word: from here on its old one is nobody's.
    fn has_used(&self, peer: &Peer, node: &NodeName) -> bool {
        let used = self.desk.door.used(node, &peer.key);
        if let Err(why) = &used {
            peer.link.close(CloseCode::Shutdown, why);
        }
        used.is_ok()
    }

    /// Who was removed between the first look and the entry was not among those to be closed.
    fn revoked_meanwhile(&self, peer: &Peer, node: &NodeName) -> bool {
        let member = self.desk.door.member_of(&peer.key);
        let is_revoked = member.is_none_or(|(name, _)| name != *node);
        if is_revoked {
            peer.link.close(CloseCode::Revoked, REVOKED);
        }
        is_revoked
    }

    /// Closes the link of a member that broke a rule, and has the journal say so.
    fn noted(&self, node: &NodeName, peer: &Peer, ended: &Result<(), SessionError>) {
        let Err(error) = ended else { return };
        let (code, outcome, reason) = match error.violation() {
            Some(CloseCode::NotPermitted) => (CloseCode::NotPermitted, "refused", "not permitted"),
            Some(code) => (code, "violation", "protocol violation"),
            None => return,
        };
        warn!(%node, error = %Chain(error), "node broke the protocol");
        self.desk
            .door
            .note(node, outcome, &Chain(error).to_string());
        peer.link.close(code, reason);
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        let sessions = self.desk.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }
}
