//! `codevol join`: enrols this machine and writes its configuration. The token says as what: as an
//! agent, here, or as a member that holds no volume, in [`member`].

mod member;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_agent::code_server::{CodeServer, Inspection};
use codevol_agent::config::{Address, AgentConfig, CodeServerConfig};
use codevol_agent::identity::{Enrolment, Identity};
use codevol_agent::join::{self, JoinError, Joined as Told, Wanted};
use codevol_agent::volume::Adopted;
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::key::PublicKey;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::role::Role as MemberRole;
use codevol_protocol::token::Token;
use serde::Serialize;

use crate::commands::init::{absolute, make_state, refuse_existing, write_new};
use crate::commands::{Context, adopt};
use crate::config::{self, Config, Environment, Role};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::membership;

/// How much of a file or of standard input is read as a token, in bytes.
const TOKEN_BYTES_MAX: u64 = 4_096;
/// How long a verification may take, unless the configuration says otherwise.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a code server may take for the first look.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// What `codevol invite` printed; `-` reads standard input, `@FILE` a file
    pub token: String,
    /// The folder that will hold `current` and `releases/`, for an agent; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Make what stands in the root this node's baseline, r0: what its first release goes back to
    #[arg(long)]
    pub adopt: bool,
    /// The volume to hold, where the source has several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// What this node is called [default: what the token says, else the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeName>,
    /// Where this node's key is kept [default: `state` beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// A code server that loads the volume: `host:port` or `unix:/path`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub code_server: Vec<Address>,
    /// Dial this instead of what the token says
    #[arg(long, value_name = "HOST:PORT", value_parser = config::host_port)]
    pub source: Vec<String>,
}

#[derive(Serialize)]
struct Joined<'a> {
    schema: &'static str,
    file: String,
    node: &'a str,
    role: MemberRole,
    volume: Option<&'a str>,
    root: Option<String>,
    source: &'a [String],
    source_key: PublicKey,
    key_file: String,
    adopted: Option<codevol_protocol::id::ReleaseId>,
}

/// Enrols this machine.
///
/// # Errors
/// The token is refused, the source cannot be reached, or something is there already.
pub fn run(args: &JoinArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let token: Token = read_token(&args.token)?.parse().map_err(|error| {
        CommandError::not_permitted("the token is refused")
            .because(&error)
            .hint("copy it whole, or make a new one on the source: codevol invite --name NAME")
    })?;
    if token.role != MemberRole::Agent {
        return member::run(args, &token, context);
    }
    let root = args.root.as_deref().ok_or_else(|| {
        CommandError::usage("the token is an agent's, which needs a folder for the releases")
            .hint("name one with `--root DIR`")
    })?;
    let file = config::file_to_write(context.config.as_deref());
    refuse_existing(&file)?;
    // What only the source knows is filled in below; that the folders fit is checked before it is
    // asked, since a token works once.
    let provisional = args.volume.clone().or_else(|| "volume".parse().ok());
    let provisional = provisional.ok_or_else(|| CommandError::failed("no volume name"))?;
    let mut agent = configuration((args, root), &file, provisional, &token.source)?;
    check(&agent, &file)?;
    check_root(args, root)?;
    refuse_source(&agent.state_dir)?;
    make_state(&agent.state_dir)?;
    let exists = Identity::exists(&agent.state_dir).map_err(|error| state_error(&agent, &error))?;
    if exists {
        let dir = agent.state_dir.display();
        return Err(CommandError::refused(
            "exists",
            format!("`{dir}` holds an enrolled node already"),
        )
        .hint("start it with `codevol agent`, or name another folder with `--state-dir`"));
    }
    make_root(root)?;
    let key = Identity::node_key(&agent.state_dir).map_err(|error| state_error(&agent, &error))?;
    let runtime = super::runtime(None)?;
    let joined = runtime.block_on(join::join(&key, &token, wanted(args)));
    let (told, addresses) = joined.map_err(|error| refused(&error))?;
    let Told::Agent(welcome) = told else {
        return Err(
            CommandError::not_permitted("the source takes this machine for no agent")
                .hint("the token was changed; make a new one on the source: codevol invite"),
        );
    };

    for volume in &mut agent.volumes {
        volume.name = welcome.volume.clone();
    }
    agent.source.clone_from(&addresses);
    let text = config::render_agent(&agent, &file)?;
    let enrolment = Enrolment {
        fleet: welcome.fleet,
        node: welcome.node.clone(),
        volume: welcome.volume.clone(),
        source_key: token.source_key,
        operator: welcome.operator,
        trust: welcome.trust,
    };
    write_new(&file, &text)?;
    if let Err(error) = Identity::enrol(&agent.state_dir, enrolment) {
        // Neither is there without the other: the join can be repeated as it was.
        fs::remove_file(&file)
            .map_err(|error| CommandError::failed("cannot undo").because(&error))?;
        return Err(state_error(&agent, &error));
    }
    let adopted = adopt_if_wanted(args, &agent, &file)?;
    let inspections = runtime.block_on(inspect(&agent));
    let source_key = token.source_key;
    report(
        context,
        &file,
        (&agent, &welcome.node, source_key),
        (&inspections, adopted.as_ref()),
    )
}

