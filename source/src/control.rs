//! The source's control socket: an operator's calls, one a connection.

mod answer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_protocol::call::Call;
use codevol_protocol::chain::Chain;
use codevol_protocol::id::FleetId;
use codevol_protocol::name::{Text, VolumeName};
use codevol_transport::{Caller, ControlListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::join::Door;
use crate::session::Sessions;
use crate::volume::Volume;

/// How long a caller may take to say what it wants.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What calls are answered from.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The volumes.
    pub volumes: Arc<BTreeMap<VolumeName, Volume>>,
    /// The members.
    pub door: Door,
    /// Who is connected.
    pub sessions: Arc<Mutex<Sessions>>,
    /// The fleet.
    pub fleet: FleetId,
    /// Where the source is bound.
    pub listen: Text,
}

impl Desk {
    /// Answers calls until the daemon stops.
    pub async fn serve(
        self,
        listener: ControlListener,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) {
        loop {
            // Cancel-safe: `accept` loses no caller when dropped.
            let caller = tokio::select! {
                () = shutdown.cancelled() => break,
                caller = listener.accept() => caller,
            };
            let (desk, stop) = (self.clone(), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    // Cancel-safe: the caller sees its connection end, and asks again.
                    () = stop.cancelled() => {}
                    () = desk.answer_one(caller) => {}
                }
            });
        }
    }

    async fn answer_one(&self, mut caller: Caller) {
        let Ok(read) = timeout(CALL_TIMEOUT, caller.reader.read::<Call>()).await else {
            return;
        };
        let answered = match read {
            Ok(Some(call)) => self.answer(call, caller.author, &mut caller.writer).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            debug!(error = %Chain(&error), "caller went away");
        }
    }
}
