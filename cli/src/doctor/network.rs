//! The way between an agent and its source: UDP, and who answers there.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use codevol_agent::identity::Identity as AgentIdentity;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_source::identity::Identity as SourceIdentity;
use codevol_transport::{Alpn, CloseCode, DialError, Dialer};
use rustix::net::sockopt::socket_recv_buffer_size;

use super::Check;
use crate::config::Config;
use crate::error::chain;
use crate::membership;
use crate::output::units;

/// What the kernel gives by default: with less, a burst of datagrams is lost where the host is busy.
const BUFFER_BYTES_MIN: u64 = 212_992;
/// Of all datagrams, a part of so many that were lost is too many.
const LOST_PARTS: u64 = 1_000;
/// How long one dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What each side of a QUIC handshake has to get through.
const DATAGRAM_BYTES: u64 = 1_200;

/// Looks at the buffer that a socket of ours gets, and at what the kernel has dropped for want of room.
pub(super) fn buffers() -> Check {
    let bound = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bytes = bound.and_then(|socket| Ok(socket_recv_buffer_size(&socket)?));
    let bytes = match bytes {
        Ok(bytes) => bytes as u64,
        Err(error) => {
            let why = chain(&error).join(": ");
            return Check::wrong("udp", format!("cannot make a UDP socket: {why}"));
        }
    };
    let table = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    judge_buffers(bytes, lost(&table))
}

fn judge_buffers(bytes: u64, lost: Option<(u64, u64)>) -> Check {
    let shown = units::bytes(bytes);
    if bytes < BUFFER_BYTES_MIN {
        return Check::warning("udp", format!("a UDP socket gets a buffer of {shown} only"))
            .mend(format!("sysctl net.core.rmem_default={BUFFER_BYTES_MIN}"));
    }
    if let Some((lost, all)) = lost.filter(|(lost, all)| *lost > all / LOST_PARTS) {
        let message = format!(
            "{lost} of {all} datagrams were lost here since the start, as a buffer was full"
        );
        let wanted = bytes.saturating_mul(4);
        return Check::warning("udp", message)
            .mend(format!("sysctl net.core.rmem_default={wanted}"));
    }
    Check::ok("udp", format!("a UDP socket gets a buffer of {shown}"))
}

/// Returns how many datagrams this host lost for want of room, and how many it took.
fn lost(table: &str) -> Option<(u64, u64)> {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (rows.next()?, rows.next()?);
    let value = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        values.split_whitespace().nth(at)?.parse().ok()
    };
    Some((value("RcvbufErrors")?, value("InDatagrams")?))
}

/// Dials the source: a handshake and no more. By a key made up now, since the node's own would take
/// the place of the agent that runs; the source counts a stranger.
pub(super) async fn dial(config: &Config) -> Vec<Check> {
    let whom = match config {
        Config::Agent(config) => AgentIdentity::open(&config.state_dir)
            .map(|identity| {
                (
                    config.source.clone(),
                    Some(identity.enrolment.get().source_key),
                )
            })
            .map_err(|error| chain(&error)),
        Config::Source(config) => SourceIdentity::open(&config.state_dir)
            .map(|identity| {
                let bound = (!config.listen.ip().is_unspecified() && config.listen.port() != 0)
                    .then(|| config.listen.to_string());
                let address = config.advertise.clone().or(bound);
                (address.into_iter().collect(), Some(identity.node.public()))
            })
            .map_err(|error| chain(&error)),
        Config::Operator(config) => membership::open(&config.state_dir)
            .map(|(_, membership)| (config.source.clone(), Some(membership.source_key)))
            .map_err(|error| chain(&error)),
    };
    let (addresses, pinned): (Vec<String>, Option<PublicKey>) = match whom {
        Ok(whom) => whom,
        Err(_) => {
            return vec![Check::skipped(
                "source",
                "it is not known which key to expect there",
            )];
        }
    };
    if addresses.is_empty() {
        let message = "no address is known: neither `advertise` nor `listen` names one";
        return vec![Check::skipped("source", message)];
    }
    let is_own = matches!(config, Config::Source(_));
    let mut checks = Vec::new();
    for address in addresses {
        checks.push(dial_one(&address, pinned, is_own).await);
    }
    checks
}

