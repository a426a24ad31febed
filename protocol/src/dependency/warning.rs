//! What the nodes of a rollout warn of, those that say the same together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DependencyReport;
use crate::limits::{DRIFTS_MAX, SKEW_NODES_MAX};
use crate::name::{NodeName, Text};
use crate::release::Seq;

/// Packages that a release wants and nodes lack, although they took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyWarning {
    /// How many nodes say so.
    pub count: u64,
    /// Their names, [`SKEW_NODES_MAX`] at most.
    pub nodes: Vec<NodeName>,
    /// What they lack, in a sentence.
    pub message: Text,
    /// What mends it.
    pub hint: Option<Text>,
}

/// Returns what nodes warn of, [`DRIFTS_MAX`] at most.
#[must_use]
pub fn warnings<'a>(
    reports: impl IntoIterator<Item = (&'a NodeName, &'a DependencyReport)>,
    seq: Seq,
) -> Vec<DependencyWarning> {
    let mut alike: BTreeMap<(Text, Option<Text>), Vec<&NodeName>> = BTreeMap::new();
    for (node, report) in reports {
        let failure = report.failure(seq).filter(|_| !report.refused);
        if let Some(failure) = failure {
            let what = (failure.message, failure.hint);
            alike.entry(what).or_default().push(node);
        }
    }
    let alike = alike.into_iter().take(DRIFTS_MAX);
    alike
        .map(|((message, hint), nodes)| DependencyWarning {
            count: nodes.len() as u64,
            nodes: nodes.into_iter().take(SKEW_NODES_MAX).cloned().collect(),
            message,
            hint,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Found, PackageDrift};
    use super::*;
    use crate::id::ReleaseId;

    #[test]
    fn nodes_that_lack_the_same_warn_together_and_refusals_are_no_warnings() {
        let report = |name: &str, refused| DependencyReport {
            release: ReleaseId::of(b"r"),
            refused,
            found: Found {
                packages: vec![PackageDrift {
                    name: name.parse().unwrap(),
                    wanted: Text::default(),
                    installed: None,
                    python: Text::cut("/bin/python"),
                    file: Text::cut("requirements.txt"),
                    line: Some(1),
                }],
                ..Found::default()
            },
        };
        let fine = DependencyReport {
            found: Found::default(),
            ..report("x", false)
        };
        let reports = [
            ("dag-01", report("polars", false)),
            ("dag-02", report("polars", false)),
            ("dag-03", report("pandas", false)),
            ("dag-04", report("polars", true)),
            ("dag-05", fine),
        ]
        .map(|(name, report)| (name.parse::<NodeName>().unwrap(), report));
        let pairs = reports.iter().map(|(name, report)| (name, report));
        let shown: Vec<String> = warnings(pairs, Seq(43))
            .iter()
            .map(|warning| {
                let names: Vec<&str> = warning.nodes.iter().map(NodeName::as_str).collect();
                let (count, names) = (warning.count, names.join(","));
                format!("{count} {names} {}", warning.message.as_str())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "1 dag-03 `/bin/python` lacks pandas (requirements.txt:1)",
                "2 dag-01,dag-02 `/bin/python` lacks polars (requirements.txt:1)",
            ]
        );
    }
}
