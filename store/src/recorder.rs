//! A thread that writes a daemon's journal, so that nobody waits for a line to be durable: the
//! journal is history, not state.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use codevol_protocol::chain::Chain;
use jiff::Timestamp;
use tracing::error;

use crate::journal::{Event, Journal};

/// How many lines may wait for the disk; who records one more waits too.
const WAITING_MAX: usize = 1_024;

/// Hands lines to the thread. When the last clone is gone, what waits is written and the thread
/// ends.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Order {
    Append(Timestamp, Box<Event>),
    /// Says that what was ordered before is done.
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
    pub fn start(mut journal: Journal) -> std::io::Result<Self> {
        let (sender, lines) = mpsc::sync_channel::<Order>(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                while let Ok(first) = lines.recv() {
                    // What came meanwhile shares one sync.
                    let more = lines.try_iter().take(WAITING_MAX);
                    write(&mut journal, std::iter::once(first).chain(more).collect());
                }
            })?;
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
        let (written, done) = mpsc::sync_channel(1);
        if let Some(sender) = &self.inner.sender
            && sender.send(Order::Tell(written)).is_ok()
        {
            done.recv().unwrap_or_default();
        }
    }
}

fn write(journal: &mut Journal, orders: Vec<Order>) {
    let mut asked = Vec::new();
    let mut events = Vec::new();
    for order in orders {
        match order {
            Order::Append(at, event) => events.push((at, *event)),
            Order::Tell(written) => asked.push(written),
        }
    }
    if let Err(cause) = journal.append_all(events) {
        error!(error = %Chain(&cause), "cannot write the journal");
    }
    for written in asked {
        // Who asked may have gone.
        written.send(()).unwrap_or_default();
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
