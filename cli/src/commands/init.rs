//! `codevol init`: makes a source host: its configuration, its keys, its state directory; or makes one
//! of what was put back from a backup.

mod restore;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use codevol_protocol::name::{VolumeName, slug};
use codevol_source::config::SourceConfig;
use codevol_source::identity::Identity;
use serde::Serialize;

use crate::commands::Context;
use crate::config::{self, Config, Environment, Role, check};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The tree to publish: the folder of your Dagster project
    pub dir: PathBuf,
    /// Name of the volume [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// UDP address that agents dial [default: [::]:7443]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// What tokens tell agents to dial [default: the bound address]
    #[arg(long, value_name = "HOST:PORT", value_parser = config::host_port)]
    pub advertise: Option<String>,
    /// Where keys and history are kept [default: `state` beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Make the operator key in this file, to be carried off this host [default: one that stays in the
    /// state folder]
    #[arg(long, value_name = "FILE")]
    pub operator_key: Option<PathBuf>,
    /// Use a state folder that was put back from a backup: nothing is published before the servers were
    /// heard, which may know newer releases
    #[arg(long, conflicts_with = "operator_key")]
    pub restore: bool,
}

#[derive(Serialize)]
struct Initialised<'a> {
    schema: &'static str,
    file: String,
    volume: &'a str,
    path: String,
    state_dir: String,
    project: Option<&'a str>,
}

/// Makes a source host.
///
/// # Errors
/// Something is there already, the folders lie inside each other, or a file cannot be written.
pub fn run(args: &InitArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let file = config::file_to_write(context.config.as_deref());
    if args.restore && file.exists() {
        return restore::with_file(args, &file, context);
    }
    refuse_existing(&file)?;
    let tree = args.dir.canonicalize().map_err(|error| {
        CommandError::environment(format!(
            "cannot use `{}` as a source tree",
            args.dir.display()
        ))
        .because(&error)
        .hint("name the folder of your Dagster project")
    })?;
    // The daemon refuses it at each start.
    if let Some(why) = check::readable(&tree) {
        return Err(CommandError::environment(why)
            .hint("run this as the daemon's user, or let that user read the tree"));
    }
    let source = configuration(args, &file, &tree)?;
    let text = config::render_source(&source, &file)?;
    // What is written must load: this also refuses folders that lie inside each other.
    Config::parse(&text, &file, Some(Role::Source), &Environment::new([]))?;
    let operator = args.operator_key.as_deref().map(absolute).transpose()?;
    if let Some(key) = operator.as_deref().filter(|key| key.starts_with(&tree)) {
        let (key, tree) = (key.display(), tree.display());
        return Err(
            CommandError::environment(format!("`{key}` lies in the tree `{tree}`"))
                .hint("a key in the tree may travel to every server: keep it elsewhere"),
        );
    }
    if args.restore {
        let restored = restore::freeze(&source)?;
        write_new(&file, &text)?;
        return restore::report(&file, &restored, context);
    }
    make_state(&source.state_dir)?;
    let created = match &operator {
        Some(key) => Identity::create_with(&source.state_dir, key),
        None => Identity::create(&source.state_dir),
    };
    created.map_err(|error| {
        let dir = source.state_dir.display();
        CommandError::refused(
            "exists",
            format!("cannot make the source's keys in `{dir}`"),
        )
        .because(&error)
        .hint("another source may live there: name another folder with `--state-dir`")
    })?;
    write_new(&file, &text)?;
    report(context, &file, &source, find_project(&tree))?;
    if let Some(key) = operator {
        let key = key.display();
        context.printer.note(format_args!(
            "Operator key  {key}: carry it off this host, and keep it. The source runs without it"
        ));
    }
    Ok(ExitStatus::Done)
}

fn configuration(args: &InitArgs, file: &Path, tree: &Path) -> Result<SourceConfig, CommandError> {
    let base = tree
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = match &args.volume {
        Some(name) => name.clone(),
        None => slug(&base)
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| {
                CommandError::usage(format!("the folder's name `{base}` makes no volume name"))
                    .hint("say one with `--volume NAME`")
            })?,
    };
    let mut source = config::source_defaults(file, name, tree)
        .map_err(|error| CommandError::environment("the working folder is gone").because(&error))?;
    if let Some(listen) = args.listen {
        source.listen = listen;
    }
    source.advertise.clone_from(&args.advertise);
    if let Some(state_dir) = &args.state_dir {
        source.state_dir = absolute(state_dir)?;
        source.control_socket = source.state_dir.join("control.sock");
    }
    Ok(source)
}

