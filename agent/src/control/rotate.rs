//! Another key for this node, for a person.

use std::time::Duration;

use codevol_protocol::call::{CallFailure, Reply};
use codevol_protocol::name::Text;
use codevol_protocol::status::LinkState;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Desk, unavailable};

/// How long it may take: to be announced, and to dial by the new key.
const ROTATE_TIMEOUT: Duration = Duration::from_secs(25);

impl Desk {
    pub(super) async fn rotate(&self) -> Result<Reply, CallFailure> {
        if self.link.borrow().state != LinkState::Connected {
            let message = "the source is not connected, and it has to take the new key";
            return Err(unavailable("unreachable", message).hint("`codevol status` shows the link"));
        }
        let (asker, answer) = oneshot::channel();
        let stopping = || unavailable("stopping", "the agent is stopping");
        let sent = self.rotations.try_send(asker);
        sent.map_err(|_full| unavailable("busy", "the agent is asked for other keys already"))?;
        let answered = timeout(ROTATE_TIMEOUT, answer).await;
        let answered = answered.map_err(|_elapsed| {
            let message = "the source has not seen the new key yet";
            unavailable("silent", message).hint(
                "the agent goes on with it at its next connection; `codevol node ls` on the source shows the key",
            )
        })?;
        let (old, new) = answered.map_err(|_dropped| stopping())??;
        let done = format!(
            "node `{}` has the key {} in place of {}, which is revoked",
            self.node,
            new.short(),
            old.short()
        );
        Ok(Reply::Done(Text::cut(done)))
    }
}
