//! `codevol source`: the source daemon.

use codevol_source::daemon::{Daemon, StartError};

use crate::commands::{Context, runtime};
use crate::config::{Config, Role, check};
use crate::daemon;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `source`.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {}

/// Runs the source until SIGTERM.
///
/// # Errors
/// The configuration or the environment is invalid.
pub fn run(_args: &SourceArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(Some(Role::Source))?;
    check::environment(&loaded)?;
    let Config::Source(config) = loaded.config else {
        return Err(CommandError::config("this configuration is not a source's"));
    };
    daemon::log(context.printer.is_verbose());
    runtime()?.block_on(async {
        let build = env!("CARGO_PKG_VERSION");
        let source = Daemon::start(config, build).map_err(|error| failed(&error))?;
        daemon::stop_on_signal(source.stopper())?;
        daemon::ready();
        source.run().await;
        Ok(ExitStatus::Done)
    })
}

fn failed(error: &StartError) -> CommandError {
    let hint = match error {
        StartError::Listen(_) => "another process may use that UDP port: `listen` names another",
        StartError::StateDir(error) if error.is_locked() => {
            "one source a state directory: stop the other one first"
        }
        StartError::Identity(_) => "`codevol init DIR` makes keys; restore STATE if they are gone",
        _ => "`codevol config check` looks at the configuration and this machine",
    };
    // What may pass by itself exits 1, so that a supervisor starts it again.
    let failed = if error.is_retryable() {
        CommandError::failed("the source cannot start")
    } else {
        CommandError::environment("the source cannot start")
    };
    failed.because(error).hint(hint)
}
