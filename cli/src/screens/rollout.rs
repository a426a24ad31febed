//! A rollout as it goes on, and how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use codevol_protocol::dependency::DependencyWarning;
use codevol_protocol::evidence::Evidence;
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::status::{Event, EventKind, NodeState, Outcome};

use super::{BAD, DOUBTFUL, GOOD, listed, listed_of, sentence, since, style_of};
use crate::output::table::{Cell, Table};
use crate::output::units;

/// What is said of nodes that a person holds.
const HELD: &str = "held, and left out until `codevol thaw --node NAME`";
/// How many nodes a table that goes on has room for.
const LIVE_ROWS_MAX: usize = 15;

/// What is known of a rollout, from its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    release: Seq,
    nodes: BTreeMap<NodeName, Steps>,
}

/// What one node did with the release.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Steps {
    staged: Option<Staged>,
    /// In which wave it activates.
    wave: Option<u32>,
    activated: Option<Activated>,
    verified: Option<Verified>,
    /// In which step it failed, and a word for how.
    failed: Option<(Text, Text)>,
    /// What it went back to, and what is known of that.
    returned: Option<(Seq, Option<Evidence>)>,
    offline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Staged {
    /// Bytes that travelled for it, where that was heard.
    bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Activated {
    at: UnixMillis,
    elapsed_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verified {
    evidence: Option<Evidence>,
    elapsed_ms: Option<u64>,
    /// Whether something says that it is not good.
    doubtful: bool,
}

impl Rollout {
    /// Begins with nothing known.
    #[must_use]
    pub const fn new(release: Seq) -> Self {
        Self {
            release,
            nodes: BTreeMap::new(),
        }
    }

    /// Takes in what happened. What happens to other releases meanwhile is passed over.
    pub fn take(&mut self, event: &Event) {
        let Some(node) = &event.node else { return };
        let own = event.release == Some(self.release);
        let elapsed_ms = event.elapsed_ms;
        if own && event.wave.is_some() {
            self.steps(node).wave = event.wave;
        }
        match event.event {
            EventKind::NodeStaged if own => {
                let bytes = event.bytes;
                self.steps(node).staged = Some(Staged { bytes });
            }
            EventKind::NodeActivated if own => {
                let at = event.at;
                self.steps(node).activated = Some(Activated { at, elapsed_ms });
            }
            EventKind::NodeVerified if own => {
                self.steps(node).verified = Some(Verified {
                    evidence: event.evidence,
                    elapsed_ms,
                    doubtful: event.error.is_some(),
                });
            }
            EventKind::NodeFailed if own => {
                let how = event.error.as_ref();
                let how = how.map(|error| (error.step.clone(), error.kind.clone()));
                self.steps(node).failed = Some(how.unwrap_or_default());
            }
            EventKind::NodeReturned => {
                if let Some(to) = event.release.filter(|to| *to != self.release) {
                    self.steps(node).returned = Some((to, event.evidence));
                }
            }
            EventKind::NodeOffline => self.steps(node).offline = true,
            EventKind::NodeOnline => self.steps(node).offline = false,
            EventKind::ReleasePublished
            | EventKind::StepsMissed
            | EventKind::NodeStaged
            | EventKind::NodeActivated
            | EventKind::NodeVerified
            | EventKind::NodeFailed
            | EventKind::NodeWarned => {}
        }
    }

    fn steps(&mut self, node: &NodeName) -> &mut Steps {
        self.nodes.entry(node.clone()).or_default()
    }

    /// Returns the release.
    #[must_use]
    pub const fn release(&self) -> Seq {
        self.release
    }

    /// Returns who has activated the release.
    pub fn activated(&self) -> impl Iterator<Item = &NodeName> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(name, steps)| steps.activated.map(|_| name))
    }

    /// Returns who went back, where to, and what is known of that.
    pub fn returned(&self) -> impl Iterator<Item = (&NodeName, Seq, Option<Evidence>)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(name, steps)| {
            let (to, evidence) = steps.returned?;
            Some((name, to, evidence))
        })
    }

    /// Returns the table while the rollout goes on, without styles, its last line not ended.
    #[must_use]
    pub fn going_on(&self, now: UnixMillis) -> String {
        let mut table = table();
        for (name, steps) in self.nodes.iter().take(LIVE_ROWS_MAX) {
            let [stage, activate, verify] = steps.cells_now(now);
            table.row([
                name.as_str().into(),
                stage.into(),
                activate.into(),
                verify.into(),
            ]);
        }
        let more = self.nodes.len().saturating_sub(LIVE_ROWS_MAX);
        let end = if more > 0 {
            format!("\n  and {more} more")
        } else {
            String::new()
        };
        format!("rolling out {}\n\n{table}{end}\n", self.release)
    }

    /// Returns the table of a rollout that has ended; nothing where there is no node.
    #[must_use]
    pub fn ended(&self, outcome: &Outcome) -> Option<String> {
        let names: BTreeSet<&NodeName> = self.nodes.keys().chain(outcome.nodes.keys()).collect();
        let mut table = table();
        for name in &names {
            let (unknown, state) = (Steps::default(), outcome.nodes.get(*name).copied());
            let steps = self.nodes.get(*name).unwrap_or(&unknown);
            let name = Cell::from(name.as_str());
            table.row(std::iter::once(name).chain(steps.cells_ended(state)));
        }
        (!names.is_empty()).then(|| table.to_string())
    }
}

