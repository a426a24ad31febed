//! Silences, restarts and losses in virtual time: quinn's machines without its sockets and clock.

use std::net::SocketAddr;
use std::time::Instant;

use quinn::ConnectionError;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Endpoint, Event};

use super::*;
use crate::Backoff;

const IDLE_TIMEOUT: Duration = Duration::from_millis(IDLE_TIMEOUT_MS as u64);
/// Between two tries of a loop over times.
const STRIDE: Duration = Duration::from_millis(70);
const RESET_KEY: [u8; 32] = [7; 32];

/// One side: an endpoint and its one connection.
struct Node {
    at: SocketAddr,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    is_connected: bool,
    ended: Option<ConnectionError>,
}

impl Node {
    fn new(port: u16, endpoint: Endpoint) -> Self {
        Self {
            at: SocketAddr::from(([127, 0, 0, 1], port)),
            endpoint,
            connection: None,
            is_connected: false,
            ended: None,
        }
    }

    fn source() -> Self {
        let server = Arc::new(server_config(&SecretKey::from_seed(&[1; 32])));
        let config = Arc::new(endpoint_config(&RESET_KEY));
        Self::new(1, Endpoint::new(config, Some(server), false, None))
    }

    fn agent(now: Instant) -> Self {
        let config = Arc::new(EndpointConfig::default());
        let mut agent = Self::new(2, Endpoint::new(config, None, false, None));
        let key = tls::certified(&SecretKey::from_seed(&[2; 32]));
        let verifier = tls::KeyVerifier::of(Some(SecretKey::from_seed(&[1; 32]).public()));
        let config = client_config(key, Alpn::Node, Arc::new(verifier));
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        let dialled = agent.endpoint.connect(now, config, source, "codevol");
        agent.connection = Some(dialled.unwrap());
        agent
    }

    /// Takes a datagram, and returns what the endpoint itself answers.
    fn take(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        let event = self
            .endpoint
            .handle(now, from, None, None, datagram.into(), &mut answer)?;
        match event {
            DatagramEvent::ConnectionEvent(_, event) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
                None
            }
            DatagramEvent::NewConnection(incoming) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                self.connection = accepted.ok();
                None
            }
            DatagramEvent::Response(transmit) => Some(answer[..transmit.size].to_vec()),
        }
    }

    /// Returns the next datagram that it has to send.
    fn say(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (handle, connection) = self.connection.as_mut()?;
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => self.ended = Some(reason),
                Event::HandshakeDataReady
                | Event::Stream(_)
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
        let mut datagram = Vec::new();
        let transmit = connection.poll_transmit(now, 1, &mut datagram)?;
        Some(datagram[..transmit.size].to_vec())
    }

    fn timeout(&mut self) -> Option<Instant> {
        self.connection.as_mut()?.1.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(now);
        }
    }
}

/// A source, an agent, and a network without delay between them.
struct Pair {
    now: Instant,
    /// Nothing while it is killed.
    source: Option<Node>,
    agent: Option<Node>,
    is_cut: bool,
}

impl Pair {
    /// An agent that dials, and nobody who answers.
    fn alone() -> Self {
        let now = Instant::now();
        Self {
            now,
            source: None,
            agent: Some(Node::agent(now)),
            is_cut: false,
        }
    }

    /// Two that are connected, and have been idle for so long.
    fn idle_for(time: Duration) -> Self {
        let mut pair = Self::alone();
        pair.source = Some(Node::source());
        pair.run(time);
        assert!(pair.agent().is_connected);
        pair
    }

    fn agent(&self) -> &Node {
        self.agent.as_ref().unwrap()
    }

    fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        [self.source.as_mut(), self.agent.as_mut()]
            .into_iter()
            .flatten()
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until it `is_so`, and returns how much did.
    fn run_until(&mut self, most: Duration, is_so: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        let end = began + most;
        loop {
            self.exchange();
            if is_so(self) {
                break;
            }
            let next = self.nodes().filter_map(Node::timeout).min();
            self.now = next.map_or(end, |next| next.clamp(self.now, end));
            if self.now == end {
                break;
            }
            let now = self.now;
            self.nodes().for_each(|node| node.handle_timeout(now));
        }
        self.now - began
    }

