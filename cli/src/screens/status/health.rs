//! What is not as it should be with a volume, each with what becomes of it or mends it.

use codevol_protocol::name::NodeName;
use codevol_protocol::release::{Git, Origin, Seq, UnixMillis};
use codevol_protocol::status::{
    AskedAt, Drift, HoldStatus, NodeState, NodeStatus, NotInGit, ReleaseStatus, VolumeStatus,
    WatchState, WatchStatus,
};

use super::super::{LISTED_MAX, ago, listed, one_line, sentence, since};
use super::dependencies;
use crate::output::units;

/// Returns the lines, the most pressing first.
pub(super) fn lines(volume: &VolumeStatus, now: UnixMillis) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(volume.frozen.as_ref().map(|frozen| {
        let (by, why) = (one_line(frozen.by.as_str()), sentence(frozen.why.as_str()));
        let when = ago(frozen.at, now);
        format!("frozen by {by}, {when}: {why}; `codevol thaw` ends it")
    }));
    lines.extend(
        volume
            .nodes
            .iter()
            .flat_map(|node| node_lines(node, volume, now)),
    );
    lines.extend(dependencies::lines(volume));
    lines.extend(quarantined(volume));
    lines.extend(stays(volume));
    lines.extend(not_live(volume));
    lines.extend(skipped(volume));
    lines.extend(volume.watch.as_ref().and_then(watch));
    lines.extend(volume.release.as_ref().and_then(git));
    lines.extend(volume.not_in_git.iter().map(hot_fix));
    if volume.nodes.is_empty() {
        lines.push("no node is enrolled; `codevol invite` makes a token for one".to_owned());
    }
    lines
}

fn node_lines(node: &NodeStatus, volume: &VolumeStatus, now: UnixMillis) -> Vec<String> {
    let name = &node.name;
    let mut lines = Vec::new();
    match node.state {
        NodeState::Offline => lines.push(offline(node, volume, now)),
        NodeState::Unverified => {
            let runs = node
                .release
                .map_or_else(|| "its release".to_owned(), |seq| seq.to_string());
            let why = why(node).unwrap_or_else(|| "no evidence yet".to_owned());
            lines.push(format!("{name} runs {runs}, but nothing proves it: {why}"));
        }
        NodeState::Failed => {
            let why = why(node).unwrap_or_else(|| "it says no more".to_owned());
            lines.push(format!("{name} failed: {why}"));
        }
        NodeState::Joining if node.last_seen_at.is_none() => lines.push(format!(
            "{name} has joined and was never seen: `codevol agent` on its host connects it"
        )),
        NodeState::Joining | NodeState::Behind | NodeState::Staged | NodeState::Activating => {
            lines.extend(kept_from(node, volume));
        }
        NodeState::Live => {}
    }
    lines.extend(node.held.as_ref().map(|hold| held(name, hold, now)));
    lines.extend(drift(node));
    lines
}

/// Says what keeps a node from the release that it is to run, or from the newest one.
fn kept_from(node: &NodeStatus, volume: &VolumeStatus) -> Option<String> {
    let error = node.error.as_ref()?;
    let (name, seq, step) = (&node.name, error.release, one_line(error.step.as_str()));
    let is_wanted = volume.live == Some(seq) || volume.head == Some(seq);
    // What is broken is said below, of the release.
    let is_broken = volume.quarantined.iter().any(|entry| entry.release == seq);
    let is_past = node.release == Some(seq) || step == "stage" && node.staged.contains(&seq);
    (is_wanted && !is_broken && !is_past)
        .then(|| why(node))
        .flatten()
        .map(|why| format!("{name} has not got {seq}, in step {step}: {why}"))
}

fn held(name: &NodeName, hold: &HoldStatus, now: UnixMillis) -> String {
    let (seq, when) = (hold.release, ago(hold.at, now));
    let (by, why) = (one_line(hold.by.as_str()), sentence(hold.why.as_str()));
    let at = match hold.asked_at {
        AskedAt::Source => "",
        AskedAt::Node => " on its own host",
    };
    format!(
        "{name} is held on {seq} by {by}{at}, {when}: {why}; rollouts leave it out until `codevol thaw --node {name}`"
    )
}

fn drift(node: &NodeStatus) -> Option<String> {
    let (name, listed_all) = (&node.name, node.drift.len());
    let more = usize::try_from(node.drift_more).unwrap_or(usize::MAX);
    let all = listed_all.saturating_add(more);
    if all == 0 {
        return None;
    }
    let differ = units::count(all, "path is", "paths are");
    let mut paths: Vec<String> = node
        .drift
        .iter()
        .take(LISTED_MAX)
        .map(|drift| drifted(drift, node.release))
        .collect();
    if all > paths.len() {
        paths.push(format!("{} more", all - paths.len()));
    }
    let paths = match paths.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => paths.concat(),
    };
    Some(format!(
        "on {name} {differ} not as released: {paths}; `codevol diff --node {name}` shows how"
    ))
}

fn drifted(drift: &Drift, active: Option<Seq>) -> String {
    let release = match drift.release {
        release if Some(release) == active => String::new(),
        release => format!("{release} "),
    };
    let path = sentence(drift.path.as_str());
    format!("{release}{path} ({})", drift.kind.as_str())
}

