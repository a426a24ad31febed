//! The screen and the document of `codevol verify`: what each node found on its disk, and what its
//! code servers say that they loaded.

use std::time::Duration;

use anstyle::Style;
use codevol_protocol::drift::{Answer, Looked, NodeVerified, SourceVerified, Verified};
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::id::BlobId;
use codevol_protocol::message::CodeServerReport;
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::release::Seq;
use codevol_protocol::status::{CodeServerStatus, Drift, DriftKind};
use serde::Serialize;

use super::{BAD, DIM, DOUBTFUL, GOOD, listed, sentence};
use crate::exit::ExitStatus;
use crate::output::table::{Cell, Table};
use crate::output::units;

/// How many paths of a node are shown; the document has more.
const PATHS_MAX: usize = 20;

/// How a node stands, by what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeStanding {
    /// Its disk is as released, and its code servers serve that.
    Clean,
    /// Its disk is not.
    Drifted,
    /// Its disk is, and its code servers do not serve that, or it cannot be told.
    Unverified,
    /// It could not look at all of it.
    Failed,
    /// It is not connected.
    Offline,
    /// It did not answer in time.
    Silent,
    /// Its build cannot be asked.
    TooOld,
}

impl NodeStanding {
    fn of(node: &NodeVerified) -> Self {
        let Some(looked) = &node.looked else {
            return match node.answer {
                Answer::Offline => Self::Offline,
                Answer::TooOld => Self::TooOld,
                Answer::Answered | Answer::Silent => Self::Silent,
            };
        };
        let verdict = looked.verification.as_ref().map(|v| v.verdict);
        if !looked.drifted.is_empty() {
            Self::Drifted
        } else if looked.failure.is_some() {
            Self::Failed
        } else if verdict.is_some_and(|verdict| verdict != Verdict::Good) {
            Self::Unverified
        } else {
            Self::Clean
        }
    }

    const fn was_asked(self) -> bool {
        match self {
            Self::Clean | Self::Drifted | Self::Unverified | Self::Failed => true,
            Self::Offline | Self::Silent | Self::TooOld => false,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Drifted => "drifted",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
            Self::Offline => "offline",
            Self::Silent => "silent",
            Self::TooOld => "too old",
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Clean => GOOD,
            Self::Drifted => BAD,
            Self::Unverified | Self::Failed | Self::Offline | Self::Silent | Self::TooOld => {
                DOUBTFUL
            }
        }
    }
}

/// What a verification comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether something differs anywhere.
    pub has_drift: bool,
    all: usize,
    asked: usize,
    is_whole: bool,
}

impl Standing {
    /// Sums up what was found.
    #[must_use]
    pub fn of(nodes: &[NodeVerified], verified: &Verified) -> Self {
        let standings: Vec<NodeStanding> = nodes.iter().map(NodeStanding::of).collect();
        let source = verified.source.as_ref();
        let drifts = standings.contains(&NodeStanding::Drifted);
        let is_clean = |standing: &NodeStanding| *standing == NodeStanding::Clean;
        Self {
            has_drift: drifts || source.is_some_and(|source| !source.is_whole()),
            all: nodes.len(),
            asked: standings.iter().filter(|s| s.was_asked()).count(),
            is_whole: standings.iter().all(is_clean)
                && source.is_none_or(|source| source.failure.is_none()),
        }
    }

    /// Returns the exit status that says so.
    #[must_use]
    pub const fn exit(self) -> ExitStatus {
        if self.has_drift {
            ExitStatus::Drift
        } else if self.all > 0 && self.asked == 0 {
            ExitStatus::Unreachable
        } else if self.is_whole {
            ExitStatus::Done
        } else {
            ExitStatus::Partial
        }
    }
}

/// What was found on one node, for scripts. Every key is always there.
#[derive(Debug, Serialize)]
pub struct NodeDocument<'a> {
    name: &'a NodeName,
    state: NodeStanding,
    release: Option<Seq>,
    releases: Option<u64>,
    files: Option<u64>,
    bytes: Option<u64>,
    elapsed_ms: Option<u64>,
    drift: &'a [Drift],
    drift_more: u64,
    evidence: Option<Evidence>,
    code_servers: Vec<CodeServerStatus>,
    error: Option<ErrorDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct ErrorDocument<'a> {
    kind: &'a Text,
    message: &'a Text,
    hint: Option<&'a Text>,
}

