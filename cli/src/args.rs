//! The arguments: what is common to all commands, and the list of commands. Each command's own
//! arguments stand in its module.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{ArgAction, Parser, Subcommand};

use crate::commands::{
    adopt, agent, audit, completions, config, demo, diff, doctor, fetch, freeze, gc, health,
    ignored, init, invite, join, log, node, ping, push, retry, rollback, seal, source, status,
    thaw, verify, version,
};
use crate::output::Level;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Keeps one code volume the same on every Dagster server
#[derive(Debug, Parser)]
#[command(
    name = "codevol",
    version,
    about,
    styles = STYLES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Args {
    /// What is common to all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of all commands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the configuration lies.
    #[arg(
        short = 'C',
        long = "config",
        value_name = "FILE",
        global = true,
        help = "Configuration file [env: CODEVOL_CONFIG]"
    )]
    pub config: Option<PathBuf>,
    /// Print JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Say nothing but the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Global {
    /// Returns how much is said besides the data.
    #[must_use]
    pub const fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (false, true) => Level::Verbose,
            (false, false) => Level::Normal,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it all on this machine: a source, three agents, edits, a break and the way back
    Demo(demo::DemoArgs),
    /// Make this machine a source: configuration, keys, history
    Init(init::InitArgs),
    /// Run the source daemon
    Source(source::SourceArgs),
    /// Enrol this machine, as what the token says
    Join(join::JoinArgs),
    /// Make what stands on an agent's volume its baseline, r0, to go back to
    Adopt(adopt::AdoptArgs),
    /// Run the agent daemon
    Agent(agent::AgentArgs),
    /// Fetch what is live, once, where no agent daemon runs
    Fetch(fetch::FetchArgs),
    /// Publish the tree, or named paths on top of what is live, and follow the rollout
    Push(push::PushArgs),
    /// Show what a push would publish
    Plan(push::PlanArgs),
    /// Show what each server serves, and on what evidence
    Status(status::StatusArgs),
    /// List the releases; tell one's story, or what ran where at a time
    Log(log::LogArgs),
    /// Re-hash what the servers hold, and ask code servers what they loaded
    Verify(verify::VerifyArgs),
    /// Show what differs between releases, between one and the tree, or on a server's disk
    Diff(diff::DiffArgs),
    /// Go back to an older release and freeze the volume; or take one node back and hold it
    Rollback(rollback::RollbackArgs),
    /// Let nothing new go live
    Freeze(freeze::FreezeArgs),
    /// End a freeze; or let a node go on that is held
    Thaw(thaw::ThawArgs),
    /// Roll out once more a release that was found broken
    Retry(retry::RetryArgs),
    /// Write one release as an OCI image or a tar
    Seal(seal::SealArgs),
    /// Show what is left out of the tree, and by which rule
    Ignored(ignored::IgnoredArgs),
    /// Print a token with which one machine may join
    Invite(invite::InviteArgs),
    /// List the members, or take one out
    Node(node::NodeArgs),
    /// Check a journal, which is chained line by line: this machine's, or else the source's
    Audit(audit::AuditArgs),
    /// Delete what nobody needs any more on this machine
    Gc(gc::GcArgs),
    /// Find out whether this machine's daemon answers
    Health(health::HealthArgs),
    /// Look at this machine, and say what mends what is not as it must be
    Doctor(doctor::DoctorArgs),
    /// Find out how long a node takes to answer over its live connection
    Ping(ping::PingArgs),
    /// Check or show the configuration
    Config(config::ConfigArgs),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Print the version
    Version(version::VersionArgs),
}
