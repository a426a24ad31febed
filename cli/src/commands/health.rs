//! `codevol health`: whether this machine's daemon answers, or is ready.

use codevol_protocol::call::{Call, Reply};
use serde::Serialize;

use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// Ask for more than an answer: a source has scanned its trees, an agent has a verified release
    #[arg(long)]
    pub ready: bool,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    role: &'static str,
    ready: Option<bool>,
}

/// Asks the daemon.
///
/// # Errors
/// It does not run, or it is not ready.
pub fn run(args: &HealthArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    let ready = args.ready;
    let Reply::Healthy = control.ask(&Call::Health { ready })? else {
        return Err(control.unexpected());
    };
    let role = control.role();
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.health/1",
            role: role.as_str(),
            ready: ready.then_some(true),
        })?;
    } else {
        let is = if ready { "is ready" } else { "answers" };
        context.printer.line(format_args!("the {role} {is}"))?;
    }
    Ok(ExitStatus::Done)
}