impl<'a> NodeDocument<'a> {
    /// Describes what was found.
    #[must_use]
    pub fn of(node: &'a NodeVerified) -> Self {
        let looked = node.looked.as_ref();
        let verification = looked.and_then(|looked| looked.verification.as_ref());
        let failure = looked.and_then(failure);
        let servers: &[CodeServerReport] = verification.map_or(&[], |v| &v.code_servers);
        Self {
            name: &node.name,
            state: NodeStanding::of(node),
            release: looked.and_then(|looked| Some(looked.active?.0)),
            releases: looked.map(|looked| looked.releases),
            files: looked.map(|looked| looked.files),
            bytes: looked.map(|looked| looked.bytes),
            elapsed_ms: looked.map(|looked| looked.elapsed_ms),
            drift: looked.map_or(&[], |looked| &looked.drifted.paths),
            drift_more: looked.map_or(0, |looked| looked.drifted.more),
            evidence: verification.map(|verification| verification.evidence),
            code_servers: servers.iter().map(CodeServerStatus::from).collect(),
            error: failure.map(|failure| ErrorDocument {
                kind: &failure.kind,
                message: &failure.message,
                hint: failure.hint.as_ref(),
            }),
        }
    }
}

/// What was found in the source's store, for scripts.
#[derive(Debug, Serialize)]
pub struct SourceDocument<'a> {
    blobs: u64,
    damaged: &'a [BlobId],
    damaged_more: u64,
    missing: &'a [BlobId],
    missing_more: u64,
    error: Option<&'a Text>,
}

impl<'a> SourceDocument<'a> {
    /// Describes what was found.
    #[must_use]
    pub fn of(source: &'a SourceVerified) -> Self {
        Self {
            blobs: source.blobs,
            damaged: &source.damaged,
            damaged_more: source.damaged_more,
            missing: &source.missing,
            missing_more: source.missing_more,
            error: source.failure.as_ref(),
        }
    }
}

/// Returns why a node could not look, or what its code servers are at fault with.
fn failure(looked: &Looked) -> Option<&codevol_protocol::message::Failure> {
    let verification = looked.verification.as_ref();
    let of_servers = verification.and_then(|verification| verification.failure.as_ref());
    looked.failure.as_ref().or(of_servers)
}

/// Returns one node's result on a line, for where each event is one.
#[must_use]
pub fn node_line(node: &NodeVerified) -> String {
    let standing = NodeStanding::of(node);
    match &node.looked {
        Some(looked) if standing == NodeStanding::Drifted => {
            let paths = count(looked.drifted.count(), "path", "paths");
            format!("{} {}: {paths}", node.name, standing.word())
        }
        Some(_) | None => format!("{} {}", node.name, standing.word()),
    }
}

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(nodes: &[NodeVerified], verified: &Verified) -> String {
    let mut blocks = vec![summary(nodes, verified)];
    if !nodes.is_empty() {
        blocks.push(table(nodes));
    }
    blocks.extend(nodes.iter().filter_map(drift_block));
    let notes: Vec<String> = nodes.iter().filter_map(note).collect();
    if !notes.is_empty() {
        blocks.push(notes.join("\n"));
    }
    blocks.extend(verified.source.as_ref().map(source_block));
    blocks.join("\n\n")
}

fn summary(nodes: &[NodeVerified], verified: &Verified) -> String {
    let volume = &verified.volume;
    if nodes.is_empty() {
        return format!("{volume}   no node is enrolled");
    }
    let standings: Vec<NodeStanding> = nodes.iter().map(NodeStanding::of).collect();
    let of = |wanted: NodeStanding| standings.iter().filter(|s| **s == wanted).count();
    let all = nodes.len();
    let drifted = of(NodeStanding::Drifted);
    let word = if drifted > 0 {
        format!("{BAD}drift on {drifted} of {all}{BAD:#}")
    } else {
        format!("as released on {} of {all}", of(NodeStanding::Clean))
    };
    let what = if verified.deep {
        "every release that is held"
    } else {
        "the release that each node runs"
    };
    format!("{volume}   {word}   {DIM}{what}{DIM:#}")
}

fn table(nodes: &[NodeVerified]) -> String {
    let titles = [
        "NODE",
        "RELEASE",
        "DISK",
        "CODE SERVER",
        "EVIDENCE",
        "LOOKED AT",
    ];
    let mut table = Table::new(titles).indented(2);
    for node in nodes {
        let standing = NodeStanding::of(node);
        let looked = node.looked.as_ref();
        let dash = || "-".to_owned();
        let verification = looked.and_then(|looked| looked.verification.as_ref());
        let cells: [Cell; 6] = [
            node.name.as_str().into(),
            looked
                .and_then(|looked| looked.active)
                .map_or_else(dash, |(seq, _)| seq.to_string())
                .into(),
            Cell::styled(standing.word(), standing.style()),
            verification
                .map_or_else(dash, |verification| servers(&verification.code_servers))
                .into(),
            verification
                .map_or_else(dash, |verification| verification.evidence.to_string())
                .into(),
            looked.map_or_else(dash, looked_at).into(),
        ];
        table.row(cells);
    }
    table.to_string()
}