fn table() -> Table {
    Table::new(["NODE", "STAGE", "ACTIVATE", "VERIFY"]).indented(2)
}

/// Of a step that was not heard of, only that it happened is known.
fn word_and(word: &str, figure: Option<String>) -> String {
    figure.map_or_else(|| word.to_owned(), |figure| format!("{word} {figure}"))
}

fn time(ms: u64) -> String {
    units::elapsed(Duration::from_millis(ms))
}

impl Steps {
    /// Returns in which step it failed.
    fn failed_in(&self, step: &str) -> Option<&Text> {
        let (failed, kind) = self.failed.as_ref()?;
        (failed.as_str() == step).then_some(kind)
    }

    fn stage(&self) -> Option<String> {
        let step = self.staged?;
        Some(word_and("ok", step.bytes.map(units::bytes)))
    }

    fn activate(&self) -> Option<String> {
        let step = self.activated?;
        Some(word_and("ok", step.elapsed_ms.map(time)))
    }

    fn verify(&self) -> Option<String> {
        let verified = self.verified?;
        let word = verified.evidence.filter(|_| !verified.doubtful);
        let word = word.map_or_else(|| "unproven".to_owned(), |evidence| evidence.to_string());
        Some(word_and(&word, verified.elapsed_ms.map(time)))
    }

    fn waits(&self) -> String {
        match self.wave {
            None | Some(0 | 1) => "waits".to_owned(),
            Some(wave) => format!("waits for wave {wave}"),
        }
    }

    fn cells_now(&self, now: UnixMillis) -> [String; 3] {
        let or_failed = |done: Option<String>, step: &str| {
            done.or_else(|| self.failed_in(step).map(|_| "failed".to_owned()))
        };
        let stage = or_failed(self.stage(), "stage").unwrap_or_else(|| "...".to_owned());
        let activate = or_failed(self.activate(), "activate");
        let activate = activate.or_else(|| self.staged.map(|_| self.waits()));
        let verify = if let Some((to, _)) = self.returned {
            Some(format!("back on {to}"))
        } else if let Some(kind) = self.failed_in("verify") {
            Some(sentence(kind.as_str()))
        } else if self.offline {
            Some("offline".to_owned())
        } else {
            let since = |step: Activated| units::elapsed(since(step.at, now));
            self.verify()
                .or_else(|| self.activated.map(|step| format!("... {}", since(step))))
        };
        [
            stage,
            activate.unwrap_or_default(),
            verify.unwrap_or_default(),
        ]
    }

    fn cells_ended(&self, state: Option<NodeState>) -> [Cell; 3] {
        let cell = |done: Option<String>, step: &str| match (done, self.failed_in(step)) {
            (Some(done), _) => done.into(),
            (None, Some(_)) => Cell::styled("failed", BAD),
            (None, None) => "-".into(),
        };
        let verify = match (self.returned, self.failed_in("verify"), state) {
            (Some((to, _)), _, _) => Cell::styled(format!("back on {to}"), DOUBTFUL),
            (None, Some(kind), _) => Cell::styled(sentence(kind.as_str()), BAD),
            (None, None, Some(NodeState::Live)) => match self.verify() {
                Some(verified) => Cell::styled(verified, GOOD),
                None => Cell::styled("live", GOOD),
            },
            (None, None, Some(state)) => Cell::styled(state.to_string(), style_of(state)),
            (None, None, None) => "-".into(),
        };
        [
            cell(self.stage(), "stage"),
            cell(self.activate(), "activate"),
            verify,
        ]
    }
}

