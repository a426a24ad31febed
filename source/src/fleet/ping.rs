//! A sign of life of one node, asked for over the link that it keeps.

use codevol_protocol::name::NodeName;
use tokio::sync::oneshot;

use super::handle::{Pinged, SessionCommand};
use super::task::FleetTask;

impl FleetTask {
    /// Hands a ping to the node's session. The task waits for nobody: where there is no session
    /// `reply` is dropped, which says so.
    pub(super) fn ping(&self, node: &NodeName, reply: oneshot::Sender<Pinged>) {
        let known = self.nodes.get(node);
        let Some(session) = known.and_then(|known| known.session.as_ref()) else {
            return;
        };
        let sent = session.outbox.try_send(SessionCommand::Ping(reply));
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(SessionCommand::Ping(reply))) = sent
        {
            // Whoever asked may have gone.
            reply.send(Pinged::Busy).unwrap_or_default();
        }
    }
}