fn report(
    context: &Context,
    file: &Path,
    source: &SourceConfig,
    project: Option<&'static str>,
) -> Result<ExitStatus, CommandError> {
    let Some(volume) = source.volumes.first() else {
        return Ok(ExitStatus::Done);
    };
    if context.printer.is_json() {
        context.printer.json(&Initialised {
            schema: "codevol.init/1",
            file: file.display().to_string(),
            volume: volume.name.as_str(),
            path: volume.path.display().to_string(),
            state_dir: source.state_dir.display().to_string(),
            project,
        })?;
        return Ok(ExitStatus::Done);
    }
    let found = project.map_or_else(
        || "no Dagster project was recognised in it; it is published all the same".to_owned(),
        |project| format!("a Dagster project, by its {project}"),
    );
    for line in [
        format!(
            "Volume   {} = {} ({found})",
            volume.name,
            volume.path.display()
        ),
        format!("Wrote    {}", file.display()),
        format!("Keys     {}", source.state_dir.display()),
        String::new(),
        format!("Next:  codevol -C {0} source", file.display()),
        format!("then:  codevol -C {0} invite --name dag-01", file.display()),
    ] {
        context.printer.line(line)?;
    }
    Ok(ExitStatus::Done)
}

/// Says by which file the tree shows itself to be a Dagster project.
fn find_project(tree: &Path) -> Option<&'static str> {
    let names_dagster =
        |name: &str| fs::read_to_string(tree.join(name)).is_ok_and(|text| text.contains("dagster"));
    [
        "definitions.py",
        "workspace.yaml",
        "dagster.yaml",
        "dagster_cloud.yaml",
    ]
    .into_iter()
    .find(|name| tree.join(name).is_file())
    .or_else(|| names_dagster("pyproject.toml").then_some("pyproject.toml"))
    .or_else(|| names_dagster("requirements.txt").then_some("requirements.txt"))
}

/// Returns the absolute form of a path that need not exist.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|error| {
        CommandError::environment(format!("cannot use the path `{}`", path.display()))
            .because(&error)
    })
}

/// Refuses to write over a configuration.
pub(super) fn refuse_existing(file: &Path) -> Result<(), CommandError> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(
        CommandError::refused("exists", format!("`{}` exists already", file.display()))
            .hint("name another file with `-C FILE`, or remove this one"),
    )
}

/// Makes a state directory that nobody else can look into.
pub(super) fn make_state(dir: &Path) -> Result<(), CommandError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
    })
    .map_err(|error| {
        CommandError::environment(format!("cannot make the state folder `{}`", dir.display()))
            .because(&error)
            .hint("name a folder that you may write to with `--state-dir DIR`")
    })
}

/// Writes a new configuration, durably; one that appeared meanwhile stays.
pub(super) fn write_new(file: &Path, text: &str) -> Result<(), CommandError> {
    use std::io::Write as _;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let written = folder.map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let mut new = fs::File::create_new(file)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()
    });
    written.map_err(|error| {
        CommandError::environment(format!("cannot write `{}`", file.display())).because(&error)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_project_is_known_by_its_files() {
        for (files, found) in [
            (&[("notes.txt", "dagster")][..], None),
            (&[("pyproject.toml", "[project]\nname = 'x'\n")], None),
            (&[("requirements.txt", "polars\n")], None),
            (&[("definitions.py", "")], Some("definitions.py")),
            (&[("workspace.yaml", "")], Some("workspace.yaml")),
            (
                &[("pyproject.toml", "[tool.dagster]\n")],
                Some("pyproject.toml"),
            ),
            (
                &[("requirements.txt", "dagster==1\n")],
                Some("requirements.txt"),
            ),
            (
                &[("requirements.txt", "dagster\n"), ("dagster.yaml", "")],
                Some("dagster.yaml"),
            ),
        ] {
            let tree = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let mut file = fs::File::create(tree.path().join(name)).unwrap();
                file.write_all(text.as_bytes()).unwrap();
            }
            assert_eq!(find_project(tree.path()), found, "{files:?}");
        }
    }
}
