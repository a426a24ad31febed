//! What the agent daemon is told to do. The `cli` crate reads it from a file and checks it.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::name::VolumeName;
use codevol_protocol::path::RelPath;

/// The whole configuration of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where the source is reached, `host:port`, tried in order.
    pub source: Vec<String>,
    /// Where the node key, the pinned keys, the trust record and the journal lie.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control_socket: PathBuf,
    /// Where metrics are served: a TCP socket address; nothing serves none.
    pub metrics: Option<SocketAddr>,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
}

/// One volume of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Its name.
    pub name: VolumeName,
    /// The directory that holds `current` and `releases/`.
    pub root: PathBuf,
    /// How many of the newest releases are kept besides those that are needed.
    pub keep: usize,
    /// What becomes of what drifts.
    pub drift: DriftMode,
    /// How long after a scrub of all that is held the next one begins.
    pub scrub: Duration,
    /// What becomes of a release whose dependencies are not installed.
    pub dependencies: DependencyPolicy,
    /// The interpreter whose environment is compared, where a code server has none of its own.
    pub python: Option<PathBuf>,
    /// The files of the tree that say what must be installed; with none the usual ones.
    pub requirements: Vec<RelPath>,
    /// The code servers that load this volume.
    pub code_servers: Vec<CodeServerConfig>,
}

/// What becomes of what on the disk is not what a release says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftMode {
    /// It is told.
    Report,
    /// It is told, and put back.
    Restore,
}

/// What becomes of a release whose dependencies are not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DependencyPolicy {
    /// Nothing is compared.
    Off,
    /// It is said.
    #[default]
    Warn,
    /// The release is not taken.
    Refuse,
}

/// One code server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeServerConfig {
    /// Where it answers.
    pub address: Address,
    /// What it is; `Auto` finds out at each connect.
    pub kind: CodeServerKind,
    /// How long a verification may take before it ends as unproven.
    pub verify_timeout: Duration,
    /// Its interpreter, where that is not the volume's.
    pub python: Option<PathBuf>,
}

/// Where a code server answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// The text is not the address of a code server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: use `host:port`, `[ipv6]:port` or `unix:/path`")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.chars().take(ADDRESS_CHARS_SHOWN_MAX).collect());
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid());
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let absolute = path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX;
            return absolute
                .then(|| Self::Unix(PathBuf::from(path)))
                .ok_or_else(invalid);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host_is_one = match bracketed {
            Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= HOST_BYTES_MAX
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            }
        };
        // `u16` alone would also take `+4000`.
        let port_is_one = port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        if host_is_one && port_is_one {
            Ok(Self::Tcp(text.to_owned()))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_port) => f.pad(host_port),
            Self::Unix(path) => f.pad(&format!("unix:{}", path.display())),
        }
    }
}

/// What the kernel takes in `sockaddr_un`, less the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const HOST_BYTES_MAX: usize = 253;
const ADDRESS_CHARS_SHOWN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_alike() {
        for text in [
            "127.0.0.1:4000",
            "localhost:1",
            "code_server-1.svc:65535",
            "[::1]:4000",
            "unix:/run/x.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":4000",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "::1:4000",
            "[::g]:1",
            "http://host:4000",
            "a b:1",
            "unix:",
            "unix:x.sock",
            "host:40\n",
            &format!("unix:/{}", "x".repeat(200)),
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }
}
