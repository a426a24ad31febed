//! What all links of a daemon have carried together, those that have ended too: only ever more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::link::Link;

/// What the links of a daemon carry. Clones count the same.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Links>>);

#[derive(Debug, Default)]
struct Links {
    next: u64,
    up: BTreeMap<u64, Link>,
    ended: Carried,
}

/// Bytes of UDP payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// What this side has sent.
    pub sent: u64,
    /// What it has received.
    pub received: u64,
}

/// A link that is counted; when this is dropped, as one that has ended.
#[derive(Debug)]
#[must_use = "a link is up as long as this is kept"]
pub struct Counted {
    traffic: Traffic,
    number: u64,
}

impl Traffic {
    /// Counts a link from its beginning.
    pub fn enter(&self, link: &Link) -> Counted {
        let mut links = self.lock();
        links.next += 1;
        let number = links.next;
        links.up.insert(number, link.clone());
        Counted {
            traffic: self.clone(),
            number,
        }
    }

    /// Returns what all of them have carried.
    #[must_use]
    pub fn total(&self) -> Carried {
        let links = self.lock();
        links.up.values().fold(links.ended, Carried::and)
    }

    /// Returns the link that was entered last, if it is up.
    #[must_use]
    pub fn newest(&self) -> Option<Link> {
        let links = self.lock();
        links.up.last_key_value().map(|(_, link)| link.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut links = self.traffic.lock();
        if let Some(link) = links.up.remove(&self.number) {
            links.ended = links.ended.and(&link);
        }
    }
}

impl Carried {
    fn and(self, link: &Link) -> Self {
        let (sent, received) = link.udp_bytes();
        Self {
            sent: self.sent + sent,
            received: self.received + received,
        }
    }
}
