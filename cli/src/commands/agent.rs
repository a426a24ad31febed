//! `codevol agent`: the agent daemon.

use codevol_agent::config::AgentConfig;
use codevol_agent::daemon::{Daemon, StartError};
use tokio_util::sync::CancellationToken;

use crate::commands::Context;
use crate::config::{Config, Role};
use crate::daemon;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {}

/// Runs the agent until SIGTERM.
///
/// # Errors
/// The configuration or the environment is invalid.
pub fn run(_args: &AgentArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    daemon::run::<Daemon>(context)
}

impl daemon::Daemon for Daemon {
    type Config = AgentConfig;
    const ROLE: Role = Role::Agent;
    // It has one peer, and does one thing after the other: what blocks has threads of its own.
    const WORKERS: Option<usize> = Some(1);

    fn config(config: Config) -> Result<AgentConfig, CommandError> {
        match config {
            Config::Agent(config) => Ok(config),
            Config::Source(_) | Config::Operator(_) => {
                Err(CommandError::config("this configuration is not an agent's"))
            }
        }
    }

    fn start(config: &mut AgentConfig) -> Result<Self, CommandError> {
        let agent = Self::start(config.clone(), env!("CARGO_PKG_VERSION"));
        let agent = agent.map_err(|error| failed(&error))?;
        config.metrics = agent.metrics();
        Ok(agent)
    }

    fn follow(config: &AgentConfig, mut next: AgentConfig) -> Result<AgentConfig, CommandError> {
        daemon::same_state_dir(&config.state_dir, &next.state_dir)?;
        next.metrics = daemon::same_port(config.metrics, next.metrics);
        Ok(next)
    }

    fn stopper(&self) -> CancellationToken {
        self.stopper()
    }

    fn run(self) -> impl Future<Output = ()> + Send + 'static {
        self.run()
    }
}

pub(super) fn failed(error: &StartError) -> CommandError {
    let hint = match error {
        StartError::Metrics(_) => daemon::METRICS_HINT,
        StartError::Identity(_) => "`codevol join TOKEN --root DIR` enrols this node",
        StartError::StateDir(error) if error.is_locked() => {
            "one agent a state directory: stop the other one first"
        }
        StartError::Root { .. } => {
            "the agent's user must own the root, and be the only agent there"
        }
        _ => "`codevol config check` looks at the configuration and this machine",
    };
    // What may pass by itself exits 1, so that a supervisor starts it again.
    let failed = if error.is_retryable() {
        CommandError::failed("the agent cannot start")
    } else {
        CommandError::environment("the agent cannot start")
    };
    failed.because(error).hint(hint)
}