/// Refuses the folder of a source, whose key a member must not bear: what is beside the source's
/// configuration is that, unless something else is said.
fn refuse_source(state: &Path) -> Result<(), CommandError> {
    let dir = state.display();
    let is_source = codevol_source::identity::Identity::exists(state).map_err(|error| {
        CommandError::environment(format!("cannot use the state folder `{dir}`")).because(&error)
    })?;
    if !is_source {
        return Ok(());
    }
    let message = format!("`{dir}` holds the keys of a source");
    Err(CommandError::refused("exists", message).hint(
        "name another folder with `--state-dir DIR`, or a configuration in a folder of its own with `-C FILE`",
    ))
}

fn wanted(args: &JoinArgs) -> Wanted {
    Wanted {
        source: args.source.clone(),
        name: args.name.clone(),
        host: Text::cut(rustix::system::uname().nodename().to_string_lossy()),
        volume: args.volume.clone(),
    }
}

fn read_token(argument: &str) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = match (argument, argument.strip_prefix('@')) {
        ("-", _) => std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text),
        (_, Some(path)) => fs::File::open(path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text)),
        (token, None) => return Ok(token.to_owned()),
    };
    read.map_err(|error| {
        let from = argument.strip_prefix('@').unwrap_or("standard input");
        CommandError::environment(format!("cannot read the token from `{from}`")).because(&error)
    })?;
    Ok(text.trim().to_owned())
}

fn configuration(
    (args, root): (&JoinArgs, &Path),
    file: &Path,
    volume: VolumeName,
    source: &[String],
) -> Result<AgentConfig, CommandError> {
    let mut agent = config::agent_defaults(file, volume, root)
        .map_err(|error| CommandError::environment("the working folder is gone").because(&error))?;
    if let Some(state_dir) = &args.state_dir {
        agent.state_dir = absolute(state_dir)?;
        agent.control_socket = agent.state_dir.join("control.sock");
    }
    agent.source = if args.source.is_empty() {
        source.to_vec()
    } else {
        args.source.clone()
    };
    for volume in &mut agent.volumes {
        volume.code_servers = args
            .code_server
            .iter()
            .map(|address| CodeServerConfig {
                address: address.clone(),
                kind: CodeServerKind::Auto,
                verify_timeout: VERIFY_TIMEOUT,
                python: None,
            })
            .collect();
    }
    Ok(agent)
}

fn check(agent: &AgentConfig, file: &Path) -> Result<(), CommandError> {
    let text = config::render_agent(agent, file)?;
    Config::parse(&text, file, Some(Role::Agent), &Environment::new([])).map(|_loaded| ())
}

fn adopt_if_wanted(
    args: &JoinArgs,
    agent: &AgentConfig,
    file: &Path,
) -> Result<Option<Adopted>, CommandError> {
    let wanted = agent.volumes.first().filter(|_| args.adopt);
    let adopted = wanted.map(|volume| adopt::adopt(agent, volume)).transpose();
    adopted.map_err(|error| {
        let file = file.display();
        error.hint(format!(
            "this node is a member now: `codevol -C {file} adopt` tries again"
        ))
    })
}

