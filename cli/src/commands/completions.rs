//! `codevol completions`: a script that makes a shell complete our commands.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Args;
use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    shell: String,
    script: &'a str,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "codevol", &mut script);
    let script = String::from_utf8_lossy(&script);
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.completions/1",
            shell: args.shell.to_string(),
            script: &script,
        })?;
    } else {
        context.printer.line(script.trim_end())?;
    }
    Ok(ExitStatus::Done)
}
