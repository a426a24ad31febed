//! What happens in a volume, told to whoever follows: an operator's `push`, `status --watch`.

use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::status::{Event, EventKind, Outcome};
use tokio::sync::broadcast;

/// How many notices a slow follower may be behind before it loses some.
const NOTICES_MAX: usize = 4_096;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A step.
    Event(Box<Event>),
    /// The end of a rollout.
    Outcome(Box<Outcome>),
}

/// Tells notices to all followers. Nobody waits for a follower.
#[derive(Debug, Clone)]
pub struct Bus {
    volume: VolumeName,
    sender: broadcast::Sender<Notice>,
}

impl Bus {
    /// Makes the bus of a volume.
    #[must_use]
    pub fn new(volume: VolumeName) -> Self {
        Self {
            volume,
            sender: broadcast::Sender::new(NOTICES_MAX),
        }
    }

    /// Follows from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }

    /// Begins an event of this volume.
    #[must_use]
    pub fn event(&self, event: EventKind, release: Option<Seq>, node: Option<NodeName>) -> Event {
        Event {
            event,
            at: now(),
            volume: self.volume.clone(),
            release,
            node,
            elapsed_ms: None,
            bytes: None,
            evidence: None,
            wave: None,
            error: None,
        }
    }

    /// Tells all followers; that there are none is no error.
    pub fn tell(&self, notice: Notice) {
        drop(self.sender.send(notice));
    }

    /// Tells all followers of an event.
    pub fn tell_event(&self, event: Event) {
        self.tell(Notice::Event(Box::new(event)));
    }
}

/// Returns the time of day, for people.
#[must_use]
pub fn now() -> UnixMillis {
    let ms = jiff::Timestamp::now().as_millisecond();
    UnixMillis(u64::try_from(ms).unwrap_or_default())
}
