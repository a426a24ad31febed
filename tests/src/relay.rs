//! A network between an agent and its source: it counts what passes, and can be cut.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a thread that hears nothing looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Passes datagrams on, both ways.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    front: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    source: SocketAddr,
    socket: UdpSocket,
    to_agents_bytes: AtomicU64,
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

impl Relay {
    /// Makes a way to the source at this address.
    #[must_use]
    pub fn to(source: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket is bound");
        let shared = Arc::new(Shared {
            source: source.parse().expect("it is an address"),
            socket,
            to_agents_bytes: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let address = shared.socket.local_addr().expect("it is bound");
        let front = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.from_agents()
        });
        Self {
            address,
            shared,
            front: Some(front),
        }
    }

    /// Returns what agents are to dial.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns how many bytes it has passed on to agents.
    #[must_use]
    pub fn to_agents_bytes(&self) -> u64 {
        self.shared.to_agents_bytes.load(Ordering::Relaxed)
    }

    /// Lets nothing pass any more.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::Relaxed);
    }

    /// Lets all pass again.
    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(front) = self.front.take() {
            drop(front.join());
        }
    }
}

impl Shared {
    /// Passes on what agents send. For each of them there is a socket towards the source, so that
    /// the source can tell them apart.
    fn from_agents(self: Arc<Self>) {
        let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut threads = Vec::new();
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let timeout = self.socket.set_read_timeout(Some(LOOK_EVERY));
        timeout.expect("a socket takes a timeout");
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok((bytes, agent)) = self.socket.recv_from(&mut datagram) else {
                continue;
            };
            let socket = sockets.entry(agent).or_insert_with(|| {
                let socket = Arc::new(self.towards_source().expect("a socket is bound"));
                let (shared, back) = (Arc::clone(&self), Arc::clone(&socket));
                threads.push(thread::spawn(move || shared.to_agent(&back, agent)));
                socket
            });
            if !self.is_cut.load(Ordering::Relaxed) {
                // A source that is down refuses it: lost, as on any network.
                drop(socket.send(datagram.get(..bytes).unwrap_or_default()));
            }
        }
        for thread in threads {
            drop(thread.join());
        }
    }

    fn to_agent(&self, socket: &UdpSocket, agent: SocketAddr) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(bytes) = socket.recv(&mut datagram) else {
                continue;
            };
            if !self.is_cut.load(Ordering::Relaxed) {
                self.to_agents_bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                drop(
                    self.socket
                        .send_to(datagram.get(..bytes).unwrap_or_default(), agent),
                );
            }
        }
    }

    fn towards_source(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.source)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        Ok(socket)
    }
}
