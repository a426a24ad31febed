//! Joining as a member that holds no volume: an operator's machine, or a publisher such as CI.

use std::fs;
use std::path::Path;

use codevol_agent::identity::Identity;
use codevol_agent::join::{self, Joined as Told};
use codevol_protocol::role::Role as MemberRole;
use codevol_protocol::token::Token;

use super::{JoinArgs, Joined, refuse_source, refused, wanted};
use crate::commands::init::{absolute, make_state, refuse_existing, write_new};
use crate::commands::{Context, runtime};
use crate::config::{self, Config, Environment, OperatorConfig, Role};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::membership::{self, Membership};

pub(super) fn run(
    args: &JoinArgs,
    token: &Token,
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    refuse_volume(args, token.role)?;
    let file = config::operator_file_to_write(context.config.as_deref());
    refuse_existing(&file)?;
    let mut machine = configuration(args, &file, token)?;
    let state = machine.state_dir.clone();
    refuse_source(&state)?;
    make_state(&state)?;
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        let state = state.display();
        CommandError::environment(format!("cannot use the state folder `{state}`")).because(error)
    };
    let is_member = membership::exists(&state).map_err(|error| unusable(&error))?;
    if is_member || Identity::exists(&state).map_err(|error| unusable(&error))? {
        let state = state.display();
        let message = format!("`{state}` holds an enrolled node already");
        return Err(CommandError::refused("exists", message).hint(
            "use its configuration with `-C FILE`, or name another folder with `--state-dir`",
        ));
    }
    let key = Identity::node_key(&state).map_err(|error| unusable(&error))?;
    let joined = runtime(None)?.block_on(join::join(&key, token, wanted(args)));
    let (told, addresses) = joined.map_err(|error| refused(&error))?;
    let Told::Member(member) = told else {
        let message = "the source takes this machine for an agent";
        return Err(CommandError::not_permitted(message)
            .hint("the token was changed; make a new one on the source: codevol invite"));
    };
    machine.source = addresses;
    let membership = Membership {
        fleet: member.fleet,
        node: member.node,
        role: member.role,
        source_key: token.source_key,
    };
    write_new(&file, &config::render_operator(&machine, &file)?)?;
    if let Err(error) = membership::keep(&state, membership.clone()) {
        // Neither is there without the other: the join can be repeated as it was.
        fs::remove_file(&file)
            .map_err(|error| CommandError::failed("cannot undo").because(&error))?;
        return Err(unusable(&error));
    }
    report(context, &file, (&machine, &membership))
}

/// Such a machine holds no volume: what says how one is held was meant for another token.
fn refuse_volume(args: &JoinArgs, role: MemberRole) -> Result<(), CommandError> {
    let said = [
        ("--root", args.root.is_some()),
        ("--adopt", args.adopt),
        ("--volume", args.volume.is_some()),
        ("--code-server", !args.code_server.is_empty()),
    ];
    match said.into_iter().find(|(_, is_said)| *is_said) {
        Some((flag, _)) => {
            let message = format!("`{flag}` is for an agent: this token is for the role `{role}`");
            Err(CommandError::usage(message)
                .hint("leave it out; a Dagster server joins with a token of `codevol invite`"))
        }
        None => Ok(()),
    }
}

fn configuration(
    args: &JoinArgs,
    file: &Path,
    token: &Token,
) -> Result<OperatorConfig, CommandError> {
    let state_dir = match &args.state_dir {
        Some(state_dir) => absolute(state_dir)?,
        None => config::state_beside(file).map_err(|error| {
            CommandError::environment("the working folder is gone").because(&error)
        })?,
    };
    let source = if args.source.is_empty() {
        token.source.clone()
    } else {
        args.source.clone()
    };
    let machine = OperatorConfig { source, state_dir };
    // What is written must load.
    let text = config::render_operator(&machine, file)?;
    Config::parse(&text, file, Some(Role::Operator), &Environment::new([]))?;
    Ok(machine)
}

fn report(
    context: &Context,
    file: &Path,
    (machine, membership): (&OperatorConfig, &Membership),
) -> Result<ExitStatus, CommandError> {
    let key_file = membership::key_file(&machine.state_dir)
        .display()
        .to_string();
    let Membership {
        node,
        role,
        source_key,
        ..
    } = membership;
    if context.printer.is_json() {
        context.printer.json(&Joined {
            schema: "codevol.join/1",
            file: file.display().to_string(),
            node: node.as_str(),
            role: *role,
            volume: None,
            root: None,
            adopted: None,
            source: &machine.source,
            source_key: *source_key,
            key_file,
        })?;
        return Ok(ExitStatus::Done);
    }
    let mut lines = vec![
        format!("Joined   as {node}, role {role}"),
        format!("Wrote    {}", file.display()),
        format!("Key      {key_file}"),
        String::new(),
    ];
    if *role == MemberRole::Publisher {
        let source = machine.source.join(",");
        lines.extend([
            "For CI, in place of the configuration, with the key file as a secret:".to_owned(),
            format!("  CODEVOL_SOURCE={source}"),
            format!("  CODEVOL_SOURCE_KEY={source_key}"),
            "  CODEVOL_KEY_FILE=<where CI puts that secret, mode 0600>".to_owned(),
            String::new(),
        ]);
    }
    lines.push(format!("Next:  codevol -C {} status", file.display()));
    for line in lines {
        context.printer.line(line)?;
    }
    Ok(ExitStatus::Done)
}
