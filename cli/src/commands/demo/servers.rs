//! The code servers of the demo: which `dagster` runs them, what they load, and where they listen.

use std::net::TcpListener;
use std::path::PathBuf;

use super::fleet::AGENTS;
use super::project::{Project, Target};
use crate::commands::Context;
use crate::error::CommandError;

/// Finds a `dagster`, and how it is to load the project.
pub(super) fn servers(
    project: &Project,
    context: &Context,
) -> Result<Option<(PathBuf, Target)>, CommandError> {
    let named = std::env::var_os("CODEVOL_DAGSTER").map(PathBuf::from);
    if let Some(named) = named.as_ref().filter(|named| !named.is_file()) {
        return Err(CommandError::environment(format!(
            "CODEVOL_DAGSTER names `{}`, which is no file",
            named.display()
        )));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        std::env::split_paths(&path)
            .map(|dir| dir.join("dagster"))
            .find(|file| file.is_file())
    };
    let found = named.or_else(on_path);
    Ok(match (found, project.target.clone()) {
        (Some(dagster), Some(target)) => Some((dagster, target)),
        (Some(_), None) => {
            context.printer.line(
                "no definitions were found in the tree: the agents run without code servers",
            )?;
            None
        }
        (None, _) => {
            context.printer.line(
                "no `dagster` on PATH (CODEVOL_DAGSTER=venv/bin/dagster names one): the agents run without code servers",
            )?;
            None
        }
    })
}

pub(super) fn free_ports() -> Result<Vec<u16>, CommandError> {
    // All are held at once, so that no two are the same.
    let held: std::io::Result<Vec<TcpListener>> = (0..AGENTS)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect();
    let ports = held.and_then(|held| {
        held.iter()
            .map(|port| Ok(port.local_addr()?.port()))
            .collect()
    });
    ports.map_err(|error| CommandError::failed("cannot find free ports").because(&error))
}
