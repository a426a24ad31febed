//! `codevol node`: the members of the fleet.

use clap::Subcommand;
use codevol_protocol::call::{Call, Member, Reply};
use codevol_protocol::name::NodeName;
use serde::Serialize;

use crate::commands::{Context, done};
use crate::config::Config;
use crate::control::Control;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::{self, node};

/// The arguments of `node`.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the members.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the members
    Ls,
    /// Take a member out, and close its connection
    Rm {
        /// The member
        name: NodeName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Give the node of this machine, an agent, another key; the old one is revoked
    Rotate,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    nodes: &'a [Member],
}

/// Lists the members, or takes one out.
///
/// # Errors
/// The source does not run, there is no such member, or nobody agreed.
pub fn run(args: &NodeArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    match &args.action {
        Action::Ls => list(&context.source()?, context),
        Action::Rotate => rotate(context),
        Action::Rm { name, yes } => {
            let control = context.source()?;
            let question = format!(
                "take `{name}` out of the fleet? It keeps what it serves, and gets nothing new"
            );
            context.printer.confirm(&question, *yes)?;
            let name = name.clone();
            done(&control, &Call::RemoveNode { name }, context)
        }
    }
}

/// Asks the daemon of this host, which has the key.
fn rotate(context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(None)?;
    if matches!(loaded.config, Config::Operator(_)) {
        return Err(CommandError::usage("this machine has no daemon that could replace its key")
            .hint("take it out by `codevol node rm`, and join it anew: codevol invite --role operator"));
    }
    done(&Control::new(&loaded)?, &Call::Rotate, context)
}

fn list(control: &Control, context: &Context) -> Result<ExitStatus, CommandError> {
    let Reply::Nodes(nodes) = control.ask(&Call::Nodes)? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.nodes/1",
            nodes: &nodes,
        })?;
    } else {
        context.printer.line(node::render(&nodes, screens::now()))?;
    }
    Ok(ExitStatus::Done)
}
