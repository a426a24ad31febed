//! `codevol gc`: deletes what nobody needs any more on this host, as the daemon does by itself.

use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::collection::Collection;
use codevol_protocol::name::VolumeName;
use serde::Serialize;

use crate::commands::Context;
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::gc;

/// How long the daemon may take.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(630);

/// The arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct GcArgs {
    /// Show what would be deleted, and delete nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// The volume, where there are several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    collection: &'a Collection,
}

/// Shows what nobody needs, and deletes it where somebody agrees.
///
/// # Errors
/// The daemon of this host does not run, nobody agreed, or it cannot be deleted.
pub fn run(args: &GcArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    if args.dry_run || args.yes {
        let collected = ask(&control, args, args.dry_run, context)?;
        return show(&collected, context);
    }
    if !context.printer.can_ask() {
        let question = "delete what nobody needs any more?";
        context.printer.confirm(question, false)?;
    }
    let planned = ask(&control, args, true, context)?;
    if planned.is_empty() {
        return show(&planned, context);
    }
    context.printer.note(gc::render(&planned));
    context.printer.confirm(&gc::question(&planned), false)?;
    let collected = ask(&control, args, false, context)?;
    show(&collected, context)
}

fn ask(
    control: &Control,
    args: &GcArgs,
    dry_run: bool,
    context: &Context,
) -> Result<Collection, CommandError> {
    let volume = args.volume.clone();
    let progress = context.printer.progress("looking for what nobody needs");
    let reply = control.ask_within(&Call::Collect { volume, dry_run }, COLLECT_TIMEOUT)?;
    drop(progress);
    match reply {
        Reply::Collected(collection) => Ok(*collection),
        _ => Err(control.unexpected()),
    }
}

fn show(collection: &Collection, context: &Context) -> Result<ExitStatus, CommandError> {
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.gc/1",
            collection,
        })?;
    } else {
        context.printer.line(gc::render(collection))?;
    }
    Ok(ExitStatus::Done)
}
