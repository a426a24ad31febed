//! What differs between the Python environments of a fleet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DAGSTER, Environment};
use crate::limits::{SKEW_MAX, SKEW_NODES_MAX};
use crate::name::{NodeName, Text};

/// What Python itself is called among the packages.
const PYTHON: &str = "python";

/// One thing that has not the same version everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skew {
    /// `python`, or the name of a package.
    pub name: Text,
    /// Who has which version: first what most nodes have, then by the names of the nodes.
    pub versions: Vec<SkewVersion>,
}

/// Who has one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkewVersion {
    /// The version; nothing where it is not installed.
    pub version: Option<Text>,
    /// How many nodes have it.
    pub count: u64,
    /// Their names, [`SKEW_NODES_MAX`] at most.
    pub nodes: Vec<NodeName>,
}

/// Returns what differs, Python and Dagster first, [`SKEW_MAX`] at most. A node all of whose
/// environments are alike counts once; one that said nothing does not count.
#[must_use]
pub fn skew<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a [Arc<Environment>])>,
) -> Vec<Skew> {
    let groups = alike(nodes);
    if groups.len() < 2 {
        return Vec::new();
    }
    let names: BTreeSet<&str> = groups
        .iter()
        .flat_map(|(environment, _)| &environment.packages)
        .map(|package| package.name.as_str())
        .collect();
    let first = [PYTHON, DAGSTER];
    let others = names.into_iter().filter(|name| !first.contains(name));
    first
        .into_iter()
        .chain(others)
        .filter_map(|name| of_one(name, &groups))
        .take(SKEW_MAX)
        .collect()
}

/// One environment, and who has one like it.
type Group<'a> = (&'a Environment, BTreeSet<&'a NodeName>);

/// Returns the environments that differ. Where they are found it costs nothing more: fleets are alike.
fn alike<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a [Arc<Environment>])>,
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (node, environments) in nodes {
        for environment in environments {
            let environment: &Environment = environment;
            let same = |(known, _): &&mut Group<'a>| {
                std::ptr::eq(*known, environment)
                    || (known.version == environment.version
                        && known.packages == environment.packages)
            };
            match groups.iter_mut().find(same) {
                Some((_, nodes)) => drop(nodes.insert(node)),
                None => groups.push((environment, BTreeSet::from([node]))),
            }
        }
    }
    groups
}

fn of_one(name: &str, groups: &[Group<'_>]) -> Option<Skew> {
    let mut versions: BTreeMap<Option<&Text>, BTreeSet<&NodeName>> = BTreeMap::new();
    for (environment, nodes) in groups {
        let version = if name == PYTHON {
            Some(&environment.version)
        } else {
            environment.version_of(name)
        };
        versions.entry(version).or_default().extend(nodes);
    }
    if versions.len() < 2 {
        return None;
    }
    let mut versions: Vec<SkewVersion> = versions
        .into_iter()
        .map(|(version, nodes)| SkewVersion {
            version: version.cloned(),
            count: nodes.len() as u64,
            nodes: nodes.into_iter().take(SKEW_NODES_MAX).cloned().collect(),
        })
        .collect();
    versions.sort_by_key(|one| (Reverse(one.count), one.nodes.first().cloned()));
    Some(Skew {
        name: Text::cut(name),
        versions,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Package;
    use super::*;

    fn environment(version: &str, packages: &[(&str, &str)]) -> Arc<Environment> {
        let mut packages: Vec<Package> = packages
            .iter()
            .map(|(name, version)| Package {
                name: name.parse().unwrap(),
                version: Text::cut(*version),
            })
            .collect();
        packages.sort();
        Arc::new(Environment {
            python: Text::cut("/opt/venv/bin/python"),
            version: Text::cut(version),
            packages,
        })
    }

    fn shown(nodes: &[(&str, Vec<Arc<Environment>>)]) -> Vec<String> {
        let names: Vec<NodeName> = nodes
            .iter()
            .map(|(name, _)| name.parse().unwrap())
            .collect();
        let pairs = names
            .iter()
            .zip(nodes)
            .map(|(name, (_, environments))| (name, environments.as_slice()));
        let one = |version: &SkewVersion| {
            let names: Vec<&str> = version.nodes.iter().map(NodeName::as_str).collect();
            let said = version.version.as_ref().map_or("none", Text::as_str);
            format!("{said} on {} ({})", names.join(","), version.count)
        };
        skew(pairs)
            .iter()
            .map(|skew| {
                let versions: Vec<String> = skew.versions.iter().map(one).collect();
                format!("{}: {}", skew.name.as_str(), versions.join("; "))
            })
            .collect()
    }

    #[test]
    fn a_fleet_whose_environments_are_alike_has_no_skew() {
        let same = || environment("3.11.7", &[("dagster", "1.11.2"), ("pip", "24.0")]);
        let shared = same();
        let nodes = [
            ("dag-01", vec![shared.clone()]),
            ("dag-02", vec![shared]),
            ("dag-03", vec![same()]),
            ("dag-04", Vec::new()),
        ];
        assert!(shown(&nodes).is_empty());
        assert!(shown(&nodes[3..]).is_empty());
    }

    #[test]
    fn python_and_dagster_come_first_and_the_version_of_most_nodes() {
        let common = || environment("3.11.7", &[("aaa", "1"), ("dagster", "1.11.1")]);
        let other = environment("3.12.1", &[("dagster", "1.11.2")]);
        let nodes = [
            ("dag-01", vec![other]),
            ("dag-02", vec![common()]),
            ("dag-03", vec![common()]),
        ];
        assert_eq!(
            shown(&nodes),
            [
                "python: 3.11.7 on dag-02,dag-03 (2); 3.12.1 on dag-01 (1)",
                "dagster: 1.11.1 on dag-02,dag-03 (2); 1.11.2 on dag-01 (1)",
                "aaa: 1 on dag-02,dag-03 (2); none on dag-01 (1)",
            ]
        );
    }

    #[test]
    fn a_node_whose_own_environments_differ_stands_beside_both_versions() {
        let nodes = [(
            "dag-01",
            vec![
                environment("3.11", &[("x", "1")]),
                environment("3.11", &[("x", "2")]),
            ],
        )];
        assert_eq!(shown(&nodes), ["x: 1 on dag-01 (1); 2 on dag-01 (1)"]);
    }

    #[test]
    fn names_and_packages_are_cut_and_still_counted() {
        let packages: Vec<(String, &str)> =
            (0..SKEW_MAX + 9).map(|n| (format!("p{n}"), "1")).collect();
        let packages: Vec<(&str, &str)> = packages.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let (some, none) = (environment("3.11", &packages), environment("3.11", &[]));
        let names: Vec<String> = (0..SKEW_NODES_MAX + 3).map(|n| format!("n{n}")).collect();
        let mut nodes: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), vec![none.clone()]))
            .collect();
        nodes.push(("other", vec![some]));
        let names: Vec<NodeName> = nodes
            .iter()
            .map(|(name, _)| name.parse().unwrap())
            .collect();
        let pairs = names.iter().zip(&nodes);
        let found = skew(pairs.map(|(name, (_, of))| (name, of.as_slice())));
        assert_eq!(found.len(), SKEW_MAX);
        let most = &found[0].versions[0];
        assert_eq!(most.nodes.len(), SKEW_NODES_MAX);
        assert_eq!(most.count, SKEW_NODES_MAX as u64 + 3);
    }
}
