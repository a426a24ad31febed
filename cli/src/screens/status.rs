//! The screen of `codevol status`: what each server serves, on what evidence, and what is not as it
//! should be.

use std::fmt::Write as _;

use codevol_protocol::evidence::CodeServerState;
use codevol_protocol::release::UnixMillis;
use codevol_protocol::status::{
    CodeServerStatus, LinkState, NodeState, NodeStatus, ReleaseStatus, SourceLink, Status,
    VolumeStatus,
};

use super::{BAD, DIM, DOUBTFUL, GOOD, ago, one_line, release, sentence, since, style_of};
use crate::output::table::{Cell, Table};
use crate::output::units;

mod dependencies;
mod health;

/// Where the right end of a volume's line begins.
const LINE_CHARS: usize = 68;

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(status: &Status, now: UnixMillis) -> String {
    let source = status.source.as_ref().map(source_line);
    let volumes = status
        .volumes
        .iter()
        .map(|volume| volume_block(volume, now));
    let mut blocks: Vec<String> = source.into_iter().chain(volumes).collect();
    if status.volumes.is_empty() {
        blocks.push("no volume is configured".to_owned());
    }
    blocks.join("\n\n")
}

/// Returns what this host is found to be like besides, below the screen: a line each.
#[must_use]
pub fn render_host(found: &[String]) -> String {
    let mut text = format!("\n{DIM}# This host{DIM:#}");
    for line in found {
        append(&mut text, &format!("{DIM}#{DIM:#}   {}", sentence(line)));
    }
    text
}

fn source_line(link: &SourceLink) -> String {
    let address = one_line(link.address.as_str());
    let (word, style) = match link.state {
        LinkState::Connected => ("connected", GOOD),
        LinkState::Connecting => (
            "not connected: this server goes on with what it has, and dials again",
            DOUBTFUL,
        ),
        LinkState::Refused => (
            "refused: the source does not know this node's key; `codevol join TOKEN` enrols it anew",
            BAD,
        ),
    };
    format!("source {address}   {style}{word}{style:#}")
}

fn volume_block(volume: &VolumeStatus, now: UnixMillis) -> String {
    let mut text = head_line(volume, now);
    if let Some(rollout) = &volume.rollout {
        let word = phase_word(rollout.phase);
        let time = units::elapsed(since(rollout.started_at, now));
        let (seq, wave, waves) = (rollout.release, rollout.wave, rollout.waves);
        append(
            &mut text,
            &format!("rollout of {seq}: {word}, wave {wave} of {waves}, for {time}"),
        );
    }
    if !volume.nodes.is_empty() {
        append(&mut text, &format!("\n{}", nodes_table(volume, now)));
    }
    let lines = health::lines(volume, now);
    if !lines.is_empty() {
        append(&mut text, &format!("\n{DIM}# Health{DIM:#}"));
        for line in lines {
            append(&mut text, &format!("{DIM}#{DIM:#}   {line}"));
        }
    }
    text
}

fn append(text: &mut String, line: &str) {
    text.push('\n');
    text.push_str(line);
}

fn phase_word(phase: codevol_protocol::status::Phase) -> &'static str {
    use codevol_protocol::status::Phase;
    match phase {
        Phase::Stage => "stages",
        Phase::Activate => "activates",
        Phase::Verify => "verifies",
        Phase::Return => "is taken back",
    }
}

fn head_line(volume: &VolumeStatus, now: UnixMillis) -> String {
    let name = &volume.name;
    let left = volume.release.as_ref().map_or_else(
        || format!("{name}   nothing is published"),
        |release| {
            let (seq, told) = (release.seq, release_line(release, now));
            format!("{name}   {seq}  {told}")
        },
    );
    let mut line = left;
    let right = live_words(volume);
    if !right.is_empty() {
        let chars = line.chars().count();
        let gap = LINE_CHARS.saturating_sub(chars).max(2);
        write!(line, "{:gap$}{right}", "").unwrap_or_default();
    }
    line
}

/// Returns what a release is: `hot-fix by alice, 2h ago, "null customer ids"`.
fn release_line(release: &ReleaseStatus, now: UnixMillis) -> String {
    let by = one_line(release.author.as_str());
    let mut line = format!(
        "{} by {by}, {}",
        release.origin,
        ago(release.created_at, now)
    );
    if !release.message.is_empty() {
        let message = one_line(release.message.as_str());
        write!(line, ", \"{message}\"").unwrap_or_default();
    }
    line
}

fn live_words(volume: &VolumeStatus) -> String {
    let Some(live) = volume.live else {
        return match volume.release {
            Some(_) => "not live yet".to_owned(),
            None => String::new(),
        };
    };
    if volume.nodes.is_empty() {
        return "live on no server".to_owned();
    }
    let there = volume
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Live && node.release == Some(live))
        .count();
    format!("live on {there} of {}", volume.nodes.len())
}

fn nodes_table(volume: &VolumeStatus, now: UnixMillis) -> Table {
    let titles = [
        "NODE",
        "RELEASE",
        "STATE",
        "CODE SERVER",
        "EVIDENCE",
        "LAG",
        "SEEN",
    ];
    let mut table = Table::new(titles).indented(2);
    for node in &volume.nodes {
        table.row(node_cells(node, volume.release.as_ref(), now));
    }
    table
}

fn node_cells(node: &NodeStatus, shown: Option<&ReleaseStatus>, now: UnixMillis) -> [Cell; 7] {
    let offline = node.state == NodeState::Offline;
    let running = match (node.release, shown) {
        (Some(seq), Some(shown)) if shown.seq == seq => release(seq, &shown.id),
        (Some(seq), _) => seq.to_string(),
        (None, _) => "-".to_owned(),
    };
    let servers = if offline {
        "?".to_owned()
    } else {
        code_servers(&node.code_servers)
    };
    let evidence = node.evidence.filter(|_| !offline);
    [
        node.name.as_str().into(),
        running.into(),
        Cell::styled(node.state.to_string(), style_of(node.state)),
        servers.into(),
        evidence
            .map_or_else(|| "-".to_owned(), |e| e.to_string())
            .into(),
        match node.lag {
            0 => "-".into(),
            lag => lag.to_string().into(),
        },
        match node.last_seen_at {
            Some(at) => ago(at, now).into(),
            None => "never".into(),
        },
    ]
}

/// Returns the worst of the code servers, and how many are so; where all are well, how long the
/// slowest load took.
fn code_servers(servers: &[CodeServerStatus]) -> String {
    let severity = |state: CodeServerState| match state {
        CodeServerState::Good => 0,
        CodeServerState::Unproven => 1,
        CodeServerState::Stuck => 2,
        CodeServerState::Broken => 3,
    };
    let Some(worst) = servers.iter().map(|s| s.state).max_by_key(|s| severity(*s)) else {
        return "-".to_owned();
    };
    let all = servers.len();
    let alike = servers.iter().filter(|s| s.state == worst).count();
    let word = match worst {
        CodeServerState::Good => {
            let slowest = servers.iter().filter_map(|s| s.load_ms).max();
            slowest.map_or_else(
                || "loaded".to_owned(),
                |ms| {
                    let time = units::elapsed(std::time::Duration::from_millis(ms));
                    format!("loaded in {time}")
                },
            )
        }
        CodeServerState::Broken | CodeServerState::Unproven | CodeServerState::Stuck => {
            worst.to_string()
        }
    };
    match (all, alike) {
        (1, _) => word,
        (all, alike) if all == alike => format!("{all} {word}"),
        (all, alike) => format!("{alike} of {all} {word}"),
    }
}

#[cfg(test)]
mod tests;
