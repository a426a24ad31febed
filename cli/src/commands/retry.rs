//! `codevol retry`: rolls a release out once more that was found broken, or that was held.

use codevol_protocol::call::{Call, ReleaseRef};
use codevol_protocol::name::VolumeName;

use crate::commands::Context;
use crate::commands::push::follow::{Undo, Wanted, follow};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// Which release, as `r43` or its id
    #[arg(value_name = "REL")]
    pub release: ReleaseRef,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// Rolls the release out, and follows that.
///
/// # Errors
/// There is no such release, or what came of it cannot be told.
pub fn run(args: &RetryArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.source()?;
    let wanted = Wanted {
        call: Call::Retry {
            volume: args.volume.clone(),
            release: args.release.clone(),
        },
        wait: true,
        undo: Undo::Rollback,
    };
    follow(&control, wanted, context)
}
