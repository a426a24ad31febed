//! `codevol adopt`, and `join --adopt`: what people have used until now becomes an agent's baseline, r0.
//! It is copied; what stands there stays as it is.

use std::path::Path;

use codevol_agent::config::{AgentConfig, VolumeConfig};
use codevol_agent::identity::Identity;
use codevol_agent::volume::{AdoptError, Adopted, Baseline, Root, RootError};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::{Printable, Text, VolumeName};
use codevol_store::state_dir::{StateDir, StateDirError};
use serde::Serialize;

use crate::commands::Context;
use crate::config::{Config, Role};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::units;
use crate::screens;

/// How many paths that are left out, or are open to more users, are named.
const NAMED_MAX: usize = 20;

/// The arguments of `adopt`.
#[derive(Debug, clap::Args)]
pub struct AdoptArgs {
    /// The volume, where the agent has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    volume: &'a VolumeName,
    release: ReleaseId,
    files: usize,
    bytes: u64,
    skipped: Vec<Skipped<'a>>,
    opened: &'a [String],
}

#[derive(Serialize)]
struct Skipped<'a> {
    path: &'a str,
    why: &'a str,
}

/// Adopts what stands on the volume.
///
/// # Errors
/// The agent runs, or nothing can be adopted.
pub fn run(args: &AdoptArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(Some(Role::Agent))?;
    let Config::Agent(agent) = &loaded.config else {
        return Err(CommandError::usage("this is done on an agent's host"));
    };
    let named = |volume: &&VolumeConfig| args.volume.as_ref().is_none_or(|n| *n == volume.name);
    let mut volumes = agent.volumes.iter().filter(named);
    let (Some(volume), None) = (volumes.next(), volumes.next()) else {
        return Err(CommandError::usage(
            "say which volume is meant, with `--volume NAME`",
        ));
    };
    may_adopt(&volume.root)?;
    let progress = context.printer.progress("copying");
    let adopted = adopt(agent, volume)?;
    drop(progress);
    warn_of(&adopted, context);
    if context.printer.is_json() {
        let skipped = adopted.skipped.iter();
        context.printer.json(&Document {
            schema: "codevol.adopt/1",
            volume: &volume.name,
            release: adopted.release,
            files: adopted.files,
            bytes: adopted.bytes,
            skipped: skipped.map(|(path, why)| Skipped { path, why }).collect(),
            opened: &adopted.opened,
        })?;
    } else {
        report(&adopted, volume, context)?;
    }
    Ok(ExitStatus::Done)
}

/// Says no where codevol's own names are taken by something of the tree.
pub(super) fn may_adopt(root: &Path) -> Result<(), CommandError> {
    let taken = ["current", "releases"].into_iter().find(|name| {
        let there = root.join(name).symlink_metadata().is_ok();
        there && root.join(".codevol").symlink_metadata().is_err()
    });
    let Some(name) = taken else { return Ok(()) };
    let path = root.join(name);
    let message = format!("the tree has a `{}` of its own", path.display());
    Err(CommandError::refused("exists", message).hint(
        "codevol needs that name: give the volume a root beside the tree, as `/srv/pipes.codevol`",
    ))
}

/// Copies what stands in the root into r0. The agent must not run.
pub(super) fn adopt(agent: &AgentConfig, volume: &VolumeConfig) -> Result<Adopted, CommandError> {
    // Held as the daemon holds it.
    let _state = StateDir::open(&agent.state_dir).map_err(|error| in_use(&error))?;
    let identity = Identity::open(&agent.state_dir).map_err(|error| {
        CommandError::environment("this agent is no member yet")
            .because(&error)
            .hint("`codevol join TOKEN --root DIR --adopt` enrols it, and adopts")
    })?;
    let opened = Root::open(&volume.root, &agent.state_dir, &volume.name, volume.keep);
    let (mut root, _) = opened.map_err(|error| match error {
        RootError::InUse { .. } => running().because(&error),
        error => CommandError::environment("the volume's root cannot be used").because(&error),
    })?;
    let enrolment = identity.enrolment.get();
    let baseline = Baseline {
        fleet: enrolment.fleet,
        volume: volume.name.clone(),
        author: Text::cut(enrolment.node.as_str()),
        host: Text::cut(rustix::system::uname().nodename().to_string_lossy()),
        key: &identity.node,
    };
    root.adopt(baseline, screens::now()).map_err(|error| {
        let path = volume.root.display();
        let message = format!("what stands in `{path}` was not adopted");
        match error {
            AdoptError::Begun => CommandError::refused("exists", message)
                .because(&error)
                .hint("a baseline is what stood there before the first release: there is one"),
            AdoptError::Empty => CommandError::refused("empty", message).because(&error),
            error => CommandError::failed(message)
                .because(&error)
                .hint("nothing there was changed; `codevol adopt` tries again"),
        }
    })
}

fn in_use(error: &StateDirError) -> CommandError {
    if error.is_locked() {
        running().because(error)
    } else {
        CommandError::environment("the state folder cannot be used").because(error)
    }
}

fn running() -> CommandError {
    CommandError::refused("running", "the agent runs, and holds the volume")
        .hint("stop it, adopt, and start it again")
}

/// Warns of what people may not expect of it.
pub(super) fn warn_of(adopted: &Adopted, context: &Context) {
    let skipped = adopted.skipped.iter();
    let skipped = skipped.map(|(path, why)| format!("`{}` is not in r0: {why}", Printable(path)));
    warn(skipped, "are not in r0", context);
    let opened = adopted.opened.iter();
    let opened = opened.map(|path| {
        let path = Printable(path);
        format!("`{path}` was not for everybody, and its copy in r0 can be read by every user of this host")
    });
    warn(opened, "were not for everybody, and are in r0", context);
}

/// Tells what was adopted, and how Dagster comes to read it.
pub(super) fn report(
    adopted: &Adopted,
    volume: &VolumeConfig,
    context: &Context,
) -> Result<(), CommandError> {
    let (root, size) = (volume.root.display(), units::bytes(adopted.bytes));
    let files = units::count(adopted.files, "file", "files");
    context.printer.line(format_args!(
        "Adopted  {files} ({size}) as r0, a copy: what stands in {root} stays as it is"
    ))?;
    context.printer.line(format_args!(
        "Dagster  goes on with {root} itself until it is started with `-d {root}/current`: only there it sees releases, and r0 where it must go back"
    ))
}

/// Warns of each path, as far as they are not too many.
fn warn(mut paths: impl ExactSizeIterator<Item = String>, what: &str, context: &Context) {
    for path in paths.by_ref().take(NAMED_MAX) {
        context.printer.warning(path);
    }
    if paths.len() > 0 {
        let more = units::count(paths.len(), "more path", "more paths");
        context.printer.warning(format!("{more} {what}"));
    }
}
