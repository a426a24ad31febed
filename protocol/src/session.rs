//! The session machines: what may follow what on a control stream, seen from either end. They only
//! judge; what a message means is decided by those who get it. No IO, no clock.
//!
//! ```text
//!   agent                    source
//!     | Hello{held, active} ->  |
//!     |  <- Hello, Trust        |
//!     |  <- Push (own stream)   |
//!     | Report{Staged} ->       |   or Refused, StageFailed, Missing
//!     |  <- Activate            |
//!     | Report{Activated} ->    |
//!     | Report{Verified} ->     |
//! ```

use std::collections::BTreeSet;

use crate::dependency;
use crate::drift::{DriftReport, at_most};
use crate::hold::HoldReport;
use crate::id::ReleaseId;
use crate::limits::{
    DRIFT_MAX, HELD_MAX, HOLD_TEXT_BYTES_MAX, IGNORE_RULES_BYTES_MAX, MISSING_MAX, PINGS_MAX,
    VOLUMES_MAX,
};
use crate::message::{AgentHello, FromAgent, FromSource, Report, Step};
use crate::name::VolumeName;
use crate::violation::Violation;

/// Judges what an agent says: the source's end of a session.
#[derive(Debug, Default)]
pub struct SourceSession {
    state: SourceState,
    /// Pings that were not answered yet.
    pings: BTreeSet<u64>,
}

#[derive(Debug, Default)]
enum SourceState {
    /// Nothing was said yet.
    #[default]
    Fresh,
    /// Hello was said.
    Greeted {
        volumes: BTreeSet<VolumeName>,
        /// What the agent holds, said to hold or was pushed.
        known: BTreeSet<ReleaseId>,
        /// Of these, what it has reported as staged, or held from the start.
        staged: BTreeSet<ReleaseId>,
    },
}

impl SourceSession {
    /// Notes that the source pushes a release: the agent may speak of it from now on.
    pub fn pushed(&mut self, release: ReleaseId) {
        if let SourceState::Greeted { known, .. } = &mut self.state {
            known.insert(release);
        }
    }

    /// Notes that the source pings: the agent may answer that once. Says no where as many as may be
    /// wait for their answer.
    pub fn pinged(&mut self, nonce: u64) -> bool {
        self.pings.len() < PINGS_MAX && self.pings.insert(nonce)
    }

    /// Judges one message.
    ///
    /// # Errors
    /// When the message breaks a rule; the connection is to be closed.
    pub fn handle(&mut self, message: &FromAgent) -> Result<(), Violation> {
        match (&mut self.state, message) {
            (SourceState::Fresh, FromAgent::Hello(hello)) => {
                self.state = greet(hello)?;
                Ok(())
            }
            (SourceState::Fresh, _) => Err(Violation::NotGreeted),
            (SourceState::Greeted { .. }, FromAgent::Pong { nonce }) => {
                let asked = self.pings.remove(nonce);
                asked.then_some(()).ok_or(Violation::UnaskedPong)
            }
            (SourceState::Greeted { .. }, FromAgent::Hello(_)) => Err(Violation::RepeatedHello),
            (
                SourceState::Greeted {
                    volumes,
                    known,
                    staged,
                },
                message,
            ) => judge(message, volumes, known, staged),
        }
    }
}

fn greet(hello: &AgentHello) -> Result<SourceState, Violation> {
    at_most("volumes", hello.volumes.len(), VOLUMES_MAX)?;
    let mut volumes = BTreeSet::new();
    let mut known = BTreeSet::new();
    for volume in &hello.volumes {
        at_most("held", volume.held.len(), HELD_MAX)?;
        volumes.insert(volume.volume.clone());
        known.extend(volume.held.iter().copied());
        known.extend(volume.active.as_ref().map(|active| active.release));
    }
    Ok(SourceState::Greeted {
        volumes,
        staged: known.clone(),
        known,
    })
}

fn judge(
    message: &FromAgent,
    volumes: &BTreeSet<VolumeName>,
    known: &BTreeSet<ReleaseId>,
    staged: &mut BTreeSet<ReleaseId>,
) -> Result<(), Violation> {
    let in_session = |volume: &VolumeName| {
        if volumes.contains(volume) {
            Ok(())
        } else {
            Err(Violation::UnknownVolume(volume.clone()))
        }
    };
    match message {
        FromAgent::Hello(_) => Err(Violation::RepeatedHello),
        FromAgent::Pong { .. } => Err(Violation::UnaskedPong),
        // Whether that key may be had, the door knows.
        FromAgent::Rotate { .. } => Ok(()),
        FromAgent::Held {
            volume,
            added,
            removed,
        } => {
            in_session(volume)?;
            judge_held(added, removed, known, staged)
        }
        FromAgent::Refused {
            volume, release, ..
        } => {
            in_session(volume)?;
            is_known(known, release)
        }
        // It may hold releases that it did not name in its hello: such as it refuses.
        FromAgent::Rules { volume, .. } => in_session(volume),
        FromAgent::Missing { volume, blobs, .. } => {
            in_session(volume)?;
            at_most("missing", blobs.len(), MISSING_MAX)
        }
        FromAgent::Environments {
            volume,
            environments,
        } => in_session(volume).and_then(|()| dependency::environments_within(environments)),
        // It moves nothing, and may still be about a push of the connection before.
        FromAgent::Dependencies { volume, report } => {
            in_session(volume).and_then(|()| dependency::report_within(report))
        }
        FromAgent::Report(report) => {
            in_session(&report.volume)?;
            is_known(known, &report.release)?;
            in_order(report, staged)
        }
        FromAgent::Drift(DriftReport {
            volume, drifted, ..
        }) => {
            in_session(volume)?;
            at_most("drift", drifted.paths.len(), DRIFT_MAX)
        }
        FromAgent::Looked { volume, word, .. } => in_session(volume).and_then(|()| word.judge()),
        FromAgent::Holds(reports) => {
            at_most("holds", reports.len(), volumes.len())?;
            reports
                .iter()
                .try_for_each(|report| judge_hold(report, in_session))
        }
        FromAgent::Hold(report) => judge_hold(report, in_session),
        FromAgent::HoldAnswer { volume, .. } => in_session(volume),
        // Their signatures say whether they are believed.
        FromAgent::Records { volume, records } => {
            in_session(volume)?;
            at_most("records", records.len(), HELD_MAX)
        }
    }
}

