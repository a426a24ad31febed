//! What is known of the active release: found out from all code servers of the volume, and kept
//! over a restart of the agent.

use std::collections::BTreeMap;
use std::time::Instant;

use codevol_protocol::evidence::{CodeServerKind, CodeServerState, Evidence, Verdict};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{CodeServerReport, Failure, Verification};
use codevol_protocol::name::Text;
use serde::{Deserialize, Serialize};

use crate::code_server::{CodeServer, Expected, LoadFailure, Verified};
use crate::dependencies::Said;

/// The name of the document's schema.
pub const PROVEN_SCHEMA: &str = "codevol.proven/1";

/// The processes that were proven to serve a release. Kept in STATE: as long as one answers with
/// the same id, its evidence holds, and nothing is reloaded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proven {
    /// The release.
    pub release: Option<ReleaseId>,
    /// The ids of the processes, by address.
    pub servers: BTreeMap<String, String>,
}

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct Aim {
    /// The release.
    pub release: ReleaseId,
    /// The name of its directory.
    pub dir_name: String,
    /// Counts the flips of `current`.
    pub flip: u64,
    /// The processes that were proven to serve it.
    pub known: BTreeMap<String, String>,
}

/// Asks every code server of a volume, one after the other: a host that loads the same code twice
/// at once does both slowly. Returns besides what they say of their Python, by address.
pub async fn verify(
    servers: &mut [CodeServer],
    aim: &Aim,
) -> (Verification, Proven, Vec<(String, Said)>) {
    let began = Instant::now();
    let mut found = Vec::new();
    for server in servers {
        let expected = Expected {
            release_dir: aim.dir_name.clone(),
            flip: aim.flip,
            known_server_id: aim.known.get(&server.address().to_string()).cloned(),
            reload: true,
        };
        let verified = server.verify(&expected).await;
        let broken = verified.verdict == Verdict::Broken;
        found.push(verified);
        if broken {
            break;
        }
    }
    let proven = found
        .iter()
        .filter(|verified| verified.evidence >= Some(Evidence::Proven));
    let servers = proven
        .filter_map(|verified| Some((verified.address.to_string(), verified.server_id.clone()?)));
    let proven = Proven {
        release: Some(aim.release),
        servers: servers.collect(),
    };
    let said = found
        .iter()
        .filter_map(|verified| Some((verified.address.to_string(), verified.python.clone()?)));
    (summary(&found, began), proven, said.collect())
}

fn summary(found: &[Verified], began: Instant) -> Verification {
    let worst = found.iter().max_by_key(|verified| verified.verdict);
    let evidence = found
        .iter()
        .map(|verified| verified.evidence.unwrap_or(Evidence::Activated))
        .min();
    Verification {
        verdict: worst.map_or(Verdict::Good, |worst| worst.verdict),
        evidence: evidence.unwrap_or(Evidence::Activated),
        code_servers: found.iter().map(report).collect(),
        failure: worst
            .filter(|worst| worst.verdict != Verdict::Good)
            .map(failure),
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn report(verified: &Verified) -> CodeServerReport {
    CodeServerReport {
        address: Text::cut(verified.address.to_string()),
        kind: verified.kind,
        state: verified.state,
        server_id: verified.server_id.as_deref().map(Text::cut),
        load_ms: verified.load_ms,
    }
}

fn failure(worst: &Verified) -> Failure {
    let kind = match (worst.state, worst.kind) {
        (CodeServerState::Stuck, _) => "stuck",
        (_, CodeServerKind::ApiGrpc) => "cannot-reload",
        (CodeServerState::Broken, _) => "broken",
        (CodeServerState::Good | CodeServerState::Unproven, _) => "unproven",
    };
    let advice = worst.advice.clone();
    let Some(error) = &worst.error else {
        let message = advice.unwrap_or_else(|| Text::cut("it cannot be told what it serves"));
        return Failure::new(kind, message.as_str());
    };
    let mut failure = Failure::new(kind, error.message.as_str());
    failure.location = error
        .location
        .as_ref()
        .map(|(file, line)| Text::cut(format!("{file}:{line}")));
    failure.traceback = Some(error.traceback.clone());
    failure.hidden_frames = error.hidden_frames;
    failure.hint = advice.or_else(|| hint(error));
    failure
}

/// Says what a person would ask first.
fn hint(error: &LoadFailure) -> Option<Text> {
    error.message.as_str().contains("ModuleNotFoundError").then(|| {
        let python = error.python.as_ref();
        let python = python.map_or_else(String::new, |python| format!(" ({python})"));
        Text::cut(format!(
            "that server's Python{python} lacks a package the release imports; codevol sends code, \
             not packages"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(message: &str, python: Option<&str>) -> LoadFailure {
        LoadFailure {
            message: Text::cut(message),
            traceback: Text::default(),
            hidden_frames: 0,
            location: None,
            python: python.map(Text::cut),
        }
    }

    #[test]
    fn a_missing_package_is_told_with_the_python_that_lacks_it() {
        let told = |message, python| hint(&raised(message, python)).map(String::from);
        let missing = "ModuleNotFoundError: No module named 'polars'";
        assert_eq!(
            told(missing, Some("/opt/venv, 3.11")).as_deref(),
            Some(
                "that server's Python (/opt/venv, 3.11) lacks a package the release imports; \
                 codevol sends code, not packages"
            )
        );
        assert_eq!(
            told(missing, None).as_deref(),
            Some(
                "that server's Python lacks a package the release imports; codevol sends code, \
                 not packages"
            )
        );
        assert_eq!(told("NameError: name 'x' is not defined", None), None);
    }
}