/// Returns the states of code servers: `good`, `2 good`, `good and stuck`.
fn servers(servers: &[CodeServerReport]) -> String {
    match servers {
        [] => "-".to_owned(),
        [one] => one.state.to_string(),
        [first, rest @ ..] if rest.iter().all(|s| s.state == first.state) => {
            format!("{} {}", servers.len(), first.state)
        }
        all => listed(all.iter().map(|server| server.state)),
    }
}

fn looked_at(looked: &Looked) -> String {
    let files = count(looked.files, "file", "files");
    let time = units::elapsed(Duration::from_millis(looked.elapsed_ms));
    let read = units::bytes(looked.bytes);
    match looked.releases {
        0 | 1 => format!("{files}, {read} in {time}"),
        releases => {
            let releases = count(releases, "release", "releases");
            format!("{files} of {releases}, {read} in {time}")
        }
    }
}

fn drift_block(node: &NodeVerified) -> Option<String> {
    let looked = node.looked.as_ref()?;
    if looked.drifted.is_empty() {
        return None;
    }
    let name = &node.name;
    let active = looked.active.map(|(seq, _)| seq);
    let mut lines = vec![format!(
        "drift on {name}; `codevol diff --node {name}` shows how"
    )];
    let shown = looked.drifted.paths.iter().take(PATHS_MAX);
    lines.extend(shown.map(|drift| format!("  {}", path(drift, active))));
    let listed = lines.len().saturating_sub(1) as u64;
    let rest = looked.drifted.count().saturating_sub(listed);
    if rest > 0 {
        lines.push(format!("  and {rest} more"));
    }
    Some(lines.join("\n"))
}

fn path(drift: &Drift, active: Option<Seq>) -> String {
    let style = match drift.kind {
        DriftKind::Changed | DriftKind::Missing | DriftKind::Flipped => BAD,
        DriftKind::Foreign => DOUBTFUL,
    };
    let release = match drift.release {
        release if Some(release) == active => String::new(),
        release => format!("{release} "),
    };
    let path = sentence(drift.path.as_str());
    format!("{style}{:<8}{style:#} {release}{path}", drift.kind.as_str())
}

/// Says why a node is not clean though nothing drifts.
fn note(node: &NodeVerified) -> Option<String> {
    let name = &node.name;
    let standing = NodeStanding::of(node);
    let failure = node.looked.as_ref().and_then(failure);
    let said = failure.map_or_else(
        || "it says no more".to_owned(),
        |failure| match &failure.hint {
            Some(hint) => {
                let (message, hint) = (failure.message.as_str(), hint.as_str());
                format!("{}; {}", sentence(message), sentence(hint))
            }
            None => sentence(failure.message.as_str()),
        },
    );
    match standing {
        NodeStanding::Clean | NodeStanding::Drifted => None,
        NodeStanding::Unverified => Some(format!("{name}: its code server is not good: {said}")),
        NodeStanding::Failed => Some(format!("{name} could not look at all of it: {said}")),
        NodeStanding::Offline => Some(format!("{name} is not connected")),
        NodeStanding::Silent => Some(format!("{name} did not answer in time")),
        NodeStanding::TooOld => Some(format!(
            "{name} runs a build that cannot be asked; update it"
        )),
    }
}

fn source_block(source: &SourceVerified) -> String {
    let blobs = count(source.blobs, "blob", "blobs");
    let mut lines = vec![format!("source  {blobs} read")];
    let mut list = |what: &str, named: &[BlobId], more: u64| {
        let all = more.saturating_add(named.len() as u64);
        if all > 0 {
            let named = listed(named.iter().map(BlobId::short));
            lines.push(format!("  {BAD}{all} {what}{BAD:#}: {named}"));
        }
    };
    list("damaged", &source.damaged, source.damaged_more);
    list("missing", &source.missing, source.missing_more);
    if !source.is_whole() {
        lines.push(
            "  releases with these files cannot be sent any more: restore the source's state folder from a backup"
                .to_owned(),
        );
    }
    if let Some(failure) = &source.failure {
        let why = sentence(failure.as_str());
        lines.push(format!("  not all of it was read: {why}"));
    }
    lines.join("\n")
}

fn count(number: u64, one: &str, many: &str) -> String {
    units::count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

#[cfg(test)]
mod tests;
