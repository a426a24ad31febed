//! `codevol push`: publishes the tree, or named paths on top of what is live, and follows the
//! rollout to its end. `codevol plan` is the same without doing it.

use std::path::{Path, PathBuf};

use codevol_protocol::call::{Call, Push, PushPlan, Reply};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::path::RelPath;
use serde::Serialize;
use tokio::time::Instant;

use crate::commands::Context;
use crate::commands::push::offer::Offer;
use crate::config::Config;
use crate::control::{Control, Replies, SCAN_TIMEOUT, block_on};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::progress::Progress;
use crate::screens::plan;
use crate::sealed::open::Sealed;

pub(super) mod follow;
pub(super) mod offer;
pub(super) mod paths;

/// What `push` and `plan` publish.
#[derive(Debug, clap::Args)]
pub struct WhatArgs {
    /// Only these paths, on top of what is live; none: the whole tree. On another machine than the
    /// source's: a folder, whole. On either: what `codevol seal` wrote, whole
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Publish the one file PATH, of any machine, as this path of the tree, on top of what is live
    #[arg(long = "as", value_name = "TREE_PATH", requires = "paths")]
    pub place: Option<RelPath>,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// The arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// What to publish.
    #[command(flatten)]
    pub what: WhatArgs,
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
    /// Overwrite an edit of that file in the source's tree that is not published
    #[arg(long, requires = "place")]
    pub force: bool,
    /// Publish also where most files are gone
    #[arg(short, long)]
    pub yes: bool,
}

/// The arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// What would be published.
    #[command(flatten)]
    pub what: WhatArgs,
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
        return show_plan((&args.what, args.force), context);
    }
    let (control, mut wanted) = begin((&args.what, args.force), context)?;
    wanted.change(|push| {
        push.message = said(message(&args.message)?, &push.message);
        (push.wait, push.thaw, push.yes) = (!args.no_wait, args.thaw, args.yes);
        Ok(())
    })?;
    let follow = |wanted: &What| {
        let followed = follow::Wanted {
            call: wanted.call(),
            wait: !args.no_wait,
            undo: follow::Undo::Rollback,
        };
        follow::follow_with(&control, (followed, wanted.offer()), context)
    };
    match follow(&wanted) {
        Err(error) if error.kind == "blast-guard" && context.printer.can_ask() => {
            let question = format!("{}. Publish it all the same?", error.message);
            context.printer.confirm(&question, false)?;
            wanted.change(|push| {
                push.yes = true;
                Ok(())
            })?;
            follow(&wanted)
        }
        ended => ended,
    }
}

/// Shows what a push would publish.
///
/// # Errors
/// The source does not run, or the push would be refused.
pub fn run_plan(args: &PlanArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    show_plan((&args.what, false), context)
}

fn show_plan(what: (&WhatArgs, bool), context: &Context) -> Result<ExitStatus, CommandError> {
    let (control, mut wanted) = begin(what, context)?;
    wanted.change(|push| {
        push.dry_run = true;
        Ok(())
    })?;
    let progress = context.printer.progress("looking at the tree");
    let plan = block_on(async {
        let mut replies = control.begin(&wanted.call()).await?;
        let plan = plan_of(&wanted, &mut replies, &progress).await;
        replies.hang_up().await;
        plan
    })??;
    drop(progress);
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

async fn plan_of(
    wanted: &What,
    replies: &mut Replies,
    progress: &Progress,
) -> Result<PushPlan, CommandError> {
    if let Some(offer) = wanted.offer() {
        offer.send(replies, progress).await?;
    }
    match (
        replies.next(Instant::now() + SCAN_TIMEOUT).await?,
        wanted.offer(),
    ) {
        (Reply::Plan(plan), Some(offer)) => Ok(offer.seen_in(*plan)),
        (Reply::Plan(plan), None) => Ok(*plan),
        _ => Err(replies.unexpected()),
    }
}

/// What is to be published: what stands in the source's tree, or files of this machine.
enum What {
    Tree(Push),
    Offer(Box<Offer>),
}

impl What {
    fn change(
        &mut self,
        change: impl FnOnce(&mut Push) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Tree(push) => change(push),
            Self::Offer(offer) => change(&mut offer.delivery.push),
        }
    }

    fn call(&self) -> Call {
        match self {
            Self::Tree(push) => Call::Push(push.clone()),
            Self::Offer(offer) => Call::Deliver(Box::new(offer.delivery.clone())),
        }
    }

    fn offer(&self) -> Option<&Offer> {
        match self {
            Self::Tree(_) => None,
            Self::Offer(offer) => Some(offer),
        }
    }
}

