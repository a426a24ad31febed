//! `codevol ignored`: what is left out of the tree, and by which rule.

use std::path::PathBuf;

use codevol_protocol::call::{Call, IgnoredPath, Reply};
use codevol_protocol::name::{Printable, VolumeName};
use serde::Serialize;

use crate::commands::Context;
use crate::commands::push::paths;
use crate::config::Config;
use crate::control::SCAN_TIMEOUT;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::ignored;

/// The arguments of `ignored`.
#[derive(Debug, clap::Args)]
pub struct IgnoredArgs {
    /// Say which rule decides about this path, whether it is left out or not
    #[arg(long, value_name = "PATH")]
    pub why: Option<PathBuf>,
    /// The volume, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    paths: &'a [IgnoredPath],
}

/// Lists what is left out, or explains one path.
///
/// # Errors
/// The source does not run, or the path lies outside of the tree.
pub fn run(args: &IgnoredArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let (control, loaded) = context.source_and_configuration()?;
    let asked: Vec<PathBuf> = args.why.iter().cloned().collect();
    let mut is_absent = false;
    let (volume, below) = match loaded.map(|loaded| loaded.config) {
        Some(Config::Source(config)) => {
            is_absent = asked.iter().any(|path| path.symlink_metadata().is_err());
            let trees = paths::trees(&config, args.volume.as_ref())?;
            paths::below_one(&trees, args.volume.as_ref(), &asked)?
        }
        // The tree lies elsewhere: a path is one of the tree, as it is written.
        _ => (args.volume.clone(), paths::of_tree(&asked)?),
    };
    let written = args.why.as_ref().and_then(|path| path.to_str());
    let slash = match written {
        // Rules may be for directories only: a path that is to be one says so.
        Some(path) if path.ends_with('/') => "/",
        Some(_) | None => "",
    };
    let why = below.first().map(|path| format!("{path}{slash}"));
    let progress = context.printer.progress("looking at the tree");
    let reply = control.ask_within(&Call::Ignored { volume, why }, SCAN_TIMEOUT)?;
    drop(progress);
    let Reply::Ignored(paths) = reply else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.ignored/1",
            paths: &paths,
        })?;
    } else if args.why.is_some() {
        context.printer.line(ignored::verdicts(&paths))?;
        if let Some(path) = args.why.as_deref().filter(|_| is_absent) {
            let path = Printable(&path.to_string_lossy()).to_string();
            context
                .printer
                .note(format_args!("there is no `{path}` in the tree now"));
        }
    } else {
        context.printer.line(ignored::render(&paths))?;
    }
    Ok(ExitStatus::Done)
}
