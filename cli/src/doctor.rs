//! Looks at this machine as the daemon of a configuration finds it, and says of each thing whether it
//! is as it must be, and what mends it. It changes nothing.
//!
//! ```text
//!   configuration -> check (the machine) -> host, state -> source: tree   -> network (--net)
//!                                                          agent:  root
//! ```

pub mod exposure;

mod clock;
mod disk;
mod network;
mod root;
mod state;
mod tree;

use serde::{Serialize, Serializer};

use crate::config::{Config, Loaded};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a word or two.
    #[serde(rename = "check")]
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What mends it, where something does.
    pub mend: Option<String>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it must be.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// Not as it should be, and codevol works all the same.
    Warning,
    /// codevol does not work so, or not safely.
    Wrong,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Check {
    /// Returns one that is as it must be.
    pub fn ok(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Ok, message)
    }

    /// Returns one that could not be looked at.
    pub fn skipped(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Skipped, message)
    }

    /// Returns one that is not as it should be.
    pub fn warning(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Warning, message)
    }

    /// Returns one that must be mended.
    pub fn wrong(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Wrong, message)
    }

    fn new(what: &'static str, state: State, message: impl Into<String>) -> Self {
        Self {
            what,
            state,
            message: message.into(),
            mend: None,
        }
    }

    /// Says what mends it.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

/// Looks at everything; with `net` it dials the source as well.
pub async fn examine(loaded: &Loaded, net: bool) -> Vec<Check> {
    let mut checks = vec![configuration(loaded)];
    checks.extend(loaded.warnings.iter().map(|warning| {
        Check::warning("configuration", warning).mend("unset it, or write it as the key is called")
    }));
    checks.extend(state::look(loaded).await);
    checks.extend(disk::look(&loaded.config));
    checks.push(clock::look(loaded));
    match &loaded.config {
        Config::Source(config) => checks.extend(tree::look(config).await),
        Config::Agent(config) => checks.extend(root::look(config).await),
        Config::Operator(_) => {}
    }
    checks.push(network::buffers());
    if net {
        checks.extend(network::dial(&loaded.config).await);
    }
    checks
}

fn configuration(loaded: &Loaded) -> Check {
    let volumes = match &loaded.config {
        Config::Source(config) => config.volumes.iter().map(|v| v.name.as_str()).collect(),
        Config::Agent(config) => config.volumes.iter().map(|v| v.name.as_str()).collect(),
        Config::Operator(_) => Vec::new(),
    };
    let (path, role) = (loaded.path.display(), loaded.config.role());
    let message = if volumes.is_empty() {
        format!("`{path}` is valid, of role {role}")
    } else {
        format!("`{path}` is valid, of role {role}: {}", volumes.join(", "))
    };
    Check::ok("configuration", message)
}