fn begin(
    (what, force): (&WhatArgs, bool),
    context: &Context,
) -> Result<(Control, What), CommandError> {
    let (control, loaded) = context.source_and_configuration()?;
    let push = Push {
        volume: what.volume.clone(),
        paths: Vec::new(),
        message: Text::default(),
        dry_run: false,
        thaw: false,
        yes: false,
        wait: false,
    };
    let config = loaded.map(|loaded| loaded.config);
    let wanted = match (&what.place, &what.paths[..], config) {
        (Some(place), [file], _) => {
            let mut offer = Offer::file(place, file, push)?;
            offer.delivery.force = force;
            What::Offer(Box::new(offer))
        }
        (Some(place), _, _) => {
            let message = format!("`--as {place}` takes the one file that is to stand there");
            return Err(
                CommandError::usage(message).hint("codevol push --as assets/orders.py ./orders.py")
            );
        }
        (None, [sealed], config) if is_sealed(sealed, config.as_ref()) => {
            let progress = context.printer.progress("reading the sealed release");
            let offer = Offer::sealed(sealed, push)?;
            drop(progress);
            let what = &offer.delivery.push.message;
            context.printer.note(format_args!(
                "Take in  {what}; the source's own tree stays as it is, and the next push of it publishes it"
            ));
            What::Offer(Box::new(offer))
        }
        (None, paths, Some(Config::Source(config))) => {
            let trees = paths::trees(&config, what.volume.as_ref())?;
            let (volume, paths) = paths::below_one(&trees, what.volume.as_ref(), paths)?;
            What::Tree(Push {
                volume,
                paths,
                ..push
            })
        }
        // The source's own tree, as it stands.
        (None, [], _) => What::Tree(push),
        (None, [dir], _) if dir.is_dir() => {
            let progress = context.printer.progress("looking at the folder");
            let offer = Offer::folder(dir, push)?;
            drop(progress);
            What::Offer(Box::new(offer))
        }
        (None, [path, ..], _) => {
            let message = format!("`{}` is no folder", path.display());
            return Err(CommandError::usage(message).hint(
                "from here one folder is published whole, or one file: `codevol push --as TREE_PATH FILE`",
            ));
        }
    };
    Ok((control, wanted))
}

/// Whether a path is a sealed release, and no part of a tree of this host.
fn is_sealed(path: &Path, config: Option<&Config>) -> bool {
    if !Sealed::is_like(path) {
        return false;
    }
    let Some(Config::Source(config)) = config else {
        return true;
    };
    paths::trees(config, None).is_ok_and(|trees| !paths::lies_in(&trees, path))
}

/// Returns what a person says, and after it what is to be said besides.
fn said(message: Text, besides: &Text) -> Text {
    match (message.is_empty(), besides.is_empty()) {
        (_, true) => message,
        (true, false) => besides.clone(),
        (false, false) => Text::cut(format!("{} ({})", message.as_str(), besides.as_str())),
    }
}

/// Checks a message.
///
/// # Errors
/// It is too long to be kept.
pub(super) fn message(text: &str) -> Result<Text, CommandError> {
    Text::try_from(text.to_owned())
        .map_err(|error| CommandError::usage("the message is too long").because(&error))
}
