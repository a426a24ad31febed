//! What an agent needs of its code servers: that they follow `current`, and cannot write to it.

use std::time::Duration;

use codevol_agent::code_server::{CodeServer, Inspection, PointsTo};
use codevol_agent::config::{AgentConfig, CodeServerConfig};
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::name::Printable;

use super::{Check, exposure};

/// How long a code server may take to say what it has loaded.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at each code server.
pub(super) async fn look(config: &AgentConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    for volume in &config.volumes {
        if volume.code_servers.is_empty() {
            let message = format!(
                "volume `{}` has none: nothing is reloaded, and nothing proves what runs",
                volume.name
            );
            let mend = "name it below `[[volume.code_server]]`";
            checks.push(Check::warning("code server", message).mend(mend));
        }
        for server in &volume.code_servers {
            let server = CodeServerConfig {
                verify_timeout: INSPECT_TIMEOUT.min(server.verify_timeout),
                ..server.clone()
            };
            checks.push(judge(&CodeServer::new(server).inspect().await));
        }
    }
    checks.extend(exposure::look(config));
    checks
}

/// Judges what a code server says of itself. One that does not answer is codevol's daily bread.
fn judge(found: &Inspection) -> Check {
    const WHAT: &str = "code server";
    let address = &found.address;
    let advice = found
        .advice
        .as_ref()
        .map(|advice| Printable(advice.as_str()).to_string());
    match (&found.pointer, advice) {
        (Some(PointsTo::Current), None) => Check::ok(WHAT, format!("{address} follows `current`")),
        (None, None) => Check::skipped(WHAT, format!("{address} does not say what it has loaded")),
        (_, Some(advice)) if found.server_id.is_none() => {
            Check::warning(WHAT, format!("{address}: {advice}"))
                .mend("start it with `-d ROOT/current`; until it answers nothing proves what runs")
        }
        (_, Some(advice)) if found.kind == CodeServerKind::ApiGrpc => {
            Check::warning(WHAT, format!("{address}: {advice}"))
                .mend("start `dagster code-server start` in its place")
        }
        (Some(PointsTo::Release(_) | PointsTo::Outside), advice) => {
            let advice = advice.unwrap_or_default();
            Check::wrong(WHAT, format!("{address}: {advice}"))
                .mend("start it with `-d ROOT/current -f ROOT/current/definitions.py`")
        }
        (Some(PointsTo::Current) | None, Some(advice)) => {
            Check::wrong(WHAT, format!("{address}: {advice}"))
                .mend("mend the code and save it, or `codevol rollback` on the source host")
        }
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::name::Text;

    use super::*;
    use crate::doctor::State;

    fn found(kind: CodeServerKind, pointer: Option<PointsTo>, advice: Option<&str>) -> Inspection {
        Inspection {
            address: "127.0.0.1:4000".parse().unwrap(),
            kind,
            server_id: Some("id".to_owned()),
            pointer,
            advice: advice.map(Text::cut),
        }
    }

    #[test]
    fn only_a_pointer_through_current_is_well() {
        let server = CodeServerKind::CodeServer;
        let state = |kind, pointer, advice| judge(&found(kind, pointer, advice)).state;
        assert_eq!(state(server, Some(PointsTo::Current), None), State::Ok);
        let fixed = PointsTo::Release(Text::cut("000001-0123abcd"));
        for pointer in [fixed, PointsTo::Outside] {
            assert_eq!(state(server, Some(pointer), Some("stays")), State::Wrong);
        }
        assert_eq!(state(server, None, Some("does not load")), State::Wrong);
        let api = CodeServerKind::ApiGrpc;
        assert_eq!(
            state(api, Some(PointsTo::Current), Some("cannot")),
            State::Warning
        );
        let mut silent = found(server, None, Some("cannot connect"));
        silent.server_id = None;
        assert_eq!(judge(&silent).state, State::Warning);
    }
}
