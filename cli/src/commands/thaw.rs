//! `codevol thaw`: ends a freeze; what waited goes live.

use codevol_protocol::call::Call;
use codevol_protocol::name::VolumeName;

use crate::commands::push::message;
use crate::commands::{Context, done};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `thaw`.
#[derive(Debug, clap::Args)]
pub struct ThawArgs {
    /// Why
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub message: String,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// Thaws the volume.
///
/// # Errors
/// The source does not run, or has no such volume.
pub fn run(args: &ThawArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.source()?;
    let call = Call::Thaw {
        volume: args.volume.clone(),
        message: message(&args.message)?,
    };
    done(&control, &call, context)
}
