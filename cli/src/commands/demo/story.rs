//! What the demo does, step by step, and what it says.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use codevol_protocol::release::Seq;
use codevol_protocol::status::{NodeState, VolumeStatus};
use tokio::signal::unix::{SignalKind, signal};

use super::DemoArgs;
use super::fleet::{AGENTS, Fleet, Folder};
use super::project::Project;
use super::servers::{free_ports, servers};
use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::units;

/// How often states are looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often a status is asked for.
pub(super) const ASK: Duration = Duration::from_millis(50);
/// How long one step may take, a cold start of three code servers on a busy host included.
const STEP_TIMEOUT: Duration = Duration::from_secs(180);
/// Tells the whole story; all processes end and the folder goes whatever happens.
pub(super) async fn tell(args: &DemoArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let failed =
        |error: std::io::Error| CommandError::failed("cannot handle signals").because(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let folder = Folder::make()?;
    let mut fleet = None;
    let told = tokio::select! {
        // Cancel-safe: what is dropped is only waiting; the processes are ended below.
        told = act(args, context, &folder, &mut fleet) => told,
        _ = interrupt.recv() => Ok(if args.once { ExitStatus::Interrupted } else { ExitStatus::Done }),
        _ = terminate.recv() => Ok(ExitStatus::Done),
    };
    if let Some(fleet) = fleet {
        fleet.stop().await;
    }
    told
}

/// Everyone who takes part.
pub(super) struct Cast<'a> {
    pub(super) context: &'a Context,
    pub(super) project: Project,
    pub(super) fleet: &'a Fleet,
    dagster: bool,
}

async fn act(
    args: &DemoArgs,
    context: &Context,
    folder: &Folder,
    slot: &mut Option<Fleet>,
) -> Result<ExitStatus, CommandError> {
    let tree = folder.0.join("tree");
    let project = match &args.dir {
        Some(dir) => Project::copy(dir, tree)?,
        None => Project::sample(tree)?,
    };
    let printer = &context.printer;
    printer.line("codevol demo: one source, three agents, real processes, QUIC on loopback")?;
    let servers = servers(&project, context)?;
    let ports = servers
        .as_ref()
        .map(|_| free_ports())
        .transpose()?
        .unwrap_or_default();
    let began = Instant::now();
    let progress = printer.progress("starting");
    let fleet = slot.insert(Fleet::start(&folder.0, &project, &ports).await?);
    if let Some((dagster, target)) = &servers {
        let there = async || Ok((1..=AGENTS).all(|n| fleet.root(n).join("current").exists()));
        within("the first release does not arrive", LOOK, there).await?;
        for (index, port) in ports.iter().enumerate() {
            fleet.code_server(dagster, target, (index + 1, *port))?;
        }
    }
    let cast = Cast {
        context,
        project,
        fleet,
        dagster: servers.is_some(),
    };
    let first = cast.live_at(|_| true).await?;
    drop(progress);
    cast.say(
        "start",
        &format!(
            "{} after {}",
            cast.live(&first),
            units::elapsed(began.elapsed())
        ),
    )?;
    cast.edit().await?;
    if args.breaks && cast.dagster {
        cast.break_code().await?;
    } else if args.breaks {
        cast.break_tree().await?;
    }
    if args.once {
        return Ok(ExitStatus::Done);
    }
    cast.follow().await
}

impl Cast<'_> {
    pub(super) fn say(&self, step: &str, what: &str) -> Result<(), CommandError> {
        self.context.printer.line(format_args!("{step:<8} {what}"))
    }

    pub(super) fn live(&self, status: &VolumeStatus) -> String {
        let live = status
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Live)
            .count();
        let seq = status.live.unwrap_or_default();
        let evidence = if self.dagster {
            " (proven: each code server serves it)"
        } else {
            ""
        };
        format!("{seq} live on {live} of {}{evidence}", status.nodes.len())
    }

    /// Waits until every node runs a release that is wanted, with evidence.
    pub(super) async fn live_at(
        &self,
        wanted: impl Fn(Seq) -> bool,
    ) -> Result<VolumeStatus, CommandError> {
        let mut last = None;
        within("the release does not go live", ASK, async || {
            let status = self.fleet.status().await?;
            let there = status.live.is_some_and(&wanted)
                && status.rollout.is_none()
                && status.nodes.len() == AGENTS
                && status
                    .nodes
                    .iter()
                    .all(|node| node.state == NodeState::Live && node.lag == 0);
            last = Some(status);
            Ok(there)
        })
        .await?;
        last.ok_or_else(|| CommandError::failed("nothing was heard of the source"))
    }

    fn links(&self) -> Vec<Option<PathBuf>> {
        (1..=AGENTS)
            .map(|number| fs::read_link(self.fleet.root(number).join("current")).ok())
            .collect()
    }

    pub(super) fn append(&self, file: &Path, line: &str) -> Result<(), CommandError> {
        let written = fs::OpenOptions::new()
            .append(true)
            .open(self.project.tree.join(file))
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| CommandError::failed("cannot edit the copy").because(&error))
    }

    async fn edit(&self) -> Result<(), CommandError> {
        let before = self.fleet.status().await?.live.unwrap_or_default();
        let links = self.links();
        let name = self.project.edited.display();
        let comment = if self.project.edited.extension().is_some_and(|e| e == "py") {
            "# edited by the demo\n"
        } else {
            "\n"
        };
        self.append(&self.project.edited, comment)?;
        let progress = self.context.printer.progress("edited");
        let began = Instant::now();
        within("the edit does not arrive", LOOK, async || {
            Ok(self.links().iter().zip(&links).all(|(now, old)| now != old))
        })
        .await?;
        let visible = began.elapsed();
        let status = self.live_at(|live| live > before).await?;
        drop(progress);
        self.say(
            "edit",
            &format!(
                "{name} saved: visible on {AGENTS} of {AGENTS} after {}",
                units::elapsed(visible)
            ),
        )?;
        self.say(
            "live",
            &format!(
                "{} after {}",
                self.live(&status),
                units::elapsed(began.elapsed())
            ),
        )
    }

    /// Follows edits by hand until Ctrl-C.
    async fn follow(&self) -> Result<ExitStatus, CommandError> {
        let tree = self.project.tree.display();
        self.say("now you", &format!("edit {tree} and watch; Ctrl-C ends"))?;
        let mut shown = String::new();
        loop {
            let status = self.fleet.status().await?;
            let mut line = self.live(&status);
            if let Some(rollout) = &status.rollout {
                line = format!("{line}; {} is rolled out", rollout.release);
            }
            if let Some(broken) = status.quarantined.last() {
                line = format!("{line}; {} is broken: {}", broken.release, broken.message);
            }
            if line != shown {
                self.say("", &line)?;
                shown = line;
            }
            tokio::time::sleep(ASK).await;
        }
    }
}

/// Waits for a state, and says what did not happen when it does not come.
pub(super) async fn within(
    what: &str,
    every: Duration,
    mut reached: impl AsyncFnMut() -> Result<bool, CommandError>,
) -> Result<(), CommandError> {
    let end = Instant::now() + STEP_TIMEOUT;
    while !reached().await? {
        if Instant::now() > end {
            return Err(CommandError::failed(format!(
                "{what} within {}",
                units::elapsed(STEP_TIMEOUT)
            )));
        }
        tokio::time::sleep(every).await;
    }
    Ok(())
}
