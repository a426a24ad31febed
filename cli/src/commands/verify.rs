//! `codevol verify`: re-hashes disks and asks code servers what they loaded, now.

use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::drift::{NodeVerified, Verified, Verifying};
use codevol_protocol::name::VolumeName;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::commands::Context;
use crate::control::{Control, Replies, block_on};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::progress::Progress;
use crate::output::units;
use crate::screens::verify::{self, NodeDocument, SourceDocument, Standing};

/// How long the daemon may take; longer than it gives itself.
const TIMEOUT: Duration = Duration::from_secs(960);
const DEEP_TIMEOUT: Duration = Duration::from_secs(7_260);

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Every release that is held, and the source's own store too
    #[arg(long)]
    pub deep: bool,
    /// The volume, where there are several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    volume: &'a VolumeName,
    deep: bool,
    at: codevol_protocol::release::UnixMillis,
    drift: bool,
    nodes: Vec<NodeDocument<'a>>,
    source: Option<SourceDocument<'a>>,
}

/// Has every node look, or on an agent's host this one, and shows what was found.
///
/// # Errors
/// Nobody could be asked, or it was interrupted.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    let (nodes, verified) = block_on(ask(&control, args, context))??;
    let standing = Standing::of(&nodes, &verified);
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.verify/1",
            volume: &verified.volume,
            deep: verified.deep,
            at: verified.at,
            drift: standing.has_drift,
            nodes: nodes.iter().map(NodeDocument::of).collect(),
            source: verified.source.as_ref().map(SourceDocument::of),
        })?;
    } else {
        context.printer.line(verify::render(&nodes, &verified))?;
    }
    Ok(standing.exit())
}

async fn ask(
    control: &Control,
    args: &VerifyArgs,
    context: &Context,
) -> Result<(Vec<NodeVerified>, Verified), CommandError> {
    let limit = if args.deep { DEEP_TIMEOUT } else { TIMEOUT };
    let interrupt = signal(SignalKind::interrupt())
        .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
    let call = Call::Verify {
        volume: args.volume.clone(),
        deep: args.deep,
    };
    let until = Instant::now() + limit;
    let mut replies = control.begin(&call).await?;
    if args.deep {
        let limit = units::elapsed(limit);
        context
            .printer
            .note(format_args!("Waiting  up to {limit} for all that is held"));
    }
    let found = hear(control, (&mut replies, interrupt), until, context).await;
    replies.hang_up().await;
    found
}

async fn hear(
    control: &Control,
    (replies, mut interrupt): (&mut Replies, Signal),
    until: Instant,
    context: &Context,
) -> Result<(Vec<NodeVerified>, Verified), CommandError> {
    let progress = context.printer.progress("verifying");
    let mut going = Going::default();
    let mut nodes = Vec::new();
    loop {
        // Cancel-safe: a reply that has begun stays in `replies`, and hanging up ends the looks.
        let reply = tokio::select! {
            reply = replies.next(until) => reply?,
            _ = interrupt.recv() => {
                let message = "interrupted before all had answered; nothing was changed";
                return Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message));
            }
        };
        match reply {
            Reply::Verifying(far) => going.take(far, &progress),
            Reply::NodeVerified(found) => {
                progress.line(&verify::node_line(&found));
                nodes.push(*found);
            }
            Reply::Verified(verified) => {
                nodes.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok((nodes, *verified));
            }
            _ => return Err(control.unexpected()),
        }
    }
}

/// How far everybody is, for the one live line.
#[derive(Default)]
struct Going(std::collections::BTreeMap<String, (u64, u64)>);

impl Going {
    fn take(&mut self, far: Verifying, progress: &Progress) {
        let Verifying { node, pass } = far;
        let name = node.map_or_else(|| "source".to_owned(), |node| node.to_string());
        self.0.insert(name, (pass.files, pass.files_all));
        let (files, all) = self
            .0
            .values()
            .fold((0, 0), |(files, all), (f, a)| (files + f, all + a));
        let who = units::count(self.0.len(), "machine", "machines");
        progress.picture(|| format!("verifying: {files} of {all} files on {who}"));
    }
}
