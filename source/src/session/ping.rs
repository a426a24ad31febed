//! Pings that wait for their answer. What is timed is all of the way: to the agent's own loop and
//! back, over the stream that its orders take.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use codevol_protocol::message::{FromSource, PING_MINOR};
use tokio::sync::oneshot;

use super::Session;
use crate::fleet::Pinged;

/// Pings that wait for their answer; the session's judge bounds them.
#[derive(Debug, Default)]
pub(super) struct Pings {
    next: u64,
    waiting: BTreeMap<u64, (Instant, oneshot::Sender<Pinged>)>,
}

impl Pings {
    /// Tells whoever asked, if anybody still waits.
    pub(super) fn answered(&mut self, nonce: u64, address: SocketAddr) {
        if let Some((asked, reply)) = self.waiting.remove(&nonce) {
            let rtt = asked.elapsed();
            let pinged = Pinged::Answered { address, rtt };
            reply.send(pinged).unwrap_or_default();
        }
    }
}

impl Session {
    /// Returns the question, where it may be asked; else tells why not.
    pub(super) fn ping(&mut self, reply: oneshot::Sender<Pinged>) -> Option<FromSource> {
        let refused = if self.hello.minor < PING_MINOR {
            Pinged::TooOld
        } else {
            self.pings.next += 1;
            let nonce = self.pings.next;
            if self.judge.pinged(nonce) {
                self.pings.waiting.insert(nonce, (Instant::now(), reply));
                return Some(FromSource::Ping { nonce });
            }
            Pinged::Busy
        };
        reply.send(refused).unwrap_or_default();
        None
    }
}
