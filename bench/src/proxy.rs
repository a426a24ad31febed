//! A UDP relay on loopback that notes what passes: the bytes on the wire of one agent's connection.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

/// How soon the relay sees that it is to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Which way a datagram went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the source to the agent.
    ToAgent,
    /// From the agent to the source.
    ToSource,
}

/// One datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    /// When.
    pub(crate) at: SystemTime,
    /// Which way.
    pub(crate) way: Way,
    /// Its payload: what UDP carries.
    pub(crate) bytes: usize,
}

/// The relay. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where the agent dials.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    passed: Mutex<Vec<Passed>>,
    client: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
}

impl Proxy {
    /// Starts a relay to a source. It serves one agent.
    pub(crate) fn start(source: &str) -> Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0").context("cannot bind the relay")?;
        let back = UdpSocket::bind("127.0.0.1:0").context("cannot bind the relay")?;
        back.connect(source).context("cannot reach the source")?;
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(STOP_INTERVAL))?;
        }
        let address = front.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (upward, downward) = (shared.clone(), shared.clone());
        let (front_2, back_2) = (front.try_clone()?, back.try_clone()?);
        std::thread::spawn(move || {
            upward.relay(Way::ToSource, &front, |bytes, from| {
                *lock(&upward.client) = Some(from);
                back.send(bytes)
            });
        });
        std::thread::spawn(move || {
            downward.relay(Way::ToAgent, &back_2, |bytes, _| {
                let client = *lock(&downward.client);
                client.map_or(Ok(0), |client| front_2.send_to(bytes, client))
            });
        });
        Ok(Self { address, shared })
    }

    /// Returns what passed since the last call.
    pub(crate) fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut lock(&self.shared.passed))
    }

    /// Returns when something passed last, of what was not taken yet.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        lock(&self.shared.passed).last().map(|passed| passed.at)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn relay(
        &self,
        way: Way,
        from: &UdpSocket,
        send: impl Fn(&[u8], SocketAddr) -> io::Result<usize>,
    ) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((length, client)) = from.recv_from(&mut buffer) else {
                // Nothing came in time, or the other side's port is closed just now.
                continue;
            };
            let at = SystemTime::now();
            let datagram = buffer.get(..length).unwrap_or_default();
            // A datagram that cannot be sent is lost, as on any wire; it was on it all the same.
            if send(datagram, client).is_ok() {
                lock(&self.passed).push(Passed {
                    at,
                    way,
                    bytes: length,
                });
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
