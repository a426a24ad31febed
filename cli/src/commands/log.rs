//! `codevol log`: the releases of a volume, newest first; the whole story of one of them; or what ran
//! where at a moment.

pub mod time;

use codevol_protocol::call::{Call, LogEntry, ReleaseRef, ReleaseResult, Reply};
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::status::{NodeError, ReleaseStatus};
use codevol_protocol::story::{AtTime, Step, Story};
use jiff::Zoned;
use serde::Serialize;

use self::time::Moment;
use crate::commands::{Context, status};
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::{self, log, story};

/// How many releases are listed at the most.
const COUNT_MAX: u32 = 1_000;

/// The arguments of `log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only this release, as `r43` or its id: every step of it on every node
    #[arg(value_name = "REL", conflicts_with_all = ["at", "count"])]
    pub release: Option<ReleaseRef>,
    /// How many releases, the newest first
    #[arg(short = 'n', long = "count", value_name = "N", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    pub count: u32,
    /// What ran where at this time: `2026-11-17T14:00:00Z`, `2026-11-17 14:00` or `3d ago`
    #[arg(long, value_name = "TIME", conflicts_with = "count")]
    pub at: Option<Moment>,
    /// Only this node
    #[arg(long, value_name = "NAME", requires = "at")]
    pub node: Option<NodeName>,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

const SCHEMA: &str = "codevol.log/1";

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

#[derive(Serialize)]
struct StoryDocument<'a> {
    schema: &'static str,
    release: Entry<'a>,
    steps: &'a [Step],
    steps_cut: u64,
    journal_first: Option<u64>,
}

#[derive(Serialize)]
struct AtDocument<'a> {
    schema: &'static str,
    #[serde(flatten)]
    at: &'a AtTime,
}

/// Lists the releases, tells the story of one, or what ran where at a moment.
///
/// # Errors
/// The source does not run, or has no such volume or release; the moment lies ahead or before the
/// journal's beginning.
pub fn run(args: &LogArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.daemon()?;
    match (&args.release, args.at) {
        (Some(named), _) => tell(named, args, (&control, context))?,
        (None, Some(moment)) => tell_moment(moment, args, (&control, context))?,
        (None, None) => list(args, (&control, context))?,
    }
    Ok(ExitStatus::Done)
}

fn list(args: &LogArgs, (control, context): (&Control, &Context)) -> Result<(), CommandError> {
    let (volume, count) = (args.volume.clone(), args.count);
    let Reply::Log(entries) = control.ask(&Call::Log { volume, count })? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        return context.printer.json(&Document {
            schema: SCHEMA,
            releases: entries.iter().map(entry).collect(),
        });
    }
    context.printer.line(log::render(&entries, screens::now()))
}

fn tell(
    named: &ReleaseRef,
    args: &LogArgs,
    (control, context): (&Control, &Context),
) -> Result<(), CommandError> {
    let call = Call::Story {
        volume: args.volume.clone(),
        release: named.clone(),
    };
    let Reply::Story(told) = control.ask(&call)? else {
        return Err(control.unexpected());
    };
    let Story {
        entry: of,
        steps,
        steps_cut,
        journal_first,
    } = *told;
    if context.printer.is_json() {
        return context.printer.json(&StoryDocument {
            schema: SCHEMA,
            release: entry(&of),
            steps: &steps,
            steps_cut,
            journal_first,
        });
    }
    let errors = errors(control, args.volume.as_ref(), &of)?;
    let now = Zoned::now();
    let facts = log::story(&of, &errors, screens::now());
    let steps = story::steps(&steps, steps_cut, now.time_zone());
    context.printer.line(format_args!("{facts}\n\n{steps}"))?;
    if let Some(gone) = story::gone(journal_first) {
        context.printer.note(gone);
    }
    Ok(())
}

fn tell_moment(
    moment: Moment,
    args: &LogArgs,
    (control, context): (&Control, &Context),
) -> Result<(), CommandError> {
    let now = Zoned::now();
    let time = moment.at(&now).ok_or_else(|| {
        CommandError::usage("that time lies ahead, or before 1970")
            .hint("`codevol status` shows what runs where as things stand")
    })?;
    let call = Call::At {
        volume: args.volume.clone(),
        time,
        node: args.node.clone(),
    };
    let Reply::At(at) = control.ask(&call)? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        return context.printer.json(&AtDocument {
            schema: "codevol.at/1",
            at: &at,
        });
    }
    context.printer.line(story::at(&at, now.time_zone()))?;
    for doubt in story::doubts(&at) {
        context.printer.warning(doubt);
    }
    Ok(())
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

fn entry(entry: &LogEntry) -> Entry<'_> {
    Entry {
        release: &entry.release,
        result: entry.result,
    }
}