fn is_known(known: &BTreeSet<ReleaseId>, release: &ReleaseId) -> Result<(), Violation> {
    if known.contains(release) {
        Ok(())
    } else {
        Err(Violation::UnknownRelease(*release))
    }
}

fn judge_held(
    added: &[ReleaseId],
    removed: &[ReleaseId],
    known: &BTreeSet<ReleaseId>,
    staged: &mut BTreeSet<ReleaseId>,
) -> Result<(), Violation> {
    at_most("added", added.len(), HELD_MAX)?;
    at_most("removed", removed.len(), HELD_MAX)?;
    for release in added {
        is_known(known, release)?;
    }
    staged.extend(added.iter().copied());
    for release in removed {
        staged.remove(release);
    }
    Ok(())
}

fn judge_hold(
    report: &HoldReport,
    in_session: impl Fn(&VolumeName) -> Result<(), Violation>,
) -> Result<(), Violation> {
    in_session(&report.volume)?;
    let held = report.hold.as_ref().map(|hold| [&hold.why, &hold.by]);
    let thawed = report
        .thawed
        .as_ref()
        .map(|thawed| [&thawed.why, &thawed.by]);
    let mut texts = held.into_iter().chain(thawed).flatten();
    texts.try_for_each(|text| at_most("hold", text.as_str().len(), HOLD_TEXT_BYTES_MAX))
}

/// Judges whether a step may follow those before it.
fn in_order(report: &Report, staged: &mut BTreeSet<ReleaseId>) -> Result<(), Violation> {
    let needs_staged = match &report.step {
        Step::Receiving { .. } | Step::StageFailed(_) | Step::ActivateFailed(_) => None,
        Step::Staged { .. } => {
            staged.insert(report.release);
            None
        }
        Step::Activated { .. } => Some("activated"),
        Step::Verified(_) => Some("verified"),
        Step::Returned(_) => Some("returned"),
    };
    match needs_staged {
        Some(step) if !staged.contains(&report.release) => Err(Violation::OutOfOrder {
            step,
            expected: "staged",
        }),
        Some(_) | None => Ok(()),
    }
}

/// Judges what a source says: the agent's end of a session.
#[derive(Debug)]
pub struct AgentSession {
    volumes: BTreeSet<VolumeName>,
    greeted: bool,
}

impl AgentSession {
    /// Begins a session about these volumes.
    #[must_use]
    pub const fn new(volumes: BTreeSet<VolumeName>) -> Self {
        Self {
            volumes,
            greeted: false,
        }
    }

    /// Judges one message.
    ///
    /// # Errors
    /// When the message breaks a rule; the connection is to be closed.
    pub fn handle(&mut self, message: &FromSource) -> Result<(), Violation> {
        match message {
            FromSource::Hello(_) if self.greeted => Err(Violation::RepeatedHello),
            FromSource::Hello(_) => {
                self.greeted = true;
                Ok(())
            }
            FromSource::Trust(_) | FromSource::Ping { .. } | FromSource::Rotating { .. }
                if self.greeted =>
            {
                Ok(())
            }
            FromSource::Activate { volume, .. }
            | FromSource::Return { volume, .. }
            | FromSource::Cancel { volume, .. }
            | FromSource::Live { volume, .. }
            | FromSource::Verify { volume, .. }
            | FromSource::Hold { volume, .. }
            | FromSource::Records { volume, .. }
            | FromSource::Soon { volume }
                if self.greeted =>
            {
                self.of(volume)
            }
            FromSource::Rules { volume, rules } if self.greeted => {
                let bytes_max = usize::try_from(IGNORE_RULES_BYTES_MAX).unwrap_or(usize::MAX);
                at_most("ignore rules", rules.len(), bytes_max)?;
                self.of(volume)
            }
            FromSource::Trust(_)
            | FromSource::Ping { .. }
            | FromSource::Rotating { .. }
            | FromSource::Activate { .. }
            | FromSource::Return { .. }
            | FromSource::Cancel { .. }
            | FromSource::Live { .. }
            | FromSource::Verify { .. }
            | FromSource::Hold { .. }
            | FromSource::Records { .. }
            | FromSource::Soon { .. }
            | FromSource::Rules { .. } => Err(Violation::NotGreeted),
        }
    }

    /// Returns the volumes that the session is about.
    #[must_use]
    pub const fn volumes(&self) -> &BTreeSet<VolumeName> {
        &self.volumes
    }

    /// Judges the head of a push stream.
    ///
    /// # Errors
    /// When it came before `Hello` or is of a volume that is not held here.
    pub fn pushed(&self, volume: &VolumeName) -> Result<(), Violation> {
        if self.greeted {
            self.of(volume)
        } else {
            Err(Violation::NotGreeted)
        }
    }

    fn of(&self, volume: &VolumeName) -> Result<(), Violation> {
        if self.volumes.contains(volume) {
            Ok(())
        } else {
            Err(Violation::UnknownVolume(volume.clone()))
        }
    }
}

#[cfg(test)]
mod tests;
