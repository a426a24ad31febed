//! `codevol thaw`: ends a freeze; what waited goes live. Of one node: it is held no more.

use codevol_protocol::call::Call;
use codevol_protocol::name::{NodeName, VolumeName};

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
    /// Only this node, which was held: it goes with the others again. On an agent's own host: that one
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
    /// The volume, where there are several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// Thaws the volume, or lets a node go on.
///
/// # Errors
/// The daemon does not run, has no such volume or node, or the node is not connected.
pub fn run(args: &ThawArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    let (volume, message) = (args.volume.clone(), message(&args.message)?);
    let call = match args.node.clone() {
        Some(node) => Call::ThawNode {
            volume,
            node,
            message,
        },
        None => Call::Thaw { volume, message },
    };
    done(&control, &call, context)
}
