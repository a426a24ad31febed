//! `codevol agent`: the agent daemon.

use codevol_agent::daemon::{Daemon, StartError};

use crate::commands::{Context, runtime};
use crate::config::{Config, Role, check};
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
    let loaded = context.load(Some(Role::Agent))?;
    check::environment(&loaded)?;
    let Config::Agent(config) = loaded.config else {
        return Err(CommandError::config("this configuration is not an agent's"));
    };
    daemon::log(context.printer.is_verbose());
    runtime()?.block_on(async {
        let build = env!("CARGO_PKG_VERSION");
        let agent = Daemon::start(config, build).map_err(|error| failed(&error))?;
        daemon::stop_on_signal(agent.stopper())?;
        daemon::ready();
        agent.run().await;
        Ok(ExitStatus::Done)
    })
}

fn failed(error: &StartError) -> CommandError {
    let hint = match error {
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
