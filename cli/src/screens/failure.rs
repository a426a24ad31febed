//! The report of a release that did not go live: what is broken, where, and where the servers are
//! now. The most important screen there is.

use codevol_protocol::name::NodeName;
use codevol_protocol::status::{NodeError, NodeState, Outcome};

use super::rollout::Rollout;
use super::{listed, sentence};
use crate::error::CommandError;

/// The kind of a release that was refused for what is not installed.
const DEPENDENCIES: &str = "dependencies";

/// Returns the report; `verbose` shows the whole of the user's traceback.
#[must_use]
pub fn report(rollout: &Rollout, outcome: &Outcome, verbose: bool) -> CommandError {
    let release = outcome.release;
    let Some(error) = &outcome.error else {
        let live = outcome
            .live
            .map_or_else(|| "nothing".to_owned(), |live| live.to_string());
        return CommandError::failed(format!("{release} did not go live; {live} is live"))
            .hint("`codevol status` says why");
    };
    let what = match error.step.as_str() {
        _ if error.kind.as_str() == DEPENDENCIES => {
            format!("{release} needs packages that {} lacks", error.node)
        }
        "stage" => format!("{release} could not be staged on {}", error.node),
        "activate" => format!("{release} could not be activated on {}", error.node),
        _ => format!("{release} is broken on {}", error.node),
    };
    let mut report = CommandError::failed(format!("{what}; {}", whereabouts(rollout, outcome)));
    report.kind = String::from(error.kind.clone()).into();
    report = report.details(details(rollout, outcome, error, verbose));
    match &error.hint {
        Some(hint) => report.hint(hint.as_str()),
        None => report,
    }
}

/// Says where the servers are now that had activated the release.
fn whereabouts(rollout: &Rollout, outcome: &Outcome) -> String {
    let back: Vec<_> = rollout.returned().collect();
    if let Some((_, to, evidence)) = back.first() {
        let alike = back
            .iter()
            .all(|(_, seq, seen)| (seq, seen) == (to, evidence));
        let known = evidence.filter(|_| alike);
        let known = known.map_or_else(String::new, |evidence| format!(" ({evidence})"));
        let names = back.iter().map(|(name, _, _)| name);
        let is = if back.len() == 1 { "is" } else { "are" };
        return format!("{} {is} back on {to}{known}", listed(names));
    }
    let failed = outcome
        .nodes
        .iter()
        .filter(|(_, state)| **state == NodeState::Failed);
    let stuck: Vec<&NodeName> = failed
        .map(|(name, _)| name)
        .filter(|name| rollout.activated().any(|activated| activated == *name))
        .collect();
    match (outcome.returned, outcome.live) {
        (true, Some(live)) => format!("it was taken back, and {live} is live"),
        (_, None) if !stuck.is_empty() => {
            format!(
                "it stays on {}: there is nothing better to go back to",
                listed(stuck)
            )
        }
        (_, Some(live)) if !stuck.is_empty() => {
            format!(
                "it was not taken back on {}; {live} is live elsewhere",
                listed(stuck)
            )
        }
        (_, Some(live)) => format!("{live} is still live"),
        (_, None) => "nothing is live".to_owned(),
    }
}

fn details(rollout: &Rollout, outcome: &Outcome, error: &NodeError, verbose: bool) -> String {
    let node = &error.node;
    let at = match (outcome.wave, outcome.waves) {
        (Some(wave), Some(waves)) if waves > 1 => format!("wave {wave} of {waves}"),
        _ => format!("in step {}", sentence(error.step.as_str())),
    };
    let untouched: Vec<&NodeName> = outcome
        .nodes
        .keys()
        .filter(|name| *name != node && !rollout.activated().any(|active| active == *name))
        .collect();
    let was = if untouched.len() == 1 { "was" } else { "were" };
    let others = if untouched.is_empty() {
        String::new()
    } else {
        format!("; {} {was} not touched", listed(untouched))
    };
    // Where a rollout is to stop, who found it good stays.
    let stay = |name: &&NodeName| outcome.nodes.get(*name) == Some(&NodeState::Behind);
    let stay: Vec<&NodeName> = rollout.activated().filter(stay).collect();
    let stay = match stay.len() {
        0 => String::new(),
        1 => format!("; {} stays on {}", listed(stay), outcome.release),
        _ => format!("; {} stay on {}", listed(stay), outcome.release),
    };
    let mut lines = vec![format!("  node {node}, {at}{others}{stay}"), String::new()];
    lines.extend(code_lines(error, verbose));
    lines.join("\n")
}

/// Returns what went wrong in the user's code, and where.
pub(super) fn code_lines(error: &NodeError, verbose: bool) -> Vec<String> {
    let at = error.location.as_ref();
    let at = at.map(|at| format!("  {}", sentence(at.as_str())));
    let mut lines = Vec::from_iter(at);
    // The user's own frames, then what went wrong: only the latter unless more is asked for.
    let traceback = error
        .traceback
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let frames: Vec<&str> = traceback
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let skipped = if verbose { 0 } else { frames.len() };
    lines.extend(
        frames
            .iter()
            .skip(skipped)
            .map(|line| format!("    {line}")),
    );
    let message = error.message.to_string();
    lines.extend(message.lines().map(|line| format!("    {line}")));
    lines.extend(folded(error.hidden_frames, skipped));
    lines
}

/// Says what of the traceback is not shown: Dagster's own frames never come this far.
fn folded(hidden: u32, skipped: usize) -> Option<String> {
    let frames = if hidden == 1 { "frame" } else { "frames" };
    match (hidden, skipped) {
        (0, 0) => None,
        (0, _) => Some("  [-v shows the whole traceback]".to_owned()),
        (_, 0) => Some(format!("  [{hidden} Dagster {frames} hidden]")),
        (_, _) => Some(format!(
            "  [{hidden} Dagster {frames} hidden, -v shows your own]"
        )),
    }
}

#[cfg(test)]
mod tests;