async fn dial_one(address: &str, pinned: Option<PublicKey>, is_own: bool) -> Check {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return Check::skipped("source", "the system gives no random bytes for a key");
    }
    let throwaway = SecretKey::from_seed(&seed);
    // Where no key is pinned any other one will do: that it is wrong shows that somebody answers.
    let expected = pinned.unwrap_or_else(|| throwaway.public());
    let began = Instant::now();
    let dialled = Dialer::new(&throwaway)
        .dial(address, Alpn::Node, &expected, DIAL_TIMEOUT)
        .await;
    let elapsed = began.elapsed();
    if let Ok(link) = &dialled {
        link.close(CloseCode::Done, "only a look");
        link.drained().await;
    }
    judge(
        address,
        dialled.map(drop),
        (pinned.is_some(), is_own, elapsed),
    )
}

fn judge(
    address: &str,
    dialled: Result<(), DialError>,
    (is_pinned, is_own, elapsed): (bool, bool, Duration),
) -> Check {
    let took = units::elapsed(elapsed);
    let passed = format!("datagrams of {DATAGRAM_BYTES} bytes pass both ways");
    let error = match dialled {
        Ok(()) => {
            let message =
                format!("`{address}` holds the source's key; handshake in {took}: {passed}");
            return Check::ok("source", message);
        }
        Err(DialError::WrongKey { .. }) if !is_pinned => {
            let message = format!(
                "`{address}` answers in {took}: {passed}; which key it holds was not checked"
            );
            return Check::ok("source", message);
        }
        Err(error) => error,
    };
    let mend = match &error {
        DialError::Unresolvable { .. } => "does `getent ahosts` know that name here?",
        DialError::Unreachable { .. } => "this host has no way there: look at its routes",
        DialError::TimedOut { .. } => {
            "is the source running, and does UDP to that address and port get through, both ways?"
        }
        DialError::WrongKey { .. } => {
            "another host answers there, or the source was made anew: `codevol join TOKEN` enrols this node again"
        }
        DialError::Version { .. } => {
            "the two are of versions that do not speak with each other: update the older one"
        }
        DialError::Closed { .. } => "the log of the source says why",
    };
    let message = chain(&error).join(": ");
    // From the source's own host its address may lead nowhere, and from all others to it.
    if is_own {
        let message = format!("from here: {message}");
        return Check::warning("source", message).mend(mend);
    }
    Check::wrong("source", message).mend(mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn lost_datagrams_are_told_from_those_taken() {
        let table = "Ip: Forwarding\nIp: 1\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n\
            Udp: 1000000 5 9 88 1001 0\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert_eq!(lost(table), Some((1_001, 1_000_000)));
        assert_eq!(lost("Ip: 1\n"), None);
        let state = |bytes, lost| judge_buffers(bytes, lost).state;
        assert_eq!(state(BUFFER_BYTES_MIN, lost(table)), State::Warning);
        assert_eq!(state(BUFFER_BYTES_MIN, Some((1_000, 1_000_000))), State::Ok);
        assert_eq!(state(BUFFER_BYTES_MIN - 1, None), State::Warning);
    }

    #[test]
    fn a_failed_dial_is_wrong_but_of_the_sources_own_address() {
        let timed_out = || {
            let host_port = "src01:7443".to_owned();
            Err(DialError::TimedOut { host_port })
        };
        let state = |dialled, pinned, own| {
            let about = (pinned, own, Duration::from_millis(3));
            judge("src01:7443", dialled, about).state
        };
        assert_eq!(state(Ok(()), true, false), State::Ok);
        assert_eq!(state(timed_out(), true, false), State::Wrong);
        assert_eq!(state(timed_out(), true, true), State::Warning);
        let wrong_key = || {
            let address = "192.0.2.1:7443".parse().unwrap();
            let pinned = SecretKey::from_seed(&[1; 32]).public();
            Err(DialError::WrongKey { address, pinned })
        };
        assert_eq!(state(wrong_key(), true, false), State::Wrong);
        assert_eq!(state(wrong_key(), false, false), State::Ok);
    }
}
