//! The one place that prints. Data goes to standard output; progress, notes, warnings and errors
//! go to standard error. Colour only repeats what the words say, and is left out where `NO_COLOR`
//! is set or no terminal listens. Remote strings come through [`Printable`] before they get here.

mod ask;
pub mod live;
pub mod progress;
pub mod table;
pub mod units;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use codevol_protocol::name::Printable;
use serde::Serialize;

use crate::error::CommandError;
use crate::output::live::Live;
use crate::output::progress::Progress;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// How much is said besides the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Data and errors.
    Quiet,
    /// Also progress, notes and warnings.
    Normal,
    /// Also details.
    Verbose,
}

/// Prints what a command found, for a person or for a script.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    json: bool,
    level: Level,
}

impl Printer {
    /// Returns a printer of JSON, or of screens.
    #[must_use]
    pub const fn new(json: bool, level: Level) -> Self {
        Self { json, level }
    }

    /// Whether a script listens: the command prints documents in place of screens.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether details were asked for.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.level == Level::Verbose
    }

    /// Prints one or more lines of data.
    ///
    /// # Errors
    /// Standard output cannot be written. A reader that has gone away is no error.
    pub fn line(&self, text: impl Display) -> Result<(), CommandError> {
        written(writeln!(anstream::stdout().lock(), "{text}"))
    }

    /// Prints as [`Self::line`], and says whether anybody still reads: what goes on until it is told to
    /// stop has to know.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn line_to_reader(&self, text: impl Display) -> Result<bool, CommandError> {
        match writeln!(anstream::stdout().lock(), "{text}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            printed => written(printed).map(|()| true),
        }
    }

    /// Returns what redraws a screen on standard output; nothing where no person looks at a terminal.
    #[must_use]
    pub fn live(&self) -> Option<Live> {
        (!self.json && io::stdout().is_terminal()).then(Live::default)
    }

    /// Prints one JSON document, or one event, on a line of its own.
    ///
    /// # Errors
    /// Standard output cannot be written. A reader that has gone away is no error.
    pub fn json(&self, document: &impl Serialize) -> Result<(), CommandError> {
        self.line(to_text(document)?)
    }

    /// Prints as [`Self::json`], and says whether anybody still reads.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn json_to_reader(&self, document: &impl Serialize) -> Result<bool, CommandError> {
        self.line_to_reader(to_text(document)?)
    }

    /// Says something in passing, to a person only.
    pub fn note(&self, text: impl Display) {
        if !self.json && self.level >= Level::Normal {
            self.say(text);
        }
    }

    /// Says a detail, where details were asked for.
    pub fn detail(&self, text: impl Display) {
        if self.is_verbose() {
            self.say(text);
        }
    }

    /// Warns of something that does not stop the command.
    pub fn warning(&self, text: impl Display) {
        if self.level >= Level::Normal {
            let text = text.to_string();
            self.say(format_args!(
                "{WARNING}warning{WARNING:#}: {}",
                Printable(&text)
            ));
        }
    }

    /// Reports why the command failed: to a person on standard error, to a script as a document on
    /// standard output.
    pub fn error(&self, error: &CommandError) {
        let reported = self.json && self.json(&error.document()).is_ok();
        if !reported {
            let mut stderr = anstream::stderr().lock();
            ignored(write!(stderr, "{}", error.render()));
        }
    }

    /// Shows that something is going on, until the value is dropped.
    #[must_use]
    pub fn progress(&self, what: impl Into<String>) -> Progress {
        let shown = !self.json && self.level >= Level::Normal;
        Progress::new(what.into(), shown)
    }

    /// Whether a person is there to be asked.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a person to agree. `yes` is the answer given beforehand by `--yes`.
    ///
    /// # Errors
    /// The person said no or interrupted, or nobody can be asked: there is no terminal, or a script listens.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), CommandError> {
        if yes {
            return Ok(());
        }
        if !self.can_ask() {
            return Err(
                CommandError::usage(format!("nobody can answer: {question}"))
                    .hint("say yes beforehand with `--yes`"),
            );
        }
        ignored(write!(
            anstream::stderr().lock(),
            "{} [y/N] ",
            Printable(question)
        ));
        let answer = ask::line().inspect_err(|_interrupted| ignored(writeln!(io::stderr())))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(CommandError::refused("declined", "nothing was done")),
        }
    }

    #[expect(clippy::unused_self, reason = "what prints is asked of the printer")]
    fn say(&self, text: impl Display) {
        ignored(writeln!(anstream::stderr().lock(), "{text}"));
    }
}

fn to_text(document: &impl Serialize) -> Result<String, CommandError> {
    serde_json::to_string(document)
        .map_err(|error| CommandError::failed("cannot print a document").because(&error))
}

/// A reader that has gone away wants no more: that is its right.
fn written(result: io::Result<()>) -> Result<(), CommandError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::failed("cannot write to standard output").because(&error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nobody can be told that standard error cannot be written.
fn ignored(result: io::Result<()>) {
    drop(result);
}
