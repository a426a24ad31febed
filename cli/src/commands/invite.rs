//! `codevol invite`: a token with which one machine may join.

use std::time::Duration;

use codevol_protocol::call::{Call, Reply, Role as NodeRole};
use codevol_protocol::name::NodeName;
use codevol_protocol::release::UnixMillis;
use serde::Serialize;

use crate::commands::Context;
use crate::config::{Role, duration, duration_text};
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);

/// The arguments of `invite`.
#[derive(Debug, clap::Args)]
pub struct InviteArgs {
    /// What the node is to be called; else it says so itself
    #[arg(long)]
    pub name: Option<NodeName>,
    /// How long the token works, as `15m` or `2h`
    #[arg(long, default_value = "15m", value_parser = ttl)]
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Document<'a> {
    token: &'a str,
    name: Option<&'a NodeName>,
    role: NodeRole,
    expires_at: UnixMillis,
}

/// Prints a token, and nothing else on standard output.
///
/// # Errors
/// The source does not run, or makes no token.
pub fn run(args: &InviteArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = Control::new(&context.load(Some(Role::Source))?)?;
    let call = Call::Invite {
        name: args.name.clone(),
        ttl_s: args.ttl.as_secs(),
    };
    let Reply::Invited(invited) = control.ask(&call)? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            token: &invited.token,
            name: invited.name.as_ref(),
            role: NodeRole::Agent,
            expires_at: invited.expires_at,
        })?;
    } else {
        context.printer.line(&invited.token)?;
    }
    Ok(ExitStatus::Done)
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text).map_err(|error| error.to_string())?;
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(ttl);
    }
    let (min, max) = (duration_text(TTL_MIN), duration_text(TTL_MAX));
    Err(format!("a token works for {min} to {max}"))
}
