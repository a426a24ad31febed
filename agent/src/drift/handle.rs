//! How others speak with the task that looks for drift.

use codevol_protocol::drift::{Depth, Drifted, Word};
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// What the task is told.
#[derive(Debug)]
pub enum DriftOrder {
    /// The source has greeted: it knows nothing yet of what drifts.
    Greeted {
        /// The newest minor version that it speaks.
        minor: u16,
    },
    /// Ignore rules came.
    Rules(Vec<u8>),
    /// Bytes that were lost have come again.
    Mended,
    /// Somebody wants to know now.
    Look {
        /// How far.
        depth: Depth,
        /// Who.
        asker: Asker,
    },
}

/// Whom to answer.
#[derive(Debug)]
pub enum Asker {
    /// Somebody on this host.
    Caller(mpsc::Sender<Word>),
    /// The source, with this question.
    Source(u64),
}

/// Speaks with the task.
#[derive(Debug, Clone)]
pub struct DriftHandle {
    pub(super) inbox: mpsc::Sender<DriftOrder>,
    pub(super) view: watch::Receiver<Drifted>,
}

impl DriftHandle {
    /// Tells the task something; whether it takes it. Nobody waits for it: it may wait for the disk.
    pub fn tell(&self, order: DriftOrder) -> bool {
        let taken = self.inbox.try_send(order);
        if let Err(error) = &taken {
            warn!(%error, "the task that looks for drift takes no order");
        }
        taken.is_ok()
    }

    /// Returns what is known to drift.
    #[must_use]
    pub fn view(&self) -> Drifted {
        self.view.borrow().clone()
    }
}
