//! `codevol source`: the source daemon.

use codevol_source::config::SourceConfig;
use codevol_source::daemon::{Daemon, StartError};
use tokio_util::sync::CancellationToken;

use crate::commands::Context;
use crate::config::{Config, Role};
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
    daemon::run::<Daemon>(context)
}

impl daemon::Daemon for Daemon {
    type Config = SourceConfig;
    const ROLE: Role = Role::Source;
    const WORKERS: Option<usize> = None;

    fn config(config: Config) -> Result<SourceConfig, CommandError> {
        match config {
            Config::Source(config) => Ok(config),
            Config::Agent(_) | Config::Operator(_) => {
                Err(CommandError::config("this configuration is not a source's"))
            }
        }
    }

    fn start(config: &mut SourceConfig) -> Result<Self, CommandError> {
        let build = env!("CARGO_PKG_VERSION");
        let source = Self::start(config.clone(), build).map_err(|error| failed(&error))?;
        let listen = source.listen();
        config.listen = listen.map_err(|error| failed(&StartError::Address(error)))?;
        config.metrics = source.metrics();
        Ok(source)
    }

    fn follow(config: &SourceConfig, mut next: SourceConfig) -> Result<SourceConfig, CommandError> {
        daemon::same_state_dir(&config.state_dir, &next.state_dir)?;
        if next.listen.port() == 0 {
            // Any port will do, and agents know the one that there is.
            next.listen.set_port(config.listen.port());
        }
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

fn failed(error: &StartError) -> CommandError {
    let hint = match error {
        StartError::Listen(_) => "another process may use that UDP port: `listen` names another",
        StartError::StateDir(error) if error.is_locked() => {
            "one source a state directory: stop the other one first"
        }
        StartError::Metrics(_) => daemon::METRICS_HINT,
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
