//! What the source daemon is told to do. The `cli` crate reads it from a file and checks it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use codevol_protocol::name::VolumeName;
use codevol_protocol::rollout::Policy;

/// The whole configuration of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Where agents reach this host: a UDP socket address.
    pub listen: SocketAddr,
    /// What tokens tell agents to dial, `host:port`; nothing means the bound address.
    pub advertise: Option<String>,
    /// Where keys, log, blobs and journal lie.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control_socket: PathBuf,
    /// Where metrics are served: a TCP socket address; nothing serves none.
    pub metrics: Option<SocketAddr>,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
}

/// One volume of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Its name.
    pub name: VolumeName,
    /// The tree.
    pub path: PathBuf,
    /// Whether the watcher publishes.
    pub publish: PublishMode,
    /// Ignore rules in gitignore syntax, after the tree's own.
    pub ignore: Vec<String>,
    /// How many releases the source keeps whole.
    pub keep: usize,
    /// How the tree is watched.
    pub watch: WatchConfig,
    /// How releases go through the fleet.
    pub rollout: Policy,
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// The watcher, whenever the tree settles.
    Auto,
    /// A person, by `push`.
    Manual,
}

/// How a tree is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// Where hints come from.
    pub mode: WatchMode,
    /// How long the tree must be quiet before it is published.
    pub settle: Duration,
    /// The longest wait for quiet, from the first change.
    pub settle_max: Duration,
    /// How often the whole tree is looked at whatever the hints say.
    pub rescan: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            mode: WatchMode::Auto,
            settle: Duration::from_millis(20),
            settle_max: Duration::from_secs(2),
            rescan: Duration::from_secs(60),
        }
    }
}

/// Where hints of changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// inotify where the file system reports events, else polling.
    Auto,
    /// inotify, or a clear failure.
    Inotify,
    /// A look at the tree every second.
    Poll,
}
