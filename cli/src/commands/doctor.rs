//! `codevol doctor`: looks at this machine, and says what mends what is not as it must be.

use serde::Serialize;

use crate::commands::{Context, runtime};
use crate::config::{Config, Loaded};
use crate::doctor::{self, Check, State};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::doctor as screen;

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Dial the source as well: a handshake, by a key that is made up for it
    #[arg(long)]
    pub net: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    file: Option<String>,
    role: Option<&'static str>,
    net: bool,
    wrong: usize,
    warnings: usize,
    checks: &'a [Check],
}

/// Looks at everything, and exits with 1 where something is wrong.
///
/// # Errors
/// There is no configuration.
pub fn run(args: &DoctorArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let (loaded, checks) = match Config::load(context.config.as_deref(), &[]) {
        Ok(loaded) => {
            let progress = context.printer.progress("looking at this machine");
            let checks = runtime(None)?.block_on(doctor::examine(&loaded, args.net));
            drop(progress);
            (Some(loaded), checks)
        }
        // What it says must be known before anything of it can be looked at.
        Err(error) if error.is_of_file() => (None, vec![faulty(error)]),
        Err(error) => return Err(error),
    };
    report(args, context, loaded.as_ref(), &checks)?;
    let is_wrong = checks.iter().any(|check| check.state == State::Wrong);
    Ok(if is_wrong {
        ExitStatus::Failed
    } else {
        ExitStatus::Done
    })
}

fn faulty(error: CommandError) -> Check {
    let mut message = error.message;
    for cause in error.causes {
        message.push_str("; ");
        message.push_str(&cause);
    }
    Check::wrong("configuration", message).mend("`codevol config check` shows where each stands")
}

fn report(
    args: &DoctorArgs,
    context: &Context,
    loaded: Option<&Loaded>,
    checks: &[Check],
) -> Result<(), CommandError> {
    if !context.printer.is_json() {
        return context.printer.line(screen::render(checks));
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    context.printer.json(&Document {
        schema: "codevol.doctor/1",
        file: loaded.map(|loaded| loaded.path.display().to_string()),
        role: loaded.map(|loaded| loaded.config.role().as_str()),
        net: args.net,
        wrong: count(State::Wrong),
        warnings: count(State::Warning),
        checks,
    })
}
