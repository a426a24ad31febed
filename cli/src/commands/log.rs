//! `codevol log`: the releases of a volume, newest first; or all about one of them.

use codevol_protocol::call::{Call, LogEntry, ReleaseRef, ReleaseResult, Reply};
use codevol_protocol::name::VolumeName;
use codevol_protocol::status::{NodeError, ReleaseStatus};
use serde::Serialize;

use crate::commands::{Context, status};
use crate::config::Role;
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::{self, log};

/// How far back one release is looked for.
const COUNT_MAX: u32 = 1_000;

/// The arguments of `log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only this release, as `r43` or its id, and what went wrong with it
    #[arg(value_name = "REL")]
    pub release: Option<ReleaseRef>,
    /// How many releases, the newest first
    #[arg(short = 'n', long = "count", value_name = "N", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    #[arg(conflicts_with = "release")]
    pub count: u32,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    releases: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    release: &'a ReleaseStatus,
    result: ReleaseResult,
}

/// Lists the releases, or tells about one.
///
/// # Errors
/// The source does not run, or has no such volume or release.
pub fn run(args: &LogArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = Control::new(&context.load(Some(Role::Source))?)?;
    let count = if args.release.is_some() {
        COUNT_MAX
    } else {
        args.count
    };
    let volume = args.volume.clone();
    let Reply::Log(mut entries) = control.ask(&Call::Log { volume, count })? else {
        return Err(control.unexpected());
    };
    if let Some(named) = &args.release {
        entries.retain(|entry| named.names(entry.release.seq, &entry.release.id));
        if entries.is_empty() {
            let message = format!("there is no release {named} among the newest {COUNT_MAX}");
            return Err(CommandError::refused("not-found", message)
                .hint("`codevol log` lists the releases"));
        }
    }
    if context.printer.is_json() {
        context.printer.json(&document(&entries))?;
    } else if let (Some(_), [entry]) = (&args.release, &*entries) {
        let errors = errors(&control, args.volume.as_ref(), entry)?;
        let story = log::story(entry, &errors, screens::now());
        context.printer.line(story)?;
    } else {
        context
            .printer
            .line(log::render(&entries, screens::now()))?;
    }
    Ok(ExitStatus::Done)
}

/// Returns what the nodes last found wrong with a release.
fn errors(
    control: &Control,
    volume: Option<&VolumeName>,
    entry: &LogEntry,
) -> Result<Vec<NodeError>, CommandError> {
    let volumes = status::ask(control)?.volumes.into_iter();
    let named = volumes.filter(|each| volume.is_none_or(|volume| each.name == *volume));
    let errors = named
        .flat_map(|volume| volume.nodes)
        .filter_map(|node| node.error);
    Ok(errors
        .filter(|error| error.release == entry.release.seq)
        .collect())
}

fn document(entries: &[LogEntry]) -> Document<'_> {
    let releases = entries.iter().map(|entry| Entry {
        release: &entry.release,
        result: entry.result,
    });
    Document {
        schema: "codevol.log/1",
        releases: releases.collect(),
    }
}
