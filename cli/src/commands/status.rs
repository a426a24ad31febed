//! `codevol status`: what each server serves, on what evidence.

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::status::Status;

use crate::commands::Context;
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::{self, status};

/// The arguments of `status`: none.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {}

/// Asks this machine's daemon, and shows what it says.
///
/// # Errors
/// The daemon cannot be asked.
pub fn run(_args: &StatusArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let status = ask(&Control::new(&context.load(None)?)?)?;
    if context.printer.is_json() {
        context.printer.json(&status)?;
    } else {
        context
            .printer
            .line(status::render(&status, screens::now()))?;
    }
    Ok(ExitStatus::Done)
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