fn check_root(args: &JoinArgs, root: &Path) -> Result<(), CommandError> {
    if args.adopt {
        return adopt::may_adopt(root);
    }
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(CommandError::environment(format!(
                "cannot use `{}` as the root",
                root.display()
            ))
            .because(&error));
        }
    };
    if entries.count() == 0 {
        return Ok(());
    }
    Err(CommandError::refused(
        "exists",
        format!("the root `{}` is not empty", root.display()),
    )
    .hint("`--adopt` makes what stands there r0, to go back to; or name an empty or a new folder"))
}

/// Makes the root readable for the code server's user whatever the umask.
fn make_root(root: &Path) -> Result<(), CommandError> {
    let is_new = !root.exists();
    let made = fs::create_dir_all(root).and_then(|()| {
        if is_new {
            fs::set_permissions(root, fs::Permissions::from_mode(0o755))
        } else {
            Ok(())
        }
    });
    made.map_err(|error| {
        CommandError::environment(format!("cannot make the root `{}`", root.display()))
            .because(&error)
    })
}

fn state_error(agent: &AgentConfig, error: &(dyn std::error::Error + 'static)) -> CommandError {
    let dir = agent.state_dir.display();
    CommandError::environment(format!("cannot use the state folder `{dir}`")).because(error)
}

fn refused(error: &JoinError) -> CommandError {
    if error.is_refusal() {
        let refused =
            CommandError::not_permitted("the source does not let this node in").because(error);
        if let JoinError::RefusedVolume(_) = error {
            // The token was not used.
            return refused.hint("`--volume NAME` says which: `codevol status` there lists them");
        }
        refused.hint("make a new token on the source: codevol invite --name NAME")
    } else {
        CommandError::unreachable("cannot join")
            .because(error)
            .hint("is the source running, and does UDP to that address and port get through?")
    }
}

async fn inspect(agent: &AgentConfig) -> Vec<Inspection> {
    let mut inspections = Vec::new();
    for config in agent.volumes.iter().flat_map(|volume| &volume.code_servers) {
        let config = CodeServerConfig {
            verify_timeout: INSPECT_TIMEOUT,
            ..config.clone()
        };
        inspections.push(CodeServer::new(config).inspect().await);
    }
    inspections
}

fn report(
    context: &Context,
    file: &Path,
    (agent, node, source_key): (&AgentConfig, &NodeName, PublicKey),
    (inspections, adopted): (&[Inspection], Option<&Adopted>),
) -> Result<ExitStatus, CommandError> {
    let Some(volume) = agent.volumes.first() else {
        return Ok(ExitStatus::Done);
    };
    for inspection in inspections {
        if let Some(advice) = &inspection.advice {
            context
                .printer
                .warning(format!("code server {}: {advice}", inspection.address));
        }
    }
    if let Some(adopted) = adopted {
        adopt::warn_of(adopted, context);
    }
    if context.printer.is_json() {
        context.printer.json(&Joined {
            schema: "codevol.join/1",
            file: file.display().to_string(),
            node: node.as_str(),
            role: MemberRole::Agent,
            volume: Some(volume.name.as_str()),
            root: Some(volume.root.display().to_string()),
            source: &agent.source,
            source_key,
            key_file: membership::key_file(&agent.state_dir).display().to_string(),
            adopted: adopted.map(|adopted| adopted.release),
        })?;
        return Ok(ExitStatus::Done);
    }
    for line in [
        format!("Joined   as {node}, for volume {}", volume.name),
        format!("Root     {}", volume.root.display()),
        format!("Wrote    {}", file.display()),
    ] {
        context.printer.line(line)?;
    }
    if let Some(adopted) = adopted {
        adopt::report(adopted, volume, context)?;
    }
    let next = format_args!("\nNext:  codevol -C {} agent", file.display());
    context.printer.line(next)?;
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_what_is_at_fault() {
        let hint = |error| refused(&error).render();
        let why = || Text::cut("no");
        assert!(hint(JoinError::RefusedVolume(why())).contains("`--volume NAME` says which"));
        assert!(hint(JoinError::Refused(why())).contains("codevol invite"));
    }
}
