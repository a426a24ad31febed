//! How the tasks of a volume share what is known of its Python environments: whoever stages or
//! activates a release has it compared first, and the source is told what changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use codevol_protocol::chain::Chain;
use codevol_protocol::dependency::{DependencyReport, Environment, Reports};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{DEPENDENCIES_MINOR, Failure, FromAgent};
use codevol_protocol::name::{Text, VolumeName};
use tracing::warn;

use super::{Dependencies, Said};
use crate::config::VolumeConfig;
use crate::speaker::Speaker;
use crate::volume::{self, Opened, Root};

/// What Python says of a module that is not installed.
const MODULE_NOT_FOUND: &str = "ModuleNotFoundError";

/// Compares releases with the environments of one volume.
#[derive(Debug, Clone)]
pub struct Checker {
    volume: VolumeName,
    root: Arc<Mutex<Root>>,
    speaker: Speaker,
    /// Held while files are read, and never over an `await`: `volume::lock` waits for it.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    dependencies: Dependencies,
    environments: Vec<Arc<Environment>>,
    reports: Reports,
    /// What the source knows, since it greeted.
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    environments: Vec<Arc<Environment>>,
    reports: Reports,
}

impl Checker {
    /// Makes the checker of a volume; reads nothing yet.
    #[must_use]
    pub fn new(volume: &VolumeConfig, root: Arc<Mutex<Root>>, speaker: Speaker) -> Self {
        let state = State {
            dependencies: Dependencies::new(volume),
            environments: Vec::new(),
            reports: Reports::default(),
            told: Told::default(),
        };
        Self {
            volume: volume.name.clone(),
            root,
            speaker,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Compares a release that is held, and returns why it is refused, where it is. It blocks.
    #[must_use]
    pub fn refusal(&self, release: ReleaseId) -> Option<Failure> {
        let report = self.look(Some(release))?;
        let seq = {
            let root = volume::lock(&self.root);
            root.held().get(&release)?.release().seq
        };
        let failure = report.failure(seq)?;
        let (volume, found) = (&self.volume, failure.message.as_str());
        if report.refused {
            warn!(%volume, release = %seq, found, "release is refused for its dependencies");
            return Some(failure);
        }
        warn!(%volume, release = %seq, found, "release wants what is not installed");
        None
    }

    /// Returns those of some releases that are refused as things stand. It blocks.
    #[must_use]
    pub fn refused_of(&self, releases: &[ReleaseId]) -> BTreeSet<ReleaseId> {
        let is_refused = |release: &&ReleaseId| {
            let Some(opened) = self.open(**release) else {
                return false;
            };
            self.state().dependencies.refuse(&opened)
        };
        releases.iter().filter(is_refused).copied().collect()
    }

    /// Compares the active release once more, where there is one: packages come and go. It blocks.
    pub fn look_again(&self, active: Option<ReleaseId>) {
        drop(self.look(active));
    }

    /// Takes in what code servers say of their Python.
    pub fn heard(&self, said: Vec<(String, Said)>) {
        let mut state = self.state();
        for (address, said) in said {
            state.dependencies.said.insert(address, said);
        }
    }

    /// A new link begins: what the source knew of releases that it may not know now is not told again.
    pub fn begin_anew(&self, active: Option<ReleaseId>) {
        let mut state = self.state();
        state.told = Told::default();
        state.reports.keep_only(active);
    }

    /// Tells the source what it does not know yet. One that is too old is told nothing.
    pub async fn tell(&self) {
        if !self.speaker.reaches(DEPENDENCIES_MINOR) {
            return;
        }
        for message in self.untold() {
            self.speaker.say(message).await;
        }
    }

    /// Returns the environments, and how they fit the active release.
    #[must_use]
    pub fn standing(
        &self,
        active: Option<ReleaseId>,
    ) -> (Vec<Arc<Environment>>, Option<DependencyReport>) {
        let state = self.state();
        let report = state.reports.of(active).cloned();
        (state.environments.clone(), report)
    }

    /// Adds to a failed import the command that installs what the release asks for, where there is one.
    pub fn advise(&self, release: ReleaseId, failure: &mut Failure) {
        let state = self.state();
        let mut reports = state.reports.all().iter();
        let report = reports.find(|report| report.release == release);
        if let Some(mend) = report.and_then(|report| report.found.mend())
            && failure.message.as_str().contains(MODULE_NOT_FOUND)
        {
            let hint = failure.hint.as_ref().map_or("", Text::as_str);
            let join = if hint.is_empty() { "" } else { "; " };
            failure.hint = Some(Text::cut(format!("{hint}{join}{mend} on that server")));
        }
    }

    fn look(&self, release: Option<ReleaseId>) -> Option<DependencyReport> {
        if !self.state().dependencies.is_on() {
            return None;
        }
        let opened = release.and_then(|release| self.open(release));
        let mut state = self.state();
        let looked = state.dependencies.look(opened.as_ref());
        // The same ones stay the same in memory.
        if state.environments != looked.environments {
            state.environments = looked.environments;
        }
        let report = looked.report?;
        state.reports.keep(report.clone());
        Some(report)
    }

    fn open(&self, release: ReleaseId) -> Option<Opened> {
        let root = volume::lock(&self.root);
        match root.open_held(release) {
            Ok(opened) => opened,
            Err(error) => {
                let volume = &self.volume;
                warn!(%volume, error = %Chain(&error), "cannot open a release to compare its dependencies");
                None
            }
        }
    }

    fn untold(&self) -> Vec<FromAgent> {
        let mut state = self.state();
        let volume = || self.volume.clone();
        let mut messages = Vec::new();
        if state.told.environments != state.environments {
            let environments = state.environments.iter();
            messages.push(FromAgent::Environments {
                volume: volume(),
                environments: environments.map(|one| (**one).clone()).collect(),
            });
        }
        let reports = state.reports.all().iter();
        let untold = reports.filter(|report| !state.told.reports.all().contains(report));
        messages.extend(untold.map(|report| FromAgent::Dependencies {
            volume: volume(),
            report: report.clone(),
        }));
        state.told = Told {
            environments: state.environments.clone(),
            reports: state.reports.clone(),
        };
        messages
    }

    fn state(&self) -> MutexGuard<'_, State> {
        volume::lock(&self.state)
    }
}

#[cfg(test)]
mod tests;
