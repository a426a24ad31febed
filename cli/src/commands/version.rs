//! `codevol version`: which build this is.

use serde::Serialize;

use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `version`: none.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    version: &'static str,
}

/// Prints the version.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(_args: &VersionArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.version/1",
            version,
        })?;
    } else {
        context.printer.line(format_args!("codevol {version}"))?;
    }
    Ok(ExitStatus::Done)
}
