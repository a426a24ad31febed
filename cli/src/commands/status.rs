//! `codevol status`: what each server serves, on what evidence; with `--watch` again and again.

mod watch;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::status::Status;

use crate::commands::Context;
use crate::config::Config;
use crate::control::Control;
use crate::doctor::{State, exposure};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::{self, status};

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show it again each time that something changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// Asks this machine's daemon, and shows what it says.
///
/// # Errors
/// The daemon cannot be asked.
pub fn run(args: &StatusArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let (control, loaded) = context.daemon_and_configuration()?;
    if args.watch {
        return watch::run(&control, context);
    }
    let status = ask(&control)?;
    if context.printer.is_json() {
        context.printer.json(&status)?;
    } else {
        context
            .printer
            .line(status::render(&status, screens::now()))?;
        // Of a member by environment alone there is no host to look at.
        let exposed = loaded.map_or_else(Vec::new, |loaded| exposed(&loaded.config));
        if !exposed.is_empty() {
            context.printer.line(status::render_host(&exposed))?;
        }
    }
    Ok(ExitStatus::Done)
}

/// Says where nothing keeps Dagster from writing to what the agent of this host keeps: its user is not
/// another one, and it sees the root through no read-only mount.
fn exposed(config: &Config) -> Vec<String> {
    let Config::Agent(config) = config else {
        return Vec::new();
    };
    let checks = exposure::look(config).into_iter();
    let warnings = checks.filter(|check| check.state == State::Warning);
    warnings
        .map(|check| {
            let mend = check.mend.unwrap_or_default();
            format!("{}; {mend}", check.message)
        })
        .collect()
}

/// Asks how everything stands.
///
/// # Errors
/// The daemon cannot be asked.
pub(super) fn ask(control: &Control) -> Result<Status, CommandError> {
    let Reply::Status(status) = control.ask(&Call::Status)? else {
        return Err(control.unexpected());
    };
    Ok(*status)
}
