//! What holds where nobody said anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_agent::config::{self as agent, AgentConfig, DependencyPolicy, DriftMode};
use codevol_protocol::name::VolumeName;
use codevol_protocol::rollout::Policy;
use codevol_source::config::{self as source, PublishMode, SourceConfig, WatchConfig};

pub(super) const LISTEN: &str = "[::]:7443";
pub(super) const SOURCE_KEEP: usize = 20;
pub(super) const AGENT_KEEP: usize = 5;
pub(super) const SCRUB: Duration = Duration::from_secs(3_600);
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns `state` beside the file.
pub(super) fn state_dir(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// Returns `state` beside a file that is to be written.
///
/// # Errors
/// The working folder is gone, so that a relative path means nothing.
pub fn state_beside(file: &Path) -> std::io::Result<PathBuf> {
    Ok(state_dir(&folder_of(file)?))
}

/// Returns the control socket in the state folder.
pub(super) fn control_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Returns a source's configuration of one volume, all else by default, for a file at `file`.
///
/// # Errors
/// The working folder is gone, so that a relative path means nothing.
pub fn source_defaults(
    file: &Path,
    name: VolumeName,
    path: &Path,
) -> std::io::Result<SourceConfig> {
    let state_dir = state_dir(&folder_of(file)?);
    Ok(SourceConfig {
        listen: (std::net::Ipv6Addr::UNSPECIFIED, 7443).into(),
        advertise: None,
        control_socket: control_socket(&state_dir),
        state_dir,
        metrics: None,
        volumes: vec![source::VolumeConfig {
            name,
            path: std::path::absolute(path)?,
            publish: PublishMode::Auto,
            ignore: Vec::new(),
            keep: SOURCE_KEEP,
            watch: WatchConfig::default(),
            rollout: Policy::default(),
        }],
    })
}

/// Returns an agent's configuration of one volume, all else by default, for a file at `file`. The
/// addresses of the source and the code servers are the caller's to add.
///
/// # Errors
/// The working folder is gone, so that a relative path means nothing.
pub fn agent_defaults(file: &Path, name: VolumeName, root: &Path) -> std::io::Result<AgentConfig> {
    let state_dir = state_dir(&folder_of(file)?);
    Ok(AgentConfig {
        source: Vec::new(),
        control_socket: control_socket(&state_dir),
        state_dir,
        metrics: None,
        volumes: vec![agent::VolumeConfig {
            name,
            root: std::path::absolute(root)?,
            keep: AGENT_KEEP,
            drift: DriftMode::Report,
            scrub: SCRUB,
            dependencies: DependencyPolicy::default(),
            python: None,
            requirements: Vec::new(),
            code_servers: Vec::new(),
        }],
    })
}

/// Returns the absolute folder that a file stands in.
pub(super) fn folder_of(file: &Path) -> std::io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    Ok(file.parent().unwrap_or(&file).to_path_buf())
}
