//! A thread that writes a daemon's journal, so that nobody waits for a line to be durable: the
//! journal is history, not state. A line is written at once, so that a killed daemon leaves it behind.
//! It is made durable a little later, when the disk has done what a rollout waits for: within that
//! time a loss of power may take it away.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use jiff::Timestamp;
use tracing::error;

use crate::journal::{Event, Journal};

/// How many lines may wait for the disk; who records one more waits too.
const WAITING_MAX: usize = 1_024;
/// How long a line may be written and not be durable, where nobody waits for it.
const UNSYNCED_MAX: Duration = Duration::from_millis(100);

/// Hands lines to the thread. When the last clone is gone, what waits is written and the thread
/// ends.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Order {
    Append(Timestamp, Box<Event>),
    /// Says when what was ordered before is durable.
    Tell(SyncSender<()>),
}

#[derive(Debug)]
struct Inner {
    sender: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(journal: Journal) -> std::io::Result<Self> {
        let (sender, orders) = mpsc::sync_channel::<Order>(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(journal, &orders))?;
        let inner = Inner {
            sender: Some(sender),
            thread: Some(thread),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Records what happened, now.
    pub fn record(&self, event: Event) {
        if let Some(sender) = &self.inner.sender
            && sender
                .send(Order::Append(Timestamp::now(), Box::new(event)))
                .is_err()
        {
            error!("journal's thread is gone");
        }
    }

    /// Blocks until all that was recorded before is durable, or the thread is gone.
    pub fn wait(&self) {
        let (durable, done) = mpsc::sync_channel(1);
        if let Some(sender) = &self.inner.sender
            && sender.send(Order::Tell(durable)).is_ok()
        {
            done.recv().unwrap_or_default();
        }
    }
}

fn run(mut journal: Journal, orders: &Receiver<Order>) {
    let mut sync_at: Option<Instant> = None;
    loop {
        let order = match sync_at {
            Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => orders.recv().or(Err(RecvTimeoutError::Disconnected)),
        };
        let asked = match order {
            Ok(Order::Append(at, event)) => {
                if let Err(cause) = journal.write_all([(at, *event)]) {
                    error!(error = %Chain(&cause), "cannot write the journal");
                }
                sync_at = sync_at.or_else(|| Instant::now().checked_add(UNSYNCED_MAX));
                continue;
            }
            Ok(Order::Tell(durable)) => Some(durable),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        sync(&journal);
        sync_at = None;
        if let Some(durable) = asked {
            // Who asked may have gone.
            durable.send(()).unwrap_or_default();
        }
    }
    if sync_at.is_some() {
        sync(&journal);
    }
}

fn sync(journal: &Journal) {
    if let Err(cause) = journal.sync() {
        error!(error = %Chain(&cause), "cannot make the journal durable");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("journal's thread failed");
        }
    }
}
