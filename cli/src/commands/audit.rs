//! `codevol audit`: whether a journal is what its daemon wrote: this machine's, or, from an operator's,
//! the source's.

use std::path::Path;

use clap::Subcommand;
use codevol_protocol::audit::{Audit, Audited, DamagedLine};
use codevol_protocol::call::{Call, Reply};
use codevol_protocol::name::Text;
use codevol_store::journal::JournalError;
use codevol_store::state_dir;
use serde::Serialize;

use crate::commands::Context;
use crate::config::Config;
use crate::control::Control;
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
    /// is not; from an operator's machine, the source's
    Verify,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    journal: &'a Text,
    files: Option<u64>,
    lines: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    cut_bytes: Option<u64>,
    bad: Option<&'a DamagedLine>,
}

/// Checks the journal in the state folder, whether its daemon runs or not; on a machine that has none,
/// the source's, by asking it.
///
/// # Errors
/// The journal cannot be read, or a line of it is damaged; the source cannot be asked.
pub fn run(args: &AuditArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let Action::Verify = args.action;
    let (control, loaded) = context.daemon_and_configuration()?;
    let audit = match loaded.as_ref().map(|loaded| &loaded.config) {
        Some(Config::Source(config)) => read(&config.state_dir)?,
        Some(Config::Agent(config)) => read(&config.state_dir)?,
        Some(Config::Operator(_)) | None => ask(&control)?,
    };
    if context.printer.is_json() {
        context.printer.json(&document(&audit))?;
        return Ok(match audit.found {
            Audited::Whole(_) => ExitStatus::Done,
            Audited::Damaged(_) => ExitStatus::Failed,
        });
    }
    match &audit.found {
        Audited::Whole(whole) => {
            context.printer.line(audit::render(whole))?;
            Ok(ExitStatus::Done)
        }
        Audited::Damaged(bad) => {
            let (line, journal) = (bad.line, &audit.journal);
            let message = format!(
                "line {line} of `{journal}/{}` is damaged: {}",
                bad.file, bad.why
            );
            Err(CommandError::failed(message)
                .hint("the lines before it are as they were written; those after it prove nothing"))
        }
    }
}

/// Asks the source, which reads all of its journal.
fn ask(control: &Control) -> Result<Audit, CommandError> {
    match control.ask(&Call::Audit)? {
        Reply::Audited(audit) => Ok(*audit),
        _ => Err(control.unexpected()),
    }
}

/// Reads this machine's own.
fn read(state: &Path) -> Result<Audit, CommandError> {
    let journal = state_dir::journal_path(state);
    let shown = journal.display();
    let reader = state_dir::open_journal(state).map_err(|error| unread(&journal, &error.into()))?;
    let reader = reader.ok_or_else(|| {
        CommandError::failed(format!("there is no journal in `{shown}`"))
            .hint("the daemon begins it when it is started first")
    })?;
    let audit = reader.audit(&journal);
    audit.map_err(|error| unread(&journal, &error))
}

fn unread(journal: &Path, error: &JournalError) -> CommandError {
    let message = format!("cannot read the journal in `{}`", journal.display());
    if matches!(error, JournalError::Dir(error) if error.is_permission_denied()) {
        return CommandError::not_permitted(message)
            .because(error)
            .hint("run it as the user that runs the daemon, or with `sudo`");
    }
    CommandError::failed(message).because(error)
}

fn document(audit: &Audit) -> Document<'_> {
    let (whole, bad) = match &audit.found {
        Audited::Whole(whole) => (Some(whole), None),
        Audited::Damaged(bad) => (None, Some(bad)),
    };
    Document {
        schema: "codevol.audit/1",
        journal: &audit.journal,
        files: whole.map(|whole| whole.files),
        lines: whole.map(|whole| whole.lines),
        first: whole.and_then(|whole| whole.first),
        last: whole.and_then(|whole| whole.last),
        cut_bytes: whole.map(|whole| whole.cut_bytes),
        bad,
    }
}
