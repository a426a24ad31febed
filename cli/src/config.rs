//! Reads, checks, shows and writes the configuration. A value comes from the environment, else the
//! file, else the default; each remembers which. Nothing is taken on trust and nothing unknown is
//! passed over: every fault of a file is reported at once, where it stands.

mod defaults;
mod environment;
mod fault;
mod find;
mod place;
mod read;
mod reader;
mod rollout;
mod section;
mod value;
mod write;

pub mod check;
pub mod show;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use codevol_agent::config::AgentConfig;
use codevol_source::config::SourceConfig;

use crate::config::fault::Fault;
use crate::config::reader::Reader;
use crate::config::show::Setting;
use crate::error::CommandError;

pub use crate::config::defaults::{agent_defaults, source_defaults, state_beside};
pub use crate::config::environment::Environment;
pub use crate::config::find::{file_to_write, operator_file_to_write};
pub use crate::config::value::{InvalidDuration, duration, duration_text, host_port};
pub use crate::config::write::{render_agent, render_operator, render_source};

/// No configuration is longer, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The daemon on the host where the tree is edited.
    Source,
    /// The daemon on a Dagster server.
    Agent,
    /// An operator's machine: no daemon.
    Operator,
}

impl Role {
    const ALL: [Self; 3] = [Self::Source, Self::Agent, Self::Operator];

    /// Returns the word for it, as in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        value::one_of(text, &Self::ALL.map(|role| (role.as_str(), role)))
    }
}

/// What an operator's machine is told: whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorConfig {
    /// Where the source is reached, `host:port`, tried in order.
    pub source: Vec<String>,
    /// Where the operator's keys lie.
    pub state_dir: PathBuf,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// Of a source.
    Source(SourceConfig),
    /// Of an agent.
    Agent(AgentConfig),
    /// Of an operator.
    Operator(OperatorConfig),
}

impl Config {
    /// Finds, reads and checks the configuration: `path`, else `CODEVOL_CONFIG`, else the first
    /// that exists of the usual places. With roles, only the usual places of these are looked at, and
    /// a file of another role is refused.
    ///
    /// # Errors
    /// No file is found or it cannot be read, or it has faults: all of them are told.
    pub fn load(path: Option<&Path>, roles: &[Role]) -> Result<Loaded, CommandError> {
        let environment = Environment::of_process();
        let path = find::file_to_read(path, roles, &environment)?;
        let text = read_file(&path, roles)?;
        let only = match roles {
            [only] => Some(*only),
            _ => None,
        };
        let loaded = Self::parse(&text, &path, only, &environment)?;
        let role = loaded.config.role();
        if roles.is_empty() || roles.contains(&role) {
            return Ok(loaded);
        }
        let path = path.display();
        let message = format!("`{path}` is the configuration of an {role}: this asks the source");
        Err(CommandError::config(message).hint(
            "run it on the source's host or an operator's machine, or name the configuration of one with `-C FILE`",
        ))
    }

    /// Checks the text of a configuration that stands, or is to stand, at `path`.
    ///
    /// # Errors
    /// The text has faults: all of them are told.
    pub fn parse(
        text: &str,
        path: &Path,
        role: Option<Role>,
        environment: &Environment,
    ) -> Result<Loaded, CommandError> {
        let (document, broken) = toml::de::DeTable::parse_recoverable(text);
        if !broken.is_empty() {
            let faults = broken.iter().map(Fault::of_syntax).collect();
            return Err(fault::report(path, text, faults));
        }
        let mut reader = Reader::new(path, environment)
            .map_err(|fault| fault::report(path, text, vec![fault]))?;
        let config = read::config(&mut reader, document.get_ref(), role);
        match (config, reader.faults.is_empty()) {
            (Some(config), true) => Ok(Loaded {
                config,
                path: path.to_path_buf(),
                warnings: environment.unknown(&reader.variables),
                settings: reader.settings,
                text: text.to_owned(),
            }),
            _ => Err(fault::report(path, text, reader.faults)),
        }
    }

    /// Returns what it is for.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Source(_) => Role::Source,
            Self::Agent(_) => Role::Agent,
            Self::Operator(_) => Role::Operator,
        }
    }
}

/// A configuration that was read, and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
    /// What a person should know, as variables that mean nothing.
    pub warnings: Vec<String>,
    /// Each value with its origin, in the file's order of sections.
    pub settings: Vec<Setting>,
    text: String,
}

fn read_file(path: &Path, roles: &[Role]) -> Result<String, CommandError> {
    let unreadable = || CommandError::config(format!("cannot read `{}`", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let is_gone = error.kind() == io::ErrorKind::NotFound;
            let error = unreadable().because(&error);
            if is_gone {
                error.hint(find::how_to_get_one(roles))
            } else {
                error
            }
        })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable().cause(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| unreadable().because(&error))
}

#[cfg(test)]
mod tests;
