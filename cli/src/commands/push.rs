//! `codevol push`: publishes the tree, or named paths on top of what is live, and follows the
//! rollout to its end. `codevol plan` is the same without doing it.

use std::path::PathBuf;

use codevol_protocol::call::{Call, Push, PushPlan, Reply};
use codevol_protocol::name::{Text, VolumeName};
use serde::Serialize;

use crate::commands::Context;
use crate::config::{Config, Role};
use crate::control::{Control, SCAN_TIMEOUT};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::plan;

pub(super) mod follow;
pub(super) mod paths;

/// What `push` and `plan` publish.
#[derive(Debug, clap::Args)]
pub struct What {
    /// Only these paths, on top of what is live; none: the whole tree
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// The arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// What to publish.
    #[command(flatten)]
    pub what: What,
    /// Why
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub message: String,
    /// Show what would be published, and publish nothing
    #[arg(long, conflicts_with_all = ["no_wait", "thaw"])]
    pub dry_run: bool,
    /// Do not wait for the rollout
    #[arg(long)]
    pub no_wait: bool,
    /// Lift a freeze
    #[arg(long)]
    pub thaw: bool,
    /// Publish also where most files are gone
    #[arg(short, long)]
    pub yes: bool,
}

/// The arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// What would be published.
    #[command(flatten)]
    pub what: What,
}

#[derive(Serialize)]
struct PlanDocument<'a> {
    schema: &'static str,
    #[serde(flatten)]
    plan: &'a PushPlan,
}

/// Publishes, and follows the rollout.
///
/// # Errors
/// Nothing was published, or what came of it cannot be told.
pub fn run(args: &PushArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    if args.dry_run {
        return show_plan(&args.what, context);
    }
    let (control, mut push) = begin(&args.what, context)?;
    push.message = message(&args.message)?;
    (push.wait, push.thaw, push.yes) = (!args.no_wait, args.thaw, args.yes);
    let wanted = |push| follow::Wanted {
        call: Call::Push(push),
        wait: !args.no_wait,
        undo: follow::Undo::Rollback,
    };
    match follow::follow(&control, wanted(push.clone()), context) {
        Err(error) if error.kind == "blast-guard" && context.printer.can_ask() => {
            let question = format!("{}. Publish it all the same?", error.message);
            context.printer.confirm(&question, false)?;
            push.yes = true;
            follow::follow(&control, wanted(push), context)
        }
        ended => ended,
    }
}

/// Shows what a push would publish.
///
/// # Errors
/// The source does not run, or the push would be refused.
pub fn run_plan(args: &PlanArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    show_plan(&args.what, context)
}

fn show_plan(what: &What, context: &Context) -> Result<ExitStatus, CommandError> {
    let (control, mut push) = begin(what, context)?;
    push.dry_run = true;
    let progress = context.printer.progress("looking at the tree");
    let reply = control.ask_within(&Call::Push(push), SCAN_TIMEOUT)?;
    drop(progress);
    let Reply::Plan(plan) = reply else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&PlanDocument {
            schema: "codevol.plan/1",
            plan: &plan,
        })?;
    } else {
        context.printer.line(plan::dry_run(&plan))?;
    }
    Ok(ExitStatus::Done)
}

fn begin(what: &What, context: &Context) -> Result<(Control, Push), CommandError> {
    let loaded = context.load(Some(Role::Source))?;
    let Config::Source(config) = &loaded.config else {
        return Err(CommandError::config("this is no source's configuration"));
    };
    let trees = paths::trees(config, what.volume.as_ref())?;
    let (volume, paths) = paths::below_one(&trees, what.volume.as_ref(), &what.paths)?;
    let push = Push {
        volume,
        paths,
        message: Text::default(),
        dry_run: false,
        thaw: false,
        yes: false,
        wait: false,
    };
    Ok((Control::new(&loaded)?, push))
}

/// Checks a message.
///
/// # Errors
/// It is too long to be kept.
pub(super) fn message(text: &str) -> Result<Text, CommandError> {
    Text::try_from(text.to_owned())
        .map_err(|error| CommandError::usage("the message is too long").because(&error))
}
