//! `codevol rollback --node`, and `codevol rollback` on an agent's own host: one node goes to a release
//! that it holds, and is held there.

use std::time::Duration;

use codevol_protocol::call::{Call, NodeWentBack, Reply};
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::status::{NodeError, Status};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::RollbackArgs;
use crate::commands::push::message;
use crate::commands::{Context, status};
use crate::config::Role;
use crate::control::{Control, block_on};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::units;
use crate::screens::hold::{self, Whereabouts};

/// How long what the code servers serve is waited for; the daemon gives up before.
const TIMEOUT: Duration = Duration::from_secs(310);

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    volume: &'a VolumeName,
    node: &'a NodeName,
    from: Option<Seq>,
    to: Seq,
    active: Option<Seq>,
    held: bool,
    state: &'static str,
    evidence: Option<codevol_protocol::evidence::Evidence>,
    elapsed_ms: Option<u64>,
    error: Option<NodeError>,
}

/// Has a node go back; with no name that of this host.
pub(super) fn run(
    args: &RollbackArgs,
    control: &Control,
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    let why = message(&args.message)?;
    if !args.yes {
        let status = status::ask(control)?;
        context.printer.confirm(&question(args, &status), false)?;
    }
    let (volume, to, wait) = (args.volume.clone(), args.to.clone(), !args.no_wait);
    let call = match &args.node {
        Some(node) => Call::RollbackNode {
            volume,
            node: node.clone(),
            to,
            message: why,
            wait,
        },
        None => Call::Rollback {
            volume,
            to,
            message: why,
            wait,
        },
    };
    let went = block_on(ask(control, &call, (wait, context)))??;
    let found = Whereabouts::of(&went);
    let local = control.role() == Role::Agent;
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.node-rollback/1",
            volume: &went.volume,
            node: &went.node,
            from: went.went.from,
            to: went.went.to,
            active: went.went.active,
            held: found.is_held(),
            state: found.word(),
            evidence: found.evidence(),
            elapsed_ms: went.went.found.as_ref().map(|found| found.elapsed_ms),
            error: found.error(),
        })?;
        return Ok(found.exit());
    }
    match hold::broken(&went, context.printer.is_verbose()) {
        Some(report) => context.printer.error(&report),
        None => context.printer.line(hold::went(&went, local))?,
    }
    Ok(found.exit())
}

async fn ask(
    control: &Control,
    call: &Call,
    (wait, context): (bool, &Context),
) -> Result<NodeWentBack, CommandError> {
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
    let mut replies = control.begin(call).await?;
    if wait {
        let limit = units::elapsed(TIMEOUT);
        context
            .printer
            .note(format_args!("Waiting  up to {limit} for its code servers"));
    }
    let _progress = context.printer.progress("going back");
    // Cancel-safe: whichever arm is dropped, the node does as it was told.
    let reply = tokio::select! {
        reply = replies.next(Instant::now() + TIMEOUT) => reply,
        _ = interrupt.recv() => {
            let message = "interrupted: the node was asked to go back, and goes on";
            Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message)
                .hint("`codevol status` shows what it runs, and whether it is held"))
        }
    };
    replies.hang_up().await;
    let Reply::NodeWentBack(went) = reply? else {
        return Err(control.unexpected());
    };
    Ok(*went)
}

/// Says what will be done. Where it cannot be, the daemon says so.
fn question(args: &RollbackArgs, status: &Status) -> String {
    let nodes = status.volumes.iter().flat_map(|volume| {
        let named = args.volume.as_ref().is_none_or(|n| *n == volume.name);
        volume.nodes.iter().filter(move |_| named)
    });
    let meant = |node: &NodeName| args.node.as_ref().is_none_or(|n| n == node);
    let mut nodes = nodes.filter(|node| meant(&node.name));
    // Of several none is meant: the daemon says that a volume must be named.
    let node = nodes.next().filter(|_| nodes.next().is_none());
    let name = args.node.as_ref().or_else(|| node.map(|node| &node.name));
    let name = name.map_or_else(|| "this node".to_owned(), |name| format!("node `{name}`"));
    let from = node
        .and_then(|node| node.release)
        .map_or_else(String::new, |seq| format!(" from {seq}"));
    let to = args.to.as_ref().map_or_else(
        || "the release that it ran before".to_owned(),
        ToString::to_string,
    );
    format!("take {name}{from} to {to}, and hold it there until it is thawed?")
}
