//! `codevol config`: checks the configuration, or shows it as it holds.

use clap::Subcommand;
use serde::Serialize;

use crate::commands::Context;
use crate::config::{Loaded, check, show};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check syntax, meaning and this machine; exit 78 on a fault
    Check {
        /// Leave out what depends on this machine
        #[arg(long)]
        no_environment: bool,
    },
    /// Show the values that hold, and where each comes from
    Show,
}

#[derive(Serialize)]
struct Checked<'a> {
    schema: &'static str,
    file: String,
    role: &'static str,
    environment: bool,
    warnings: &'a [String],
}

/// Checks or shows the configuration.
///
/// # Errors
/// The configuration is missing or invalid.
pub fn run(args: &ConfigArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(None)?;
    match args.action {
        Action::Check { no_environment } => check(&loaded, !no_environment, context)?,
        Action::Show if context.printer.is_json() => {
            context.printer.json(&show::document(&loaded))?;
        }
        Action::Show => context.printer.line(show::toml(&loaded).trim_end())?,
    }
    Ok(ExitStatus::Done)
}

fn check(loaded: &Loaded, environment: bool, context: &Context) -> Result<(), CommandError> {
    if environment {
        check::environment(loaded)?;
    }
    let role = loaded.config.role();
    if context.printer.is_json() {
        return context.printer.json(&Checked {
            schema: "codevol.config-check/1",
            file: loaded.path.display().to_string(),
            role: role.as_str(),
            environment,
            warnings: &loaded.warnings,
        });
    }
    let what = if environment {
        "is valid on this machine"
    } else {
        "is valid; this machine was not looked at"
    };
    let path = loaded.path.display();
    context.printer.line(format_args!("{path} ({role}) {what}"))
}
