//! `codevol audit`: whether this machine's journal is what its daemon wrote.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use codevol_store::journal::{Found, JournalError};
use codevol_store::state_dir;
use serde::Serialize;

use crate::commands::Context;
use crate::config::Config;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::audit;

/// The arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check that each line of this machine's journal is as it was written, and name the first that
    /// is not
    Verify,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    journal: PathBuf,
    files: Option<u64>,
    lines: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    cut_bytes: Option<u64>,
    bad: Option<Bad>,
}

#[derive(Serialize)]
struct Bad {
    file: String,
    line: u64,
    why: &'static str,
}

/// Checks the journal in the state folder; the daemon may run or not.
///
/// # Errors
/// The journal cannot be read, or a line of it is damaged.
pub fn run(args: &AuditArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let Action::Verify = args.action;
    let loaded = context.load(None)?;
    let state = match &loaded.config {
        Config::Source(config) => &config.state_dir,
        Config::Agent(config) => &config.state_dir,
        Config::Operator(_) => {
            let path = loaded.path.display();
            return Err(CommandError::config(format!(
                "`{path}` describes an operator's machine, which keeps no journal"
            ))
            .hint("run this on a host of the fleet, or name its configuration with `-C FILE`"));
        }
    };
    let journal = state_dir::journal_path(state);
    match read(state, &journal) {
        Ok(found) => {
            if context.printer.is_json() {
                context
                    .printer
                    .json(&document(journal, Some(found), None))?;
            } else {
                context.printer.line(audit::render(&found))?;
            }
            Ok(ExitStatus::Done)
        }
        Err(Failed::Damaged(bad)) if context.printer.is_json() => {
            context.printer.json(&document(journal, None, Some(bad)))?;
            Ok(ExitStatus::Failed)
        }
        Err(Failed::Damaged(bad)) => {
            let (file, line) = (journal.join(&bad.file), bad.line);
            let message = format!(
                "line {line} of `{}` is damaged: {}",
                file.display(),
                bad.why
            );
            Err(CommandError::failed(message)
                .hint("the lines before it are as they were written; those after it prove nothing"))
        }
        Err(Failed::Unread(error)) => Err(error),
    }
}

enum Failed {
    Damaged(Bad),
    Unread(CommandError),
}

fn read(state: &Path, journal: &Path) -> Result<Found, Failed> {
    let unread = |error: &JournalError| {
        let message = format!("cannot read the journal in `{}`", journal.display());
        if matches!(error, JournalError::Dir(error) if error.is_permission_denied()) {
            return CommandError::not_permitted(message)
                .because(error)
                .hint("run it as the user that runs the daemon, or with `sudo`");
        }
        CommandError::failed(message).because(error)
    };
    let opened = state_dir::open_journal(state).map_err(JournalError::from);
    let reader = match opened {
        Ok(Some(reader)) => reader,
        Ok(None) => {
            let message = format!("there is no journal in `{}`", journal.display());
            let hint = "the daemon begins it when it is started first";
            return Err(Failed::Unread(CommandError::failed(message).hint(hint)));
        }
        Err(error) => return Err(Failed::Unread(unread(&error))),
    };
    reader.read(drop).map_err(|error| match error {
        JournalError::Bad(bad) => Failed::Damaged(Bad {
            file: bad.file,
            line: bad.line,
            why: bad.why,
        }),
        error @ (JournalError::Dir(_) | JournalError::Encode(_)) => Failed::Unread(unread(&error)),
    })
}

fn document(journal: PathBuf, found: Option<Found>, bad: Option<Bad>) -> Document {
    Document {
        schema: "codevol.audit/1",
        journal,
        files: found.map(|found| found.files),
        lines: found.map(|found| found.lines),
        first: found.and_then(|found| found.first),
        last: found.and_then(|found| found.last),
        cut_bytes: found.map(|found| found.cut_bytes),
        bad,
    }
}
