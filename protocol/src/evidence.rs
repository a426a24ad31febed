//! What is known of a release on a node: how strong the evidence is, and the verdict it supports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much is known of what a code server runs, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The bytes are verified and `current` names the release.
    Activated,
    /// The repositories are listed, and the server id changed since the flip.
    Loaded,
    /// The code that was loaded is this release's: its pointer or marker names the release, or the
    /// pointer goes through `current` and the server process began after the last flip.
    Proven,
    /// The webserver shows that server id.
    Seen,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Activated => "activated",
            Self::Loaded => "loaded",
            Self::Proven => "proven",
            Self::Seen => "seen",
        })
    }
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// At least loaded, and nothing says otherwise.
    Good,
    /// It cannot be told: refused, timed out, cannot reload, pointer outside the volume.
    Unproven,
    /// The server answers with the user's error, died on import, or serves another release.
    Broken,
}

/// What kind of code server stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeServerKind {
    /// Not yet found out.
    Auto,
    /// Stock `dagster code-server start`: reloads by `ReloadCode`.
    CodeServer,
    /// Stock `dagster api grpc`: cannot reload.
    ApiGrpc,
}

impl fmt::Display for CodeServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::CodeServer => "code-server",
            Self::ApiGrpc => "api-grpc",
        })
    }
}

/// How a code server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeServerState {
    /// It serves the release.
    Good,
    /// It serves an error, or another release.
    Broken,
    /// It cannot be told.
    Unproven,
    /// A reload hangs in an import; it goes on serving the old definitions.
    Stuck,
}

impl fmt::Display for CodeServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Broken => "broken",
            Self::Unproven => "unproven",
            Self::Stuck => "stuck",
        })
    }
}
