//! The way to a Dagster code server: asks it to load the release that `current` names, and finds
//! out which code it serves, and on what evidence. It changes nothing on disk.
//!
//! ```text
//! verify (drives) -> client (gRPC) -> observe (what is said) -> judge (what that proves)
//!                                        place (whose path), traceback (whose error)
//! ```
//! `ReloadCode`'s own answer, `Ping` and health prove nothing: only what `ListRepositories` says,
//! together with the id of the process that says it.

mod client;
mod judge;
mod observe;
mod place;
mod traceback;
mod verify;

use codevol_protocol::evidence::{CodeServerKind, CodeServerState, Evidence, Verdict};
use codevol_protocol::name::Text;
use tokio::time::Instant;

use self::client::Client;
use self::observe::{Answer, Observation, Origin};
pub use self::traceback::LoadFailure;
use crate::config::{Address, CodeServerConfig};
use crate::dependencies::Said;

/// One code server.
#[derive(Debug)]
pub struct CodeServer {
    config: CodeServerConfig,
    memory: Option<Memory>,
}

/// What a verification expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The name of the directory of the release that is to be served: `000042-3f9ac1d2`.
    pub release_dir: String,
    /// Counts the flips of `current`: as long as it is equal there was none.
    pub flip: u64,
    /// The id of a process that was already proven to serve this release: if it still answers, the
    /// evidence holds, and nothing is reloaded.
    pub known_server_id: Option<String>,
    /// Whether it may be asked to reload.
    pub reload: bool,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Where it answers.
    pub address: Address,
    /// What kind it is; `Auto` where that could not be found out.
    pub kind: CodeServerKind,
    /// How it stands.
    pub state: CodeServerState,
    /// The verdict.
    pub verdict: Verdict,
    /// The strongest evidence that the code server gives; nothing where it gives none.
    pub evidence: Option<Evidence>,
    /// The id of the process that answers; to be kept where the evidence is `proven`.
    pub server_id: Option<String>,
    /// How long the reload took, where one was answered.
    pub load_ms: Option<u64>,
    /// What went wrong, where it is broken.
    pub error: Option<LoadFailure>,
    /// What is the matter and what mends it, where that can be said.
    pub advice: Option<Text>,
    /// What it says of the Python that it runs, where it lists its code.
    pub python: Option<Said>,
}

/// What a look without a reload shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Where it answers.
    pub address: Address,
    /// What kind it is; `Auto` where that could not be found out.
    pub kind: CodeServerKind,
    /// The id of the process that answers; nothing where nobody does.
    pub server_id: Option<String>,
    /// Where it loads its code from; nothing where it does not list any.
    pub pointer: Option<PointsTo>,
    /// What is the matter and what mends it; nothing where it follows `current`.
    pub advice: Option<Text>,
}

/// Where a code server loads its code from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointsTo {
    /// It goes through `current`: a reload loads the release that it then names.
    Current,
    /// It names one release, and stays there.
    Release(Text),
    /// Outside the volume, or it does not say.
    Outside,
}

/// What is kept of a flip.
#[derive(Debug)]
struct Memory {
    flip: u64,
    /// The process that answered when it was first looked at, or before its last reload.
    stale: Option<String>,
    /// How many reloads that process was asked for and did not answer.
    unanswered: u32,
}

impl CodeServer {
    /// Makes the way to a code server; connects to nothing yet.
    #[must_use]
    pub const fn new(config: CodeServerConfig) -> Self {
        Self {
            config,
            memory: None,
        }
    }

    /// Returns where it answers.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.config.address
    }

    /// Looks at what it is and where it loads its code from, and reloads nothing.
    pub async fn inspect(&self) -> Inspection {
        let deadline = Instant::now() + self.config.verify_timeout;
        let mut inspection = Inspection {
            address: self.config.address.clone(),
            kind: self.config.kind,
            server_id: None,
            pointer: None,
            advice: None,
        };
        let mut client = match Client::connect(&self.config.address, deadline).await {
            Ok(client) => client,
            Err(error) => {
                inspection.advice = Some(Text::cut(format!("cannot connect to it: {error}")));
                return inspection;
            }
        };
        if self.config.kind == CodeServerKind::Auto {
            inspection.kind = observe::guess_kind(&mut client, deadline).await;
        }
        let seen = Observation::ask(&mut client, deadline).await;
        inspection.server_id = seen.server_id.ok();
        let (pointer, advice) = match &seen.answer {
            Answer::Listed(listing) => pointing(listing.origin()),
            Answer::LoadError(error) => {
                let message = LoadFailure::fold(error).message;
                (None, Some(format!("its code does not load: {message}")))
            }
            Answer::Failed(error) => (
                None,
                Some(format!("it does not say what it loaded: {error}")),
            ),
        };
        inspection.pointer = pointer;
        inspection.advice = advice.map(Text::cut);
        if inspection.advice.is_none() && inspection.kind == CodeServerKind::ApiGrpc {
            inspection.advice = Some(Text::cut(judge::CANNOT_RELOAD));
        }
        inspection
    }
}

fn pointing(origin: Origin) -> (Option<PointsTo>, Option<String>) {
    match origin {
        Origin::Current => (Some(PointsTo::Current), None),
        Origin::Release(name) => {
            let advice = format!(
                "it names the release `{name}` and stays there: {}",
                judge::START_WITH_CURRENT
            );
            (Some(PointsTo::Release(Text::cut(name))), Some(advice))
        }
        Origin::Outside => (
            Some(PointsTo::Outside),
            Some(format!(
                "it loads its code from outside the volume: {}",
                judge::START_WITH_CURRENT
            )),
        ),
    }
}
