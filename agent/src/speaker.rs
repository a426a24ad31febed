//! How the agent's tasks speak to the source, whichever link there is. What is said without a link
//! is not kept: the next `Hello` says how things stand.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use codevol_protocol::message::FromAgent;
use tokio::sync::mpsc;

/// Says things on the link that there is.
#[derive(Debug, Clone, Default)]
pub struct Speaker {
    outbox: Arc<Mutex<Option<mpsc::Sender<FromAgent>>>>,
    /// The minor version that the source said it speaks on this link; 0 until it has greeted.
    minor: Arc<AtomicU16>,
}

impl Speaker {
    /// Speaks on this link from now on; with nothing, on none.
    pub fn set(&self, outbox: Option<mpsc::Sender<FromAgent>>) {
        self.minor.store(0, Ordering::Release);
        *self.outbox.lock().unwrap_or_else(PoisonError::into_inner) = outbox;
    }

    /// Notes what the source speaks.
    pub fn greeted(&self, minor: u16) {
        self.minor.store(minor, Ordering::Release);
    }

    /// Whether the source has greeted, and knows what came with this minor version.
    #[must_use]
    pub fn reaches(&self, minor: u16) -> bool {
        self.minor.load(Ordering::Acquire) >= minor
    }

    /// Says a message, if there is one.
    pub async fn say_all(&self, message: Option<FromAgent>) {
        if let Some(message) = message {
            self.say(message).await;
        }
    }

    /// Says a message, and waits while the link is busy.
    pub async fn say(&self, message: FromAgent) {
        let outbox = self
            .outbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(outbox) = outbox {
            // A link that has just ended takes nothing more; its successor begins with `Hello`.
            outbox.send(message).await.unwrap_or_default();
        }
    }
}
