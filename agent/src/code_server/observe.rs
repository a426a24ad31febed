//! What one fresh connection to a code server shows: who answers, and what it says it loaded.

use std::collections::BTreeMap;

use codevol_protocol::dependency::DAGSTER;
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::limits::PATH_BYTES_MAX;
use codevol_protocol::name::Text;
use serde::Deserialize;
use tokio::time::Instant;
use tonic::Code;

use super::client::{CallError, Client};
use super::place::{Place, is_release_dir};
use crate::config::Address;
use crate::dependencies::Said;

/// The answers of one connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observation {
    /// The id of the process that answers for the code.
    pub(super) server_id: Result<String, CallError>,
    /// What it says it loaded.
    pub(super) answer: Answer,
    /// Whether `Ping` was answered; asked only when the listing failed.
    pub(super) pings: bool,
}

/// What `ListRepositories` said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Repositories are loaded.
    Listed(Listing),
    /// Loading failed.
    LoadError(Box<ErrorInfo>),
    /// There was no such answer.
    Failed(CallError),
}

/// A good listing, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "repository_code_pointer_dict")]
    pointers: BTreeMap<String, Pointer>,
    #[serde(rename = "dagster_library_versions", default)]
    library_versions: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "executable_path", default)]
    python: Option<String>,
}

/// Where a repository's code is imported from. A pointer of a class that is not known has neither.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Pointer {
    working_directory: Option<String>,
    python_file: Option<String>,
}

/// Dagster's `SerializableErrorInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ErrorInfo {
    pub(super) message: String,
    #[serde(default)]
    pub(super) cls_name: Option<String>,
    #[serde(default)]
    pub(super) stack: Vec<String>,
    #[serde(default)]
    pub(super) cause: Option<Box<Self>>,
    #[serde(default)]
    pub(super) context: Option<Box<Self>>,
}

/// Which code a listing shows. What is furthest from following `current` comes last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// That of whatever `current` named when the process began.
    Current,
    /// Not the volume's, or it does not say.
    Outside,
    /// That of the release whose directory has this name, or whose id this is.
    Release(String),
}

impl Observation {
    /// Asks over a connection of its own.
    pub(super) async fn make(address: &Address, deadline: Instant) -> Result<Self, CallError> {
        let mut client = Client::connect(address, deadline).await?;
        Ok(Self::ask(&mut client, deadline).await)
    }

    /// Asks over this connection.
    pub(super) async fn ask(client: &mut Client, deadline: Instant) -> Self {
        let server_id = client.server_id(deadline).await;
        let answer = match client.list_repositories(deadline).await {
            Ok(json) => Answer::parse(&json),
            Err(error) => Answer::Failed(error),
        };
        let pings = match answer {
            Answer::Failed(_) => client.ping(deadline).await.is_ok(),
            Answer::Listed(_) | Answer::LoadError(_) => true,
        };
        Self {
            server_id,
            answer,
            pings,
        }
    }
}

/// Finds out what kind it is without a reload: only `dagster api grpc` can tell the runs in flight.
pub(super) async fn guess_kind(client: &mut Client, deadline: Instant) -> CodeServerKind {
    match client.current_runs(deadline).await {
        Ok(()) => CodeServerKind::ApiGrpc,
        Err(CallError::Status(Code::Unimplemented, _)) => CodeServerKind::CodeServer,
        Err(_) => CodeServerKind::Auto,
    }
}

impl Answer {
    /// Reads the JSON of `ListRepositories`. Its `__class__` is the only verdict there is.
    pub(super) fn parse(json: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(tag = "__class__")]
        enum Reply {
            ListRepositoriesResponse(Listing),
            SerializableErrorInfo(Box<ErrorInfo>),
        }
        match serde_json::from_str(json) {
            Ok(Reply::ListRepositoriesResponse(listing)) => Self::Listed(listing),
            Ok(Reply::SerializableErrorInfo(error)) => Self::LoadError(error),
            Err(error) => Self::Failed(CallError::Lost(Text::cut(format!(
                "its list of repositories cannot be read: {error}"
            )))),
        }
    }
}

impl Answer {
    /// Returns what is said of the Python that runs there.
    pub(super) fn python(&self) -> Option<Said> {
        let Self::Listed(listing) = self else {
            return None;
        };
        let python = listing.python.clone();
        let versions = listing.library_versions.as_ref();
        Some(Said {
            python: python.filter(|path| path.starts_with('/') && path.len() <= PATH_BYTES_MAX)?,
            dagster: versions.and_then(|versions| versions.get(DAGSTER)?.clone()),
        })
    }
}

impl Listing {
    /// Returns which code this is. Where the repositories differ, the one that is furthest from
    /// `current` says it; the shim's marker says more than any pointer.
    pub(super) fn origin(&self) -> Origin {
        let versions = self.library_versions.as_ref();
        if let Some(Some(release)) = versions.and_then(|versions| versions.get(MARKER)) {
            return Origin::Release(release.clone());
        }
        self.pointers
            .values()
            .map(Pointer::origin)
            .max()
            .unwrap_or(Origin::Outside)
    }
}

impl Pointer {
    fn origin(&self) -> Origin {
        let directory = self.working_directory.as_deref().map(Place::of);
        // Modules are imported from the working directory, whatever the entry file's path is.
        if let Some(Place::Release(name, _)) = directory {
            return Origin::Release(name.to_owned());
        }
        let absolute = self.python_file.as_deref().filter(|f| f.starts_with('/'));
        match absolute.map(Place::of).or(directory) {
            Some(Place::Release(name, _)) => Origin::Release(name.to_owned()),
            Some(Place::Current(_)) => Origin::Current,
            Some(Place::Outside) | None => Origin::Outside,
        }
    }
}

impl Origin {
    /// Whether this names the release whose directory has that name. A marker may be the whole id.
    pub(super) fn names(&self, release_dir: &str) -> bool {
        let Self::Release(said) = self else {
            return false;
        };
        let short = release_dir.split_once('-').map(|(_, short)| short);
        said == release_dir || short.is_some_and(|s| !is_release_dir(said) && said.starts_with(s))
    }
}

/// The library under which the shim registers the release it loaded.
const MARKER: &str = "codevol-release";

#[cfg(test)]
mod tests;
