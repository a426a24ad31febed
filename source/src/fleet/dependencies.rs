//! What agents say of their Python environments, taken in.

use std::sync::Arc;

use codevol_protocol::dependency::{
    DependencyReport, DependencyStatus, DependencyWarning, Environment, Skew, skew, warnings,
};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::NodeName;
use codevol_protocol::rollout::NodeView;
use codevol_protocol::status::{EventKind, NodeError};

use super::known::Known;
use super::task::FleetTask;

impl FleetTask {
    /// Takes in the environments of a node. Those that another node has too are kept once.
    pub(super) fn environments(&mut self, node: &NodeName, environments: Vec<Environment>) {
        let known = |wanted: &Environment| {
            let mut all = self.nodes.values().flat_map(|known| &known.environments);
            all.find(|known| ***known == *wanted).cloned()
        };
        let kept: Vec<Arc<Environment>> = environments
            .into_iter()
            .map(|environment| known(&environment).unwrap_or_else(|| Arc::new(environment)))
            .collect();
        if let Some(known) = self.nodes.get_mut(node) {
            known.environments = kept;
        }
    }

    /// Takes in how the environments of a node fit a release. Whoever follows its rollout is warned,
    /// once; what is refused, the failed step says.
    pub(super) fn dependencies(&mut self, node: &NodeName, report: DependencyReport) {
        let rollout = self.machine.saved().rollout.as_ref();
        let is_rolled_out = rollout.is_some_and(|r| r.target.release == report.release);
        let Some(seq) = self.seq(report.release) else {
            return;
        };
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        let is_new = !known.reports.all().contains(&report);
        known.reports.keep(report.clone());
        if !is_rolled_out || !is_new || report.refused {
            return;
        }
        if let Some(failure) = report.failure(seq) {
            let mut event = self
                .bus
                .event(EventKind::NodeWarned, Some(seq), Some(node.clone()));
            event.error = Some(NodeError::new(node.clone(), seq, "stage", &failure));
            self.bus.tell_event(event);
        }
    }

    /// Returns what is not the same on all who are connected.
    pub(super) fn skew(&self) -> Vec<Skew> {
        let connected = self
            .nodes
            .iter()
            .filter(|(_, known)| known.session.is_some());
        skew(connected.map(|(name, known)| (name, known.environments.as_slice())))
    }

    /// Returns what nodes lack of the packages of a release that they took.
    pub(super) fn warnings(&self, release: ReleaseId) -> Vec<DependencyWarning> {
        let Some(seq) = self.seq(release) else {
            return Vec::new();
        };
        let reports = self.nodes.iter().filter_map(|(name, known)| {
            let mut reports = known.reports.all().iter();
            Some((name, reports.find(|report| report.release == release)?))
        });
        warnings(reports, seq)
    }

    pub(super) fn dependency_status(
        &self,
        known: &Known,
        view: &NodeView,
    ) -> Option<DependencyStatus> {
        let report = known.reports.of(view.active)?;
        Some(DependencyStatus::new(self.seq(report.release), report))
    }
}
