//! A thread that writes a daemon's journal, so that nobody waits for a line to be durable: the
//! journal is history, not state. A line is written at once, so that a killed daemon leaves it behind.
//! It is made durable a little later, when the disk has done what a rollout waits for: within that
//! time a loss of power may take it away. While the disk takes no line, they wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use codevol_protocol::chain::Chain;
use jiff::Timestamp;
use tracing::{error, info};

use crate::journal::{Event, Journal, JournalError};

/// How many lines may wait for the thread; who records one more waits too.
const WAITING_MAX: usize = 1_024;
/// How many lines may wait for a disk that takes none; those that come then are lost.
const UNWRITTEN_MAX: usize = 10_000;
/// How long after a line was not taken the same one is tried again.
const RETRY: Duration = Duration::from_secs(1);
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

    /// Blocks until all that was recorded before is durable, or the disk has refused it, or the thread
    /// is gone.
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
    let mut backlog = Backlog::default();
    let mut sync_at: Option<Instant> = None;
    loop {
        let due = sync_at.or(backlog.retry_at);
        let order = match due {
            Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => orders.recv().or(Err(RecvTimeoutError::Disconnected)),
        };
        let (ends, asked) = match order {
            Ok(Order::Append(at, event)) => {
                backlog.add(at, *event);
                (false, None)
            }
            Ok(Order::Tell(durable)) => (false, Some(durable)),
            Err(RecvTimeoutError::Timeout) => (false, None),
            Err(RecvTimeoutError::Disconnected) => (true, None),
        };
        let now = Instant::now();
        let hurries = ends || asked.is_some();
        if backlog.write(now, hurries, |at, event| {
            journal.write_all([(at, event.clone())]).map(drop)
        }) {
            sync_at = sync_at.or_else(|| now.checked_add(UNSYNCED_MAX));
        }
        if sync_at.is_some_and(|at| hurries || at <= now) {
            sync(&journal);
            sync_at = None;
        }
        if let Some(durable) = asked {
            // Who asked may have gone.
            durable.send(()).unwrap_or_default();
        }
        if ends {
            let lost = backlog.lines.len();
            if lost > 0 {
                error!(lost, "the journal's last lines were not written");
            }
            break;
        }
    }
}

/// Lines that are not written yet, oldest first.
#[derive(Debug, Default)]
struct Backlog {
    lines: VecDeque<(Timestamp, Event)>,
    /// When the oldest, which was not taken, is tried again.
    retry_at: Option<Instant>,
    lost: u64,
}

impl Backlog {
    fn add(&mut self, at: Timestamp, event: Event) {
        if self.lines.len() < UNWRITTEN_MAX {
            self.lines.push_back((at, event));
        } else {
            self.lost += 1;
        }
    }

    /// Writes what waits, up to the first line that is not taken; one that was not taken a moment
    /// ago is tried again only where that hurries. Returns whether any was written.
    fn write(
        &mut self,
        now: Instant,
        hurries: bool,
        mut write: impl FnMut(Timestamp, &Event) -> Result<(), JournalError>,
    ) -> bool {
        if !hurries && self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let failed_before = self.retry_at.take().is_some();
        let mut written = false;
        while let Some((at, event)) = self.lines.front() {
            match write(*at, event) {
                Ok(()) => written = true,
                Err(cause) if cause.is_retryable() => {
                    if !failed_before {
                        error!(error = %Chain(&cause), "cannot write the journal; its lines wait");
                    }
                    self.retry_at = now.checked_add(RETRY);
                    return written;
                }
                Err(cause) => {
                    let (action, error) = (&event.action, Chain(&cause));
                    error!(%action, %error, "a line does not go into the journal");
                }
            }
            self.lines.pop_front();
        }
        if failed_before {
            let lost = std::mem::take(&mut self.lost);
            info!(lost, "the journal is written again");
        }
        written
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

#[cfg(test)]
mod tests {
    use codevol_protocol::name::Text;

    use super::*;
    use crate::dir::DirError;

    /// A disk that takes lines, or none.
    #[derive(Default)]
    struct Disk {
        is_full: bool,
        taken: Vec<String>,
        tries: usize,
    }

    impl Disk {
        fn take(&mut self, event: &Event) -> Result<(), JournalError> {
            self.tries += 1;
            if event.action == "endless" {
                let path = String::new();
                return Err(DirError::TooLong { path, bytes_max: 0 }.into());
            }
            if self.is_full {
                let full = rustix::io::Errno::NOSPC;
                return Err(DirError::io("write", "journal", full).into());
            }
            self.taken.push(event.action.to_string());
            Ok(())
        }
    }

    fn line(action: &str) -> (Timestamp, Event) {
        let event = Event {
            actor: Text::cut("codevol"),
            action: action.to_owned().into(),
            volume: None,
            release: None,
            node: None,
            evidence: None,
            outcome: "done".into(),
            detail: None,
        };
        (Timestamp::UNIX_EPOCH, event)
    }

    fn add(backlog: &mut Backlog, action: &str) {
        let (at, event) = line(action);
        backlog.add(at, event);
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_written_in_their_order_once_it_does() {
        let (mut backlog, mut disk) = (Backlog::default(), Disk::default());
        disk.is_full = true;
        let start = Instant::now();
        for action in ["a", "b"] {
            add(&mut backlog, action);
            assert!(!backlog.write(start, false, |_, event| disk.take(event)));
        }
        assert_eq!(disk.tries, 1, "not with each line");
        assert_eq!(backlog.retry_at, Some(start + RETRY));
        disk.is_full = false;
        assert!(!backlog.write(start, false, |_, event| disk.take(event)));
        assert!(backlog.write(start + RETRY, false, |_, event| disk.take(event)));
        assert_eq!(disk.taken, ["a", "b"]);
        assert_eq!(backlog.retry_at, None);
    }

    #[test]
    fn who_wants_lines_to_be_durable_has_them_tried_at_once() {
        let (mut backlog, mut disk) = (Backlog::default(), Disk::default());
        disk.is_full = true;
        add(&mut backlog, "a");
        let now = Instant::now();
        assert!(!backlog.write(now, false, |_, event| disk.take(event)));
        disk.is_full = false;
        assert!(backlog.write(now, true, |_, event| disk.take(event)));
    }

    #[test]
    fn a_line_that_is_never_taken_holds_up_no_other() {
        let (mut backlog, mut disk) = (Backlog::default(), Disk::default());
        add(&mut backlog, "endless");
        add(&mut backlog, "a");
        assert!(backlog.write(Instant::now(), false, |_, event| disk.take(event)));
        assert_eq!(disk.taken, ["a"]);
    }

    #[test]
    fn a_disk_that_stays_full_does_not_fill_the_memory() {
        let mut backlog = Backlog::default();
        for _ in 0..UNWRITTEN_MAX + 3 {
            add(&mut backlog, "a");
        }
        assert_eq!((backlog.lines.len(), backlog.lost), (UNWRITTEN_MAX, 3));
    }
}
