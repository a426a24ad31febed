//! Whoever dials in: a member, a stranger with a token, or neither.

use std::sync::PoisonError;
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_transport::{Alpn, CloseCode, Peer, Pending};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::control::Desk;
use crate::session::{self, Entered, SessionContext};

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
                if let Some(node) = self.desk.door.serve(peer).await {
                    for volume in self.desk.volumes.values() {
                        volume.fleet.enrolled(node.clone()).await;
                    }
                }
            }
            Alpn::Node => self.serve_node(peer, shutdown).await,
        }
    }

    async fn serve_node(self, peer: Peer, shutdown: CancellationToken) {
        let Some(node) = self.desk.door.name_of(&peer.key) else {
            self.desk
                .door
                .turn_away(peer.remote, &"key is not enrolled");
            peer.link
                .close(CloseCode::NotEnrolled, "this key is not enrolled");
            return;
        };
        let _counted = self.desk.traffic.enter(&peer.link);
        let sessions = &self.desk.sessions;
        let Entered { id, takes_turns } = sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .enter(node.clone(), peer.link.clone());
        if takes_turns {
            error!(%node, remote = %peer.remote, "two hosts take turns with one node key");
            let remote = format!("connections replace one another, last from {}", peer.remote);
            self.desk.door.note(&node, "replaced", &remote);
        }
        // Who was removed between the first look and the entry was not among those to be closed.
        if self.desk.door.name_of(&peer.key).as_ref() != Some(&node) {
            peer.link
                .close(CloseCode::Revoked, "this key is enrolled no more");
            sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .leave(&node, id);
            return;
        }
        let ended = session::run(
            self.context,
            peer.link.clone(),
            (node.clone(), id),
            shutdown,
        )
        .await;
        if let Err(error) = &ended
            && let Some(code) = error.violation()
        {
            warn!(%node, error = %Chain(error), "node broke the protocol");
            self.desk
                .door
                .note(&node, "violation", &Chain(error).to_string());
            peer.link.close(code, "protocol violation");
        }
        sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .leave(&node, id);
    }
}
