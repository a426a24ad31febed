//! The format of `poetry.lock`.

use std::collections::{BTreeMap, BTreeSet};

use codevol_protocol::dependency::PackageName;
use serde::Deserialize;

use super::super::project::Project;
use super::{Edge, Invalid, Lock, Locked, When, version};

#[derive(Deserialize)]
struct PoetryLock {
    #[serde(default)]
    package: Vec<PoetryPackage>,
}

#[derive(Deserialize)]
struct PoetryPackage {
    name: String,
    version: String,
    #[serde(default)]
    dependencies: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    extras: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<PoetryEdge>),
    One(PoetryEdge),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PoetryEdge {
    Rule(
        #[expect(
            dead_code,
            reason = "which version it is, the locked package itself says"
        )]
        String,
    ),
    Table {
        #[serde(default)]
        optional: bool,
        #[serde(default)]
        extras: Vec<String>,
        markers: Option<String>,
    },
}

/// Reads a `poetry.lock`. Which packages are needed, the project beside it says: without one that
/// cannot be told.
pub(in crate::dependencies) fn poetry(text: &str, project: &Project) -> Result<Lock, Invalid> {
    let lock: PoetryLock = toml::from_str(text).or(Err(Invalid))?;
    let mut roots = Vec::new();
    for root in &project.poetry {
        roots.push(Edge {
            name: root.name.parse().or(Err(Invalid))?,
            version: None,
            extras: root.extras.clone(),
            when: When::of(root.markers.as_deref()),
        });
    }
    roots.extend(project.dependencies.iter().map(|requirement| Edge {
        name: requirement.name.clone(),
        version: None,
        extras: requirement.extras.clone(),
        when: match &requirement.marker {
            Some(marker) => When::Marked(marker.clone()),
            None => When::Always,
        },
    }));
    if roots.is_empty() && !lock.package.is_empty() {
        return Err(Invalid);
    }
    let packages = lock.package.into_iter().map(PoetryPackage::read);
    Lock::new(packages.collect::<Result<_, _>>()?, roots)
}

impl PoetryPackage {
    fn read(self) -> Result<Locked, Invalid> {
        let name: PackageName = self.name.parse().or(Err(Invalid))?;
        let mut needs = Vec::new();
        let mut optional = Vec::new();
        for (name, edges) in self.dependencies {
            let edges = match edges {
                OneOrMore::More(edges) => edges,
                OneOrMore::One(edge) => vec![edge],
            };
            for edge in edges {
                let (is_optional, edge) = edge.read(&name)?;
                if is_optional {
                    optional.push(edge);
                } else {
                    needs.push(edge);
                }
            }
        }
        // An extra lists requirements: `s3fs (>=2023)`.
        let of_extra = |listed: &[String]| {
            let named = |text: &String| {
                let name = text
                    .split([' ', '(', '[', ';', '<', '>', '=', '!', '~'])
                    .next();
                name.and_then(|name| name.parse::<PackageName>().ok())
            };
            let names: BTreeSet<PackageName> = listed.iter().filter_map(named).collect();
            let chosen = optional.iter().filter(|edge| names.contains(&edge.name));
            chosen.cloned().collect::<Vec<Edge>>()
        };
        let extras = self.extras.iter();
        Ok(Locked {
            name,
            version: version(Some(&self.version))?,
            is_of_tree: false,
            extras: extras
                .map(|(extra, listed)| (extra.clone(), of_extra(listed)))
                .collect(),
            needs,
        })
    }
}

impl PoetryEdge {
    fn read(self, name: &str) -> Result<(bool, Edge), Invalid> {
        let (optional, extras, markers) = match self {
            Self::Rule(_) => (false, Vec::new(), None),
            Self::Table {
                optional,
                extras,
                markers,
            } => (optional, extras, markers),
        };
        let edge = Edge {
            name: name.parse().or(Err(Invalid))?,
            version: None,
            extras,
            when: match When::of(markers.as_deref()) {
                When::Marked(marker) if optional => When::OfExtra(marker),
                when => when,
            },
        };
        Ok((optional, edge))
    }
}
