//! `codevol init --restore`: a state folder that was put back from a backup becomes a source's again.

use std::path::Path;

use codevol_protocol::name::VolumeName;
use codevol_protocol::release::Seq;
use codevol_source::config::SourceConfig;
use codevol_source::restore::{self, RestoreError, Restored};
use serde::Serialize;

use super::InitArgs;
use crate::commands::Context;
use crate::config::{Config, Role};
use crate::error::CommandError;
use crate::exit::ExitStatus;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    file: String,
    members: usize,
    volumes: Vec<Volume<'a>>,
}

#[derive(Serialize)]
struct Volume<'a> {
    name: &'a VolumeName,
    head: Option<Seq>,
}

/// Restores with a configuration that is there, as one that came out of the same backup.
pub(super) fn with_file(
    args: &InitArgs,
    file: &Path,
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    let says = [
        ("--volume", args.volume.is_some()),
        ("--listen", args.listen.is_some()),
        ("--advertise", args.advertise.is_some()),
        ("--state-dir", args.state_dir.is_some()),
    ];
    let shown = file.display();
    if let Some((option, _)) = says.iter().find(|(_, is_said)| *is_said) {
        let message = format!("`{shown}` exists and says what `{option}` would");
        return Err(CommandError::usage(message).hint("edit that file, or name another with `-C`"));
    }
    let loaded = context.load(Some(Role::Source))?;
    let Config::Source(source) = &loaded.config else {
        return Err(CommandError::usage("this is done on the source's host"));
    };
    let tree = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
    let is_it = |path: &Path| path == tree || path.canonicalize().is_ok_and(|path| path == tree);
    if !source.volumes.iter().any(|volume| is_it(&volume.path)) {
        let message = format!("`{}` is no volume of `{shown}`", args.dir.display());
        return Err(
            CommandError::usage(message).hint("name the folder that stands there as `path`")
        );
    }
    report(file, &freeze(source)?, context)
}

/// Freezes what was put back.
pub(super) fn freeze(source: &SourceConfig) -> Result<Restored, CommandError> {
    let volumes = source.volumes.iter().map(|volume| &volume.name);
    restore::freeze(&source.state_dir, volumes).map_err(|error| {
        let dir = source.state_dir.display();
        let message = format!("cannot use the state folder `{dir}`");
        let hint = match &error {
            RestoreError::Identity(_) => {
                "unpack the backup there first, with its owner and its modes"
            }
            RestoreError::StateDir(_) => "stop the source that runs on it, if one does",
            RestoreError::History(_) | RestoreError::State(_) => {
                "is the copy whole? try an older one"
            }
        };
        CommandError::environment(message)
            .because(&error)
            .hint(hint)
    })
}

pub(super) fn report(
    file: &Path,
    restored: &Restored,
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    if context.printer.is_json() {
        let volumes = restored.volumes.iter();
        context.printer.json(&Document {
            schema: "codevol.restore/1",
            file: file.display().to_string(),
            members: restored.members,
            volumes: volumes
                .map(|(name, head)| Volume { name, head: *head })
                .collect(),
        })?;
        return Ok(ExitStatus::Done);
    }
    let printer = &context.printer;
    printer.line(format_args!(
        "Restored  a fleet of {} members",
        restored.members
    ))?;
    for (name, head) in &restored.volumes {
        let head = head.map_or_else(|| "no release".to_owned(), |head| head.to_string());
        printer.line(format_args!(
            "Frozen    {name}, at {head} by this backup; servers may know newer ones"
        ))?;
    }
    let file = file.display();
    printer.line("")?;
    printer.line(format_args!("Next:  codevol -C {file} source"))?;
    printer.line(format_args!(
        "then:  codevol -C {file} status, until every server was heard"
    ))?;
    printer.line(format_args!(
        "then:  codevol -C {file} thaw: what stands in the tree goes live"
    ))?;
    Ok(ExitStatus::Done)
}
