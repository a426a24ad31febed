//! `codevol fetch --once`: what is live comes to this host, and that is all: for a build step, or an init
//! container, where no agent daemon runs.

use std::time::Duration;

use codevol_agent::config::AgentConfig;
use codevol_agent::control::{Desk, Fetched, Fetching, Waiting};
use codevol_agent::daemon::{Daemon, StartError};
use codevol_protocol::evidence::Evidence;
use codevol_protocol::hold::Hold;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::{Printable, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::status::NodeState;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::commands::{Context, agent, runtime};
use crate::config::{Config, Role, check, duration, duration_text};
use crate::daemon;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::progress::Progress;
use crate::screens::fetch;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(50);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// The arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// Once, and no more: the agent daemon goes on fetching
    #[arg(long, required = true)]
    pub once: bool,
    /// How long it may take, as `90s` or `5m`
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = limit)]
    pub timeout: Duration,
}

/// What came of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeFetched {
    /// The volume.
    pub name: VolumeName,
    /// The release that stands here now.
    pub release: Option<Seq>,
    /// The live release.
    pub live: Option<Seq>,
    /// Its id, where it stands here.
    pub id: Option<ReleaseId>,
    /// How this node stands.
    pub state: NodeState,
    /// What is known of what is served.
    pub evidence: Option<Evidence>,
    /// What went wrong with what is live.
    pub error: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    volumes: &'a [VolumeFetched],
}

/// Fetches what is live.
///
/// # Errors
/// An agent runs here, it cannot start, the source is not reached, or does not know this node.
pub fn run(args: &FetchArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(Some(Role::Agent))?;
    check::environment(&loaded)?;
    let Config::Agent(config) = loaded.config else {
        return Err(CommandError::config("this configuration is not an agent's"));
    };
    if context.printer.is_verbose() {
        daemon::log(true);
    }
    let runtime = runtime(None)?;
    let progress = context.printer.progress("fetching what is live");
    let fetched = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
        let daemon = start(config)?;
        let (desk, stopper) = (daemon.desk(), daemon.stopper());
        let running = runtime.spawn(daemon.run());
        let fetched = follow(&desk, args.timeout, &mut interrupt, &progress).await;
        stopper.cancel();
        // A panic in it was logged where it happened.
        drop(running.await);
        fetched
    })?;
    drop(progress);
    let volumes: Vec<VolumeFetched> = fetched.iter().map(told).collect();
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.fetch/1",
            volumes: &volumes,
        })?;
    } else {
        context.printer.line(fetch::render(&volumes))?;
    }
    Ok(exit_of(&volumes))
}

fn start(config: AgentConfig) -> Result<Daemon, CommandError> {
    Daemon::start(config, env!("CARGO_PKG_VERSION")).map_err(|error| match &error {
        StartError::StateDir(locked) if locked.is_locked() => {
            let message = "the agent runs on this host, and fetches what is live by itself";
            CommandError::refused("running", message)
                .because(locked)
                .hint("`codevol status` shows what it has")
        }
        error => agent::failed(error),
    })
}

async fn follow(
    desk: &Desk,
    limit: Duration,
    interrupt: &mut Signal,
    progress: &Progress,
) -> Result<Vec<Fetched>, CommandError> {
    let until = Instant::now() + limit;
    loop {
        let waiting = match desk.fetching().await? {
            Fetching::Ended(fetched) => return Ok(fetched),
            Fetching::Refused => {
                let message = "the source does not know this node";
                return Err(CommandError::not_permitted(message)
                    .hint("make a new token on the source, and join again: codevol invite"));
            }
            Fetching::Held(volume, hold) => return Err(held(&volume, &hold)),
            Fetching::Waiting(waiting) => waiting,
        };
        progress.picture(|| waits_for(&waiting));
        if Instant::now() >= until {
            return Err(late(&waiting, limit));
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            () = sleep(LOOK) => {}
            _ = interrupt.recv() => {
                let message = format!("interrupted: it {}", waits_for(&waiting));
                let hint = "what has arrived stays, and the next fetch goes on from there";
                return Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message)
                    .hint(hint));
            }
        }
    }
}

fn waits_for(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Source => "waits for the source".to_owned(),
        Waiting::Release(volume) => format!("waits for a first release of {volume}"),
        Waiting::Steps(volume) => format!("waits for the live release of {volume}"),
    }
}

fn held(volume: &VolumeName, hold: &Hold) -> CommandError {
    let (seq, by, why) = (
        hold.seq,
        Printable(hold.by.as_str()),
        Printable(hold.why.as_str()),
    );
    let message = format!("this node is held on {seq} of volume `{volume}` by {by}: {why}");
    CommandError::refused("held", message)
        .hint("`codevol agent` here, and then `codevol thaw`, lets it go with the others again")
}

fn late(waiting: &Waiting, limit: Duration) -> CommandError {
    let limit = duration_text(limit);
    let (message, hint) = match waiting {
        Waiting::Source => (
            format!("the source was not reached within {limit}"),
            "is it running, and does UDP to its address and port get through? `codevol doctor --net` looks",
        ),
        Waiting::Release(volume) => (
            format!("no release of volume `{volume}` was live within {limit}"),
            "`codevol push` on the source publishes one",
        ),
        Waiting::Steps(volume) => (
            format!("the live release of volume `{volume}` did not stand here within {limit}"),
            "`codevol status` on the source says how far it is; `-v` here shows each step",
        ),
    };
    CommandError::unreachable(message).hint(hint)
}

fn told(fetched: &Fetched) -> VolumeFetched {
    let status = &fetched.status;
    let node = status.nodes.first();
    let release = node.and_then(|node| node.release);
    let of_live = status.release.as_ref();
    let of_live = of_live.filter(|shown| Some(shown.seq) == release);
    VolumeFetched {
        name: status.name.clone(),
        release,
        live: status.live,
        id: of_live.map(|shown| shown.id),
        state: fetched.state(),
        evidence: node.and_then(|node| node.evidence),
        error: fetched.failure.as_ref().map(|(step, failure)| {
            let what = Printable(failure.message.as_str());
            format!("{step}: {what}")
        }),
    }
}

fn exit_of(volumes: &[VolumeFetched]) -> ExitStatus {
    let any = |holds: fn(&VolumeFetched) -> bool| volumes.iter().any(holds);
    if any(|volume| volume.release != volume.live || volume.state == NodeState::Failed) {
        ExitStatus::Failed
    } else if any(|volume| volume.state != NodeState::Live) {
        ExitStatus::Partial
    } else {
        ExitStatus::Done
    }
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = duration(text).map_err(|error| error.to_string())?;
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&limit) {
        return Ok(limit);
    }
    let (min, max) = (duration_text(TIMEOUT_MIN), duration_text(TIMEOUT_MAX));
    Err(format!("it may take {min} to {max}"))
}
