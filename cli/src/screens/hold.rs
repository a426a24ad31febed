//! One node that went back, by itself and apart from the others.

use codevol_protocol::call::NodeWentBack;
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::message::Verification;
use codevol_protocol::release::Seq;
use codevol_protocol::status::NodeError;

use super::failure::code_lines;
use super::sentence;
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::units;

/// Where a node is that was to go back.
#[derive(Debug, Clone, Copy)]
pub struct Whereabouts<'a>(&'a NodeWentBack);

impl<'a> Whereabouts<'a> {
    /// Judges what came of it.
    #[must_use]
    pub const fn of(went: &'a NodeWentBack) -> Self {
        Self(went)
    }

    fn found(self) -> Option<&'a Verification> {
        self.0.went.found.as_ref()
    }

    /// Whether the node stays there until it is thawed.
    #[must_use]
    pub fn is_held(self) -> bool {
        self.0.went.active == Some(self.0.went.to)
    }

    /// Returns how the release stands there, in the words of `status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self.found() {
            None => "activating",
            Some(found) if found.verdict == Verdict::Broken => "failed",
            Some(found) if is_proven(found) => "live",
            Some(_) => "unverified",
        }
    }

    /// Returns what is known of the release.
    #[must_use]
    pub fn evidence(self) -> Option<Evidence> {
        self.found().map(|found| found.evidence)
    }

    /// Returns what is wrong with it.
    #[must_use]
    pub fn error(self) -> Option<NodeError> {
        let failure = self.0.went.failure()?;
        let (node, seq) = (self.0.node.clone(), self.0.went.to);
        Some(NodeError::new(node, seq, "verify", failure))
    }

    /// Returns how the command ends.
    #[must_use]
    pub fn exit(self) -> ExitStatus {
        match self.found() {
            Some(found) if found.verdict == Verdict::Broken => ExitStatus::Failed,
            Some(found) if !is_proven(found) => ExitStatus::Partial,
            Some(_) | None => ExitStatus::Done,
        }
    }
}

/// Where there is no code server, the activated bytes are all there is to prove.
fn is_proven(found: &Verification) -> bool {
    let enough = found.code_servers.is_empty() || found.evidence >= Evidence::Proven;
    found.verdict == Verdict::Good && enough
}

/// Returns the report of a release that is broken there; nothing where it is not.
#[must_use]
pub fn broken(back: &NodeWentBack, verbose: bool) -> Option<CommandError> {
    let error = Whereabouts::of(back).error()?;
    let found = back.went.found.as_ref()?;
    if found.verdict != Verdict::Broken {
        return None;
    }
    let (node, to) = (&back.node, back.went.to);
    let place = match (back.went.active, &back.went.returned) {
        (Some(active), Some(returned)) if active != to => {
            format!(
                "{node} is back on {active} ({}), and not held",
                returned.evidence
            )
        }
        _ => "it stays there: there is nothing better to go back to".to_owned(),
    };
    let report = CommandError::failed(format!("{to} is broken on {node}; {place}"));
    let report = report.details(code_lines(&error, verbose).join("\n"));
    Some(match &error.hint {
        Some(hint) => report.hint(hint.as_str()),
        None => report,
    })
}

/// Returns where the node is now, and how it goes on; `local` is for a person on the node's own host.
#[must_use]
pub fn went(back: &NodeWentBack, local: bool) -> String {
    let (node, went) = (&back.node, &back.went);
    let on = |seq: Option<Seq>| seq.map_or_else(|| "nothing".to_owned(), |seq| seq.to_string());
    let was = match went.from {
        from if from == went.active => "where it was".to_owned(),
        from => format!("was on {}", on(from)),
    };
    let found = went.found.as_ref().map_or_else(
        || "what its code servers make of it was not waited for".to_owned(),
        |found| {
            let time = units::elapsed(std::time::Duration::from_millis(found.elapsed_ms));
            let why = found.failure.as_ref().filter(|_| !is_proven(found));
            let why = why.map_or_else(String::new, |failure| {
                format!(": {}", sentence(failure.message.as_str()))
            });
            let word = if found.verdict == Verdict::Good {
                found.evidence.to_string()
            } else {
                "unproven".to_owned()
            };
            format!("{word} in {time}{why}")
        },
    );
    let thaw = if local {
        "codevol thaw".to_owned()
    } else {
        format!("codevol thaw --node {node}")
    };
    format!(
        "{node} is on {} ({was}), {found}\nIt is held there: rollouts leave it out until `{thaw}`",
        on(went.active)
    )
}

#[cfg(test)]
mod tests;
