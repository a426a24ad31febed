//! `codevol rollback`: makes an older tree live again, and freezes the volume so that the next save
//! does not bring the newer one back. Of one node: it goes to a release that it holds, and stays there.

mod node;

use codevol_protocol::call::{Call, ReleaseRef};
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::status::{Status, VolumeStatus};

use crate::commands::push::follow::{Undo, Wanted, follow};
use crate::commands::push::message;
use crate::commands::{Context, status};
use crate::config::Role;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// Where to, as `r41` or its id; else the release that was live before
    #[arg(value_name = "REL")]
    pub to: Option<ReleaseRef>,
    /// Why
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub message: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Do not wait for the rollout
    #[arg(long)]
    pub no_wait: bool,
    /// Only this node, to a release that it holds; it stays there until `thaw --node`. On an agent's own
    /// host: that one
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
    /// The volume, where there are several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// Goes back, and follows the rollout; or has one node go back, apart from the others.
///
/// # Errors
/// Nothing was published, nobody agreed, or what came of it cannot be told.
pub fn run(args: &RollbackArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    if args.node.is_some() || control.role() == Role::Agent {
        return node::run(args, &control, context);
    }
    let message = message(&args.message)?;
    if !args.yes {
        let status = status::ask(&control)?;
        context.printer.confirm(&question(args, &status), false)?;
    }
    let wait = !args.no_wait;
    let wanted = Wanted {
        call: Call::Rollback {
            volume: args.volume.clone(),
            to: args.to.clone(),
            message,
            wait,
        },
        wait,
        undo: Undo::Thaw,
    };
    follow(&control, wanted, context)
}

/// Says what will be done. Where it cannot be, the source says so.
fn question(args: &RollbackArgs, status: &Status) -> String {
    let named = |volume: &&VolumeStatus| args.volume.as_ref().is_none_or(|n| *n == volume.name);
    let mut volumes = status.volumes.iter().filter(named);
    // Of several none is meant: the source says that one must be named.
    let volume = volumes.next().filter(|_| volumes.next().is_none());
    let name = volume.map_or_else(String::new, |volume| format!(" `{}`", volume.name));
    let from = volume
        .and_then(|volume| volume.live)
        .map_or_else(String::new, |live| format!(" from {live}"));
    let to = args.to.as_ref().map_or_else(
        || "the release that was live before".to_owned(),
        |to| format!("the tree of {to}"),
    );
    format!("take volume{name}{from} back to {to} on every server, and freeze it until `thaw`?")
}
