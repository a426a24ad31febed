//! `codevol diff`: what differs between two releases, between one and the tree, or on a node's disk.

use codevol_protocol::call::{Call, ReleaseRef, Reply};
use codevol_protocol::diff::TreeDiff;
use codevol_protocol::name::{NodeName, VolumeName};
use serde::Serialize;

use crate::commands::Context;
use crate::control::SCAN_TIMEOUT;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::diff;

/// The arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The older release, as `r41` or its id [default: the live one]
    #[arg(value_name = "A")]
    pub from: Option<ReleaseRef>,
    /// The newer release [default: the tree as it stands]
    #[arg(value_name = "B")]
    pub to: Option<ReleaseRef>,
    /// How this node's disk differs from the release that it runs
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "to"])]
    pub node: Option<NodeName>,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    diff: &'a TreeDiff,
}

/// Shows what differs. That something does is no failure.
///
/// # Errors
/// The source does not run, or has no such volume or release.
pub fn run(args: &DiffArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.source()?;
    let volume = args.volume.clone();
    let call = match args.node.clone() {
        Some(node) => Call::NodeDiff { volume, node },
        None => Call::Diff {
            volume,
            from: args.from.clone(),
            to: args.to.clone(),
        },
    };
    let progress = context.printer.progress("comparing");
    let reply = control.ask_within(&call, SCAN_TIMEOUT)?;
    drop(progress);
    let Reply::Diff(found) = reply else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.diff/1",
            diff: &found,
        })?;
    } else {
        context.printer.line(diff::render(&found))?;
    }
    Ok(ExitStatus::Done)
}
