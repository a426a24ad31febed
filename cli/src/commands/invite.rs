//! `codevol invite`: a token with which one machine may join.

use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::name::NodeName;
use codevol_protocol::release::UnixMillis;
use codevol_protocol::role::Role;
use serde::Serialize;

use crate::commands::Context;
use crate::config::{duration, duration_text};
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
    /// What it may do: `agent`, a Dagster server; `operator`, a person's machine, all commands;
    /// `publisher`, CI, push and status
    #[arg(long, default_value = "agent", value_parser = role)]
    pub role: Role,
    /// How long the token works, as `15m` or `2h`
    #[arg(long, default_value = "15m", value_parser = ttl)]
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Document<'a> {
    token: &'a str,
    name: Option<&'a NodeName>,
    role: Role,
    expires_at: UnixMillis,
}

/// Prints a token, and nothing else on standard output.
///
/// # Errors
/// The source does not run, or makes no token.
pub fn run(args: &InviteArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.source()?;
    let (role, name, ttl_s) = (args.role, args.name.clone(), args.ttl.as_secs());
    let call = match role {
        Role::Agent => Call::Invite { name, ttl_s },
        Role::Operator | Role::Publisher => Call::InviteAs { role, name, ttl_s },
    };
    let Reply::Invited(invited) = control.ask(&call)? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            token: &invited.token,
            name: invited.name.as_ref(),
            role,
            expires_at: invited.expires_at,
        })?;
    } else {
        context.printer.line(&invited.token)?;
    }
    Ok(ExitStatus::Done)
}

fn role(text: &str) -> Result<Role, String> {
    let known = [Role::Agent, Role::Operator, Role::Publisher];
    let found = known.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| format!("`{text}` is none of agent, operator, publisher"))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text).map_err(|error| error.to_string())?;
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(ttl);
    }
    let (min, max) = (duration_text(TTL_MIN), duration_text(TTL_MAX));
    Err(format!("a token works for {min} to {max}"))
}