/// Returns one event as a line.
#[must_use]
pub fn event_line(event: &Event) -> String {
    let release = event
        .release
        .map_or_else(String::new, |seq| format!(" {seq}"));
    let node = event
        .node
        .as_ref()
        .map_or_else(|| event.volume.to_string(), ToString::to_string);
    let word = match event.event {
        EventKind::ReleasePublished => "published",
        EventKind::NodeStaged => "staged",
        EventKind::NodeActivated => "activated",
        EventKind::NodeVerified if event.error.is_some() => "cannot prove",
        EventKind::NodeVerified => "verified",
        EventKind::NodeFailed => "failed with",
        EventKind::NodeWarned => "warns of",
        EventKind::NodeReturned => "is back on",
        EventKind::NodeOnline => "is online",
        EventKind::NodeOffline => "is offline",
        EventKind::StepsMissed => "took steps that were missed here; its state tells of them:",
    };
    let bytes = event.bytes.map(units::bytes);
    let evidence = event.evidence.map(|evidence| evidence.to_string());
    let elapsed = event.elapsed_ms.map(time);
    let facts: Vec<String> = [bytes, evidence, elapsed].into_iter().flatten().collect();
    let facts = if facts.is_empty() {
        String::new()
    } else {
        format!(" ({})", facts.join(", "))
    };
    let error = event.error.as_ref().map_or_else(String::new, |error| {
        format!(": {}", sentence(error.message.as_str()))
    });
    format!("{node} {word}{release}{facts}{error}")
}

/// Returns what nodes lack of the packages of a release, a line for those that lack the same and one
/// for what mends it.
#[must_use]
pub fn warning(warning: &DependencyWarning) -> String {
    let named = warning.nodes.iter().map(ToString::to_string);
    let on = listed_of(named, warning.count);
    let mut text = format!("on {on}: {}", sentence(warning.message.as_str()));
    if let Some(hint) = &warning.hint {
        write!(text, "\n  {}", sentence(hint.as_str())).unwrap_or_default();
    }
    text
}

/// Returns what came of a rollout that is done: `Live on 3 of 3 in 4.2s`, and who is missing.
#[must_use]
pub fn done(asked: Seq, outcome: &Outcome, took: Duration) -> String {
    let release = outcome.release;
    let took = units::elapsed(took);
    let mut text = if outcome.nodes.is_empty() {
        format!("{release} is live, but on no server: no node is enrolled (`codevol invite`)")
    } else {
        let states = outcome.nodes.values();
        let live = states.filter(|state| **state == NodeState::Live).count();
        format!("Live on {live} of {} in {took}", outcome.nodes.len())
    };
    if release != asked {
        text = format!("{release} came after {asked}, and is live in its place\n{text}");
    }
    let kinds = [
        (NodeState::Offline, "offline and will catch up"),
        (
            NodeState::Unverified,
            "unverified: `codevol status` says why",
        ),
        (NodeState::Failed, "failed: `codevol status` says why"),
        (
            NodeState::Joining,
            "without a release yet: `codevol status` says why",
        ),
        (NodeState::Behind, "on the way"),
        (NodeState::Staged, "on the way"),
        (NodeState::Activating, "on the way"),
    ];
    let mut words: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
    for (name, state) in &outcome.nodes {
        if *state != NodeState::Live && outcome.held.contains(name) {
            words.entry(HELD).or_default().push(name);
            continue;
        }
        let kind = kinds.iter().find(|(kind, _)| kind == state);
        if let Some((_, word)) = kind {
            words.entry(word).or_default().push(name);
        }
    }
    for (word, names) in words {
        let is = if names.len() == 1 { "is" } else { "are" };
        write!(text, "\n  {} {is} {word}", listed(names)).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests;
