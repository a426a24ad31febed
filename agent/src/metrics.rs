//! What the agent counts and times. The tasks tell it what happens; how things stand is asked of them
//! when it is wanted.

use codevol_metrics::family::PHASE_BOUNDS;
use codevol_metrics::{Counter, Histogram};
use codevol_transport::Traffic;

/// The kinds of failure by which reloads are counted; what is none of these is `other`.
const REASONS: [&str; 5] = ["broken", "cannot-reload", "stuck", "unproven", "other"];

/// What an agent counts, over all its volumes.
#[derive(Debug)]
pub struct AgentMetrics {
    /// From a push's first frame until the release stands whole under its name.
    pub stage: Histogram,
    /// The flip of `current`.
    pub activate: Histogram,
    /// Until it is known what the code servers serve.
    pub verify: Histogram,
    /// What the links to the source carry.
    pub traffic: Traffic,
    reload_failures: [Counter; REASONS.len()],
}

impl Default for AgentMetrics {
    fn default() -> Self {
        Self {
            stage: Histogram::new(PHASE_BOUNDS),
            activate: Histogram::new(PHASE_BOUNDS),
            verify: Histogram::new(PHASE_BOUNDS),
            traffic: Traffic::default(),
            reload_failures: Default::default(),
        }
    }
}

impl AgentMetrics {
    /// Code servers were found not to serve the active release, by the kind of failure.
    pub fn reload_failed(&self, kind: &str) {
        let counters = REASONS.iter().zip(&self.reload_failures);
        let mut of_kind =
            counters.skip_while(|(reason, _)| **reason != kind && **reason != "other");
        if let Some((_, counter)) = of_kind.next() {
            counter.increment();
        }
    }

    /// Returns each reason with how often it was found.
    pub fn reload_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.reload_failures.iter().map(Counter::get);
        REASONS.into_iter().zip(counters)
    }

    /// Returns each phase with how long it took.
    pub fn phases(&self) -> [(&'static str, &Histogram); 3] {
        [
            ("stage", &self.stage),
            ("activate", &self.activate),
            ("verify", &self.verify),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_by_its_kind_and_an_unknown_one_too() {
        let metrics = AgentMetrics::default();
        for kind in ["broken", "broken", "stuck", "something new"] {
            metrics.reload_failed(kind);
        }
        let counted: Vec<_> = metrics.reload_failures().collect();
        let expected = [
            ("broken", 2),
            ("cannot-reload", 0),
            ("stuck", 1),
            ("unproven", 0),
            ("other", 1),
        ];
        assert_eq!(counted, expected);
    }
}