fn offline(node: &NodeStatus, volume: &VolumeStatus, now: UnixMillis) -> String {
    let name = &node.name;
    let seen = node.last_seen_at.map_or_else(
        || format!("{name} was never seen"),
        |at| {
            let ago = units::ago(since(at, now));
            match ago.strip_suffix(" ago") {
                Some(time) => format!("{name} has not been seen for {time}"),
                None => format!("{name} went away just now"),
            }
        },
    );
    match volume.live {
        Some(live) if node.release != Some(live) && node.held.is_none() => {
            format!("{seen}; it will catch up to {live} when it returns")
        }
        Some(_) | None => seen,
    }
}

fn why(node: &NodeStatus) -> Option<String> {
    let error = node.error.as_ref()?;
    let mut text = sentence(error.message.as_str());
    if let Some(location) = &error.location {
        text = format!("{}: {text}", sentence(location.as_str()));
    }
    if let Some(hint) = &error.hint {
        text = format!("{text}; {}", sentence(hint.as_str()));
    }
    Some(text)
}

/// The newest ones: a release that was found broken long ago matters to nobody.
fn quarantined(volume: &VolumeStatus) -> impl Iterator<Item = String> {
    let newest = volume.quarantined.iter().rev().take(LISTED_MAX);
    newest.map(|entry| {
        let (seq, node) = (entry.release, &entry.node);
        let message = sentence(entry.message.as_str());
        let colon = if message.is_empty() { "" } else { ": " };
        format!("{seq} is broken on {node}{colon}{message}; `codevol retry {seq}` tries it again")
    })
}

/// Names who was left on a broken release by a rollout that stopped there.
fn stays(volume: &VolumeStatus) -> impl Iterator<Item = String> {
    let newest = volume.quarantined.iter().rev().take(LISTED_MAX);
    newest.filter_map(|entry| {
        let seq = entry.release;
        let stays = |node: &&NodeStatus| {
            node.state == NodeState::Behind && node.release == Some(seq) && node.held.is_none()
        };
        let names: Vec<_> = volume.nodes.iter().filter(stays).map(|n| &n.name).collect();
        let stay = if names.len() == 1 { "stays" } else { "stay" };
        (!names.is_empty()).then(|| {
            format!("{} {stay} on {seq}, as the rollout was to stop; `codevol retry {seq}`, or push what mends it", listed(names))
        })
    })
}

/// Says why the newest release is not live, where nothing else does.
fn not_live(volume: &VolumeStatus) -> Option<String> {
    let head = volume.head.filter(|head| volume.live != Some(*head))?;
    let runs = volume.rollout.as_ref().is_some_and(|r| r.release == head);
    let broken = volume.quarantined.iter().any(|entry| entry.release == head);
    if !volume.waits_for.is_empty() {
        let away = listed(&volume.waits_for);
        return Some(format!(
            "{head} waits for {away}: `require_online` is \"all\"; `codevol node rm` for one that is gone for good"
        ));
    }
    if runs || broken {
        return None;
    }
    Some(if volume.frozen.is_some() {
        format!("{head} is published, and waits for a thaw")
    } else {
        format!("{head} is published, but not live; `codevol retry {head}` rolls it out")
    })
}

fn skipped(volume: &VolumeStatus) -> Option<String> {
    let skipped = &volume.skipped;
    if skipped.is_empty() {
        return None;
    }
    let count = units::count(skipped.len(), "path is", "paths are");
    let paths = listed(skipped.iter().map(|skipped| {
        let (path, why) = (
            sentence(skipped.path.as_str()),
            sentence(skipped.why.as_str()),
        );
        format!("`{path}` ({why})")
    }));
    Some(format!("{count} in no release: {paths}"))
}

fn watch(watch: &WatchStatus) -> Option<String> {
    let advice = watch
        .advice
        .as_ref()
        .map(|advice| sentence(advice.as_str()));
    let (missed, polled) = (
        "the watcher may have missed changes; the next rescan finds them",
        "the tree is polled: a change is seen up to a second late",
    );
    match (watch.state, advice) {
        (WatchState::Ok, advice) => advice,
        (WatchState::Unsure, None) => Some(missed.to_owned()),
        (WatchState::Unsure, Some(why)) => Some(format!("the tree is not published: {why}")),
        (WatchState::Polling, None) => Some(polled.to_owned()),
        (WatchState::Polling, Some(advice)) => Some(format!("{polled}; {advice}")),
    }
}

/// Of a hot-fix the source says by itself how long it is not in git.
fn git(release: &ReleaseStatus) -> Option<String> {
    let is_hot_fix = release.origin == Origin::HotFix;
    let git = release
        .git
        .as_ref()
        .filter(|git| git.dirty && !is_hot_fix)?;
    Some(format!("{} is not in git{}", release.seq, stood(git)))
}

fn hot_fix(fix: &NotInGit) -> String {
    let stood = fix.git.as_ref().map_or_else(String::new, stood);
    format!("{} is a hot-fix that is not in git{stood}", fix.release)
}

fn stood(git: &Git) -> String {
    let commit: String = one_line(git.commit.as_str()).chars().take(7).collect();
    let dirty = if git.dirty { ", dirty" } else { "" };
    format!(" ({commit}{dirty})")
}