    /// Passes on all that is to be said now.
    fn exchange(&mut self) {
        let Self { now, is_cut, .. } = *self;
        let pass = |from: &mut Option<Node>, to: &mut Option<Node>| {
            let Some(from) = from else { return false };
            let Some(datagram) = from.say(now) else {
                return false;
            };
            if let (Some(to), false) = (to, is_cut)
                && let Some(answer) = to.take(now, from.at, &datagram)
            {
                from.take(now, to.at, &answer);
            }
            true
        };
        while pass(&mut self.source, &mut self.agent) || pass(&mut self.agent, &mut self.source) {}
    }
}

fn times_to(end: Duration) -> impl Iterator<Item = Duration> {
    let times = std::iter::successors(Some(Duration::ZERO), |time| Some(*time + STRIDE));
    times.take_while(move |time| *time < end)
}

#[test]
fn an_agent_hears_of_a_restart_within_a_keep_alive_however_long_the_source_was_down() {
    // Down for longer, the agent has missed it before it is back.
    for down in times_to(IDLE_TIMEOUT - KEEP_ALIVE) {
        let mut pair = Pair::idle_for(Duration::from_secs(10) + down / 3);
        pair.source = None;
        pair.run(down);
        assert_eq!(pair.agent().ended, None, "down for {down:?}");
        pair.source = Some(Node::source());
        let heard = pair.run_until(IDLE_TIMEOUT, |pair| pair.agent().ended.is_some());
        let ended = pair.agent().ended.clone();
        assert_eq!(ended, Some(ConnectionError::Reset), "down for {down:?}");
        assert!(heard <= KEEP_ALIVE, "down for {down:?}: after {heard:?}");
    }
}

#[test]
fn an_agent_is_back_within_a_second_of_its_source() {
    // Any draw: all remainders are among these.
    let first_waits = (0..1_000).map(|random| Backoff::default().next(random));
    let handshake = Duration::from_millis(50);
    let back = KEEP_ALIVE + first_waits.max().unwrap() + handshake;
    assert!(back <= Duration::from_secs(1), "{back:?}");
}

#[test]
fn a_dial_that_nobody_answered_finds_a_source_that_comes_back_meanwhile() {
    let dial = Duration::from_secs(5);
    for down in times_to(dial * 9 / 10) {
        let mut pair = Pair::alone();
        pair.run(down);
        pair.source = Some(Node::source());
        let found = pair.run_until(dial, |pair| pair.agent().is_connected);
        let most = Duration::from_millis(2_500);
        assert!(found <= most, "down for {down:?}: after {found:?}");
    }
}

#[test]
fn ten_keep_alives_lost_in_a_row_end_nothing() {
    for phase in times_to(KEEP_ALIVE) {
        let mut pair = Pair::idle_for(Duration::from_secs(10) + phase);
        pair.is_cut = true;
        pair.run(11 * KEEP_ALIVE);
        pair.is_cut = false;
        pair.run(2 * IDLE_TIMEOUT);
        assert!(pair.nodes().all(|node| node.ended.is_none()), "{phase:?}");
    }
}

#[test]
fn a_side_that_was_killed_is_missed_within_the_idle_timeout() {
    let mut pair = Pair::idle_for(Duration::from_secs(10));
    pair.agent = None;
    let ended = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.ended.is_some());
    let missed = pair.run_until(4 * IDLE_TIMEOUT, |pair| ended(&pair.source));
    assert!(missed <= IDLE_TIMEOUT, "{missed:?}");

    let mut pair = Pair::idle_for(Duration::from_secs(10));
    pair.source = None;
    let missed = pair.run_until(4 * IDLE_TIMEOUT, |pair| ended(&pair.agent));
    // Its own next packet counts as a sign of life, once.
    assert!(missed <= KEEP_ALIVE + IDLE_TIMEOUT, "{missed:?}");
}
