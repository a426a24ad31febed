//! The screens of one release's story, and of what ran where at a moment.

use anstyle::Style;
use codevol_protocol::release::UnixMillis;
use codevol_protocol::story::{AtTime, Ran, Step, StepKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{BAD, DOUBTFUL, GOOD, one_line, sentence};
use crate::output::table::{Cell, Table};
use crate::output::units;

/// Returns the steps as a table, its last line not ended. Times are those of this machine's zone.
#[must_use]
pub fn steps(steps: &[Step], steps_cut: u64, zone: &TimeZone) -> String {
    if steps.is_empty() {
        return "the journal says nothing of it".to_owned();
    }
    let mut table = Table::new(["WHEN", "NODE", "STEP", "EVIDENCE", "BY", ""]);
    let middle = steps.len() / 2;
    for (index, step) in steps.iter().enumerate() {
        if steps_cut > 0 && index == middle {
            let cut = format!("{steps_cut} more steps are not shown");
            table.row(["...".into(), "".into(), cut.into()]);
        }
        table.row(row(step, zone));
    }
    table.to_string()
}

fn row(step: &Step, zone: &TimeZone) -> [Cell; 6] {
    let (word, style) = word(step.step);
    let word = match (step.step, step.release) {
        (StepKind::Returned | StepKind::Live, Some(release)) => format!("{word} {release}"),
        _ => word.to_owned(),
    };
    let by = step.by.as_str();
    [
        moment(step.at, zone).into(),
        step.node
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
            .into(),
        Cell::styled(word, style),
        step.evidence
            .map_or_else(String::new, |evidence| evidence.to_string())
            .into(),
        if by == "codevol" {
            String::new()
        } else {
            one_line(by)
        }
        .into(),
        step.detail
            .as_ref()
            .map_or_else(String::new, |detail| sentence(detail.as_str()))
            .into(),
    ]
}

const fn word(step: StepKind) -> (&'static str, Style) {
    let plain = Style::new();
    match step {
        StepKind::Published => ("published", plain),
        StepKind::Held => ("held", DOUBTFUL),
        StepKind::Noted => ("noted", plain),
        StepKind::Staged => ("staged", plain),
        StepKind::Activated => ("activated", plain),
        StepKind::Verified => ("verified", GOOD),
        StepKind::Unproven => ("unproven", DOUBTFUL),
        StepKind::Broken => ("broken", BAD),
        StepKind::Missing => ("sent anew", DOUBTFUL),
        StepKind::Failed => ("failed", BAD),
        StepKind::Returned => ("back on", DOUBTFUL),
        StepKind::Quarantined => ("quarantined", BAD),
        StepKind::Live => ("live moved to", GOOD),
        StepKind::RolloutDone => ("rollout done", GOOD),
        StepKind::RolloutFailed => ("rollout failed", BAD),
        StepKind::RolledBack => ("rolled back", DOUBTFUL),
        StepKind::Retried => ("retried", plain),
        StepKind::Frozen => ("frozen", DOUBTFUL),
        StepKind::Thawed => ("thawed", plain),
        StepKind::NodeHeld => ("held there", DOUBTFUL),
        StepKind::NodeThawed => ("held no more", plain),
    }
}

/// Returns what ran where, its last line not ended.
#[must_use]
pub fn at(at: &AtTime, zone: &TimeZone) -> String {
    let live = at
        .live
        .map_or_else(|| "nothing".to_owned(), |live| live.to_string());
    let frozen = at.frozen_by.as_ref().map_or_else(String::new, |by| {
        format!(", frozen by {}", one_line(by.as_str()))
    });
    let head = format!(
        "{} at {}: {live} live{frozen}",
        at.volume,
        moment(at.at, zone)
    );
    if at.nodes.is_empty() {
        return format!("{head}\nno node ran anything");
    }
    let mut table =
        Table::new(["NODE", "RELEASE", "SINCE", "FOUND", "EVIDENCE", "LINK"]).indented(2);
    for ran in &at.nodes {
        table.row(ran_row(ran, zone));
    }
    format!("{head}\n\n{table}")
}

fn ran_row(ran: &Ran, zone: &TimeZone) -> [Cell; 6] {
    let found = ran.found.as_ref().map_or("", |found| found.as_str());
    let style = match found {
        "good" => GOOD,
        "broken" => BAD,
        _ => DOUBTFUL,
    };
    [
        ran.node.as_str().into(),
        ran.release
            .map_or_else(|| "none".to_owned(), |release| release.to_string())
            .into(),
        moment(ran.since, zone).into(),
        Cell::styled(found, style),
        ran.evidence
            .map_or_else(String::new, |evidence| evidence.to_string())
            .into(),
        link_words(ran).into(),
    ]
}

fn link_words(ran: &Ran) -> String {
    let away = (!ran.online).then(|| "offline".to_owned());
    let held = ran.held_by.as_ref();
    let held = held.map(|by| format!("held by {}", one_line(by.as_str())));
    Vec::from_iter(away.into_iter().chain(held)).join(", ")
}

/// Returns what is doubtful about the answer, a sentence each.
#[must_use]
pub fn doubts(at: &AtTime) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(line) = at.set_back {
        doubts.push(format!(
            "the source's clock was set back behind that time after line {line} of the journal: \
             this is the later of the two moments"
        ));
    }
    let away = at.nodes.iter().filter(|ran| !ran.online);
    let away: Vec<&str> = away.map(|ran| ran.node.as_str()).collect();
    if !away.is_empty() {
        let (away, was) = (
            away.join(", "),
            if away.len() == 1 { "was" } else { "were" },
        );
        doubts.push(format!(
            "{away} {was} out of touch: that is what the source had heard last; what was done there \
             meanwhile, `codevol log REL` tells with the time"
        ));
    }
    doubts.extend(gone(at.journal_first));
    doubts
}

/// Returns what is to be said where the journal's oldest lines are not there any more.
#[must_use]
pub fn gone(first: Option<u64>) -> Option<String> {
    let gone = first
        .and_then(|first| first.checked_sub(1))
        .filter(|gone| *gone > 0)?;
    let lines = units::count(usize::try_from(gone).unwrap_or(usize::MAX), "line", "lines");
    Some(format!(
        "the journal's oldest {lines} are gone: what only they said is missing"
    ))
}

/// Returns a moment to the millisecond: `2026-11-17 14:00:00.250`.
fn moment(at: UnixMillis, zone: &TimeZone) -> String {
    let timestamp = i64::try_from(at.0)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX);
    let local = timestamp.to_zoned(zone.clone());
    local.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests;
