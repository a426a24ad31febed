//! The command line of codevol: reads arguments and configuration, runs one command, prints what
//! came of it and turns it into an exit status. Each command is a module of [`commands`]; only
//! [`output`] writes to the terminal.

pub mod args;
pub mod commands;
pub mod config;
pub mod control;
mod daemon;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod membership;
pub mod output;
pub mod remote;
pub mod screens;
pub mod sealed;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Args;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::{Level, Printer};

/// Runs the command that the arguments name, the program's own name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = match Args::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(error) => return not_run(&error, &args),
    };
    let printer = Printer::new(parsed.global.json, parsed.global.level());
    match commands::dispatch(parsed, printer) {
        Ok(status) => status.into(),
        Err(error) => {
            printer.error(&error);
            error.exit.into()
        }
    }
}

/// Ends without a command: help and version were asked for, anything else is wrong usage.
fn not_run(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let json = args
        .iter()
        .take_while(|arg| *arg != OsStr::new("--"))
        .any(|arg| arg == OsStr::new("--json"));
    if asked || !json {
        // A reader that has gone away is no reason to fail.
        let printed = error.print();
        let status = if asked {
            ExitStatus::Done
        } else {
            ExitStatus::Usage
        };
        return printed.map_or(ExitStatus::Failed, |()| status).into();
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let message = paragraph.strip_prefix("error: ").unwrap_or(&paragraph);
    let missing = matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    );
    let message = if missing {
        "no command was given"
    } else {
        message
    };
    let error = CommandError::usage(message).hint("`codevol --help` lists the commands");
    Printer::new(true, Level::Normal).error(&error);
    error.exit.into()
}
