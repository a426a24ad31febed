//! One module a command. Each has its arguments and `run(args, context)`, which prints through the
//! context's printer and returns the exit status, or the one error that is reported.

pub mod adopt;
pub mod agent;
pub mod audit;
pub mod completions;
pub mod config;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod fetch;
pub mod freeze;
pub mod gc;
pub mod health;
pub mod ignored;
pub mod init;
pub mod invite;
pub mod join;
pub mod log;
pub mod node;
pub mod ping;
pub mod push;
pub mod retry;
pub mod rollback;
pub mod seal;
pub mod source;
pub mod status;
pub mod thaw;
pub mod verify;
pub mod version;

use std::path::PathBuf;

use codevol_protocol::call::{Call, Reply};
use serde::Serialize;

use crate::args::{Args, Command};
use crate::config::{Config, Environment, Loaded, Role};
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::Printer;
use crate::remote::Remote;

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// Where to print.
    pub printer: Printer,
    /// The configuration file that was named by `-C`.
    pub config: Option<PathBuf>,
}

impl Context {
    /// Loads the configuration, of that role where one is given, and prints its warnings.
    ///
    /// # Errors
    /// The configuration is missing or has faults.
    pub fn load(&self, role: Option<Role>) -> Result<Loaded, CommandError> {
        self.load_one_of(role.as_slice())
    }

    /// Loads the configuration of one of these roles, of any where none is named, and prints its
    /// warnings.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_one_of(&self, roles: &[Role]) -> Result<Loaded, CommandError> {
        let loaded = Config::load(self.config.as_deref(), roles)?;
        for warning in &loaded.warnings {
            self.printer.warning(warning);
        }
        let path = loaded.path.display();
        self.printer.detail(format_args!("configuration {path}"));
        Ok(loaded)
    }

    /// Returns the source, to be asked: by its control socket on its own host, else as the member of
    /// the fleet that this machine is.
    ///
    /// # Errors
    /// This machine is neither, or its configuration or key cannot be used.
    pub fn source(&self) -> Result<Control, CommandError> {
        Ok(self.source_and_configuration()?.0)
    }

    /// As [`Self::source`], with the configuration that says so, where it is one.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn source_and_configuration(&self) -> Result<(Control, Option<Loaded>), CommandError> {
        if let Some(remote) = self.member()? {
            return Ok((Control::of_member(remote), None));
        }
        let loaded = self.load_one_of(&[Role::Source, Role::Operator])?;
        Ok((Control::new(&loaded)?, Some(loaded)))
    }

    /// Returns this machine's daemon, or, where the machine is an operator's, the source.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn daemon(&self) -> Result<Control, CommandError> {
        Ok(self.daemon_and_configuration()?.0)
    }

    /// As [`Self::daemon`], with the configuration that says so, where it is one.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn daemon_and_configuration(&self) -> Result<(Control, Option<Loaded>), CommandError> {
        if let Some(remote) = self.member()? {
            return Ok((Control::of_member(remote), None));
        }
        let loaded = self.load(None)?;
        Ok((Control::new(&loaded)?, Some(loaded)))
    }

    /// Returns how the source is reached, where the environment alone says it.
    ///
    /// # Errors
    /// It says only a part of it, or the key cannot be used.
    pub fn member(&self) -> Result<Option<Remote>, CommandError> {
        let environment = Environment::of_process();
        if self.config.is_some() || environment.names_file() {
            return Ok(None);
        }
        Remote::of_environment(&environment)
    }
}

/// Runs the command.
///
/// # Errors
/// The command failed.
pub fn dispatch(args: Args, printer: Printer) -> Result<ExitStatus, CommandError> {
    let context = Context {
        printer,
        config: args.global.config,
    };
    match args.command {
        Command::Adopt(args) => adopt::run(&args, &context),
        Command::Agent(args) => agent::run(&args, &context),
        Command::Audit(args) => audit::run(&args, &context),
        Command::Init(args) => init::run(&args, &context),
        Command::Join(args) => join::run(&args, &context),
        Command::Seal(args) => seal::run(&args, &context),
        Command::Source(args) => source::run(&args, &context),
        Command::Config(args) => config::run(&args, &context),
        Command::Demo(args) => demo::run(&args, &context),
        Command::Completions(args) => completions::run(&args, &context),
        Command::Diff(args) => diff::run(&args, &context),
        Command::Doctor(args) => doctor::run(&args, &context),
        Command::Fetch(args) => fetch::run(&args, &context),
        Command::Freeze(args) => freeze::run(&args, &context),
        Command::Gc(args) => gc::run(&args, &context),
        Command::Health(args) => health::run(&args, &context),
        Command::Ignored(args) => ignored::run(&args, &context),
        Command::Invite(args) => invite::run(&args, &context),
        Command::Log(args) => log::run(&args, &context),
        Command::Node(args) => node::run(&args, &context),
        Command::Ping(args) => ping::run(&args, &context),
        Command::Plan(args) => push::run_plan(&args, &context),
        Command::Push(args) => push::run(&args, &context),
        Command::Retry(args) => retry::run(&args, &context),
        Command::Rollback(args) => rollback::run(&args, &context),
        Command::Status(args) => status::run(&args, &context),
        Command::Thaw(args) => thaw::run(&args, &context),
        Command::Verify(args) => verify::run(&args, &context),
        Command::Version(args) => version::run(&args, &context),
    }
}

#[derive(Serialize)]
struct DoneDocument<'a> {
    schema: &'static str,
    message: &'a str,
}

/// Makes a call whose only answer is that it is done, in a sentence.
fn done(control: &Control, call: &Call, context: &Context) -> Result<ExitStatus, CommandError> {
    let Reply::Done(message) = control.ask(call)? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&DoneDocument {
            schema: "codevol.done/1",
            message: message.as_str(),
        })?;
    } else {
        context.printer.line(message)?;
    }
    Ok(ExitStatus::Done)
}

/// Makes the runtime that a command or a daemon runs on, with so many threads; else as many as there
/// are cores.
///
/// # Errors
/// The system gives no threads.
pub(crate) fn runtime(workers: Option<usize>) -> Result<tokio::runtime::Runtime, CommandError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed("cannot start").because(&error))
}
