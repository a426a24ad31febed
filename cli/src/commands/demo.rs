//! `codevol demo`: a source and three agents on loopback, as real processes of this very binary,
//! over a copy of a tree; edits it, breaks it, and shows what happens. The folder is gone afterwards.

mod breaks;
mod fleet;
mod project;
mod servers;
mod story;

use std::path::PathBuf;

use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// A Dagster project to show it on; only read, the edits happen in a copy [default: a sample]
    pub dir: Option<PathBuf>,
    /// End by itself after one round
    #[arg(long)]
    pub once: bool,
    /// Break the code too, and show how the servers come back
    #[arg(long = "break")]
    pub breaks: bool,
}

/// Shows what codevol does.
///
/// # Errors
/// The folder cannot be read, a process does not start, or a step does not happen in time.
pub fn run(args: &DemoArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    if context.printer.is_json() {
        return Err(CommandError::usage("`demo` is for people: it has no JSON"));
    }
    super::runtime(None)?.block_on(story::tell(args, context))
}
