//! The format of `uv.lock`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Edge, Invalid, Lock, Locked, When, version};

#[derive(Deserialize)]
struct UvLock {
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvPackage {
    name: String,
    version: Option<String>,
    #[serde(default)]
    source: UvSource,
    #[serde(default)]
    dependencies: Vec<UvEdge>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<UvEdge>>,
}

/// Where a package comes from; only those that lie in the tree matter here.
#[derive(Default, Deserialize)]
struct UvSource {
    r#virtual: Option<String>,
    editable: Option<String>,
    directory: Option<String>,
}

#[derive(Deserialize)]
struct UvEdge {
    name: String,
    version: Option<String>,
    #[serde(default)]
    extra: Vec<String>,
    marker: Option<String>,
}

/// Reads a `uv.lock`. Its project is the package at the lock's own place, or in a workspace without
/// one all of its members.
pub(in crate::dependencies) fn uv(text: &str) -> Result<Lock, Invalid> {
    let lock: UvLock = toml::from_str(text).or(Err(Invalid))?;
    let edge_to = |package: &UvPackage| {
        let edge = UvEdge {
            name: package.name.clone(),
            version: package.version.clone(),
            extra: Vec::new(),
            marker: None,
        };
        edge.read()
    };
    let at_place = |package: &&UvPackage| package.source.of_project() == Some(".");
    let member = |package: &&UvPackage| package.source.of_project().is_some();
    let mut roots: Vec<Edge> = lock
        .package
        .iter()
        .filter(at_place)
        .map(edge_to)
        .collect::<Result<_, _>>()?;
    if roots.is_empty() {
        let members = lock.package.iter().filter(member).map(edge_to);
        roots = members.collect::<Result<_, _>>()?;
    }
    if roots.is_empty() && !lock.package.is_empty() {
        return Err(Invalid);
    }
    let packages = lock.package.into_iter().map(UvPackage::read);
    Lock::new(packages.collect::<Result<_, _>>()?, roots)
}

impl UvSource {
    fn of_project(&self) -> Option<&str> {
        self.r#virtual.as_deref().or(self.editable.as_deref())
    }
}

impl UvPackage {
    fn read(self) -> Result<Locked, Invalid> {
        let read = |edges: Vec<UvEdge>| -> Result<Vec<Edge>, Invalid> {
            edges.iter().map(UvEdge::read).collect()
        };
        let extras = self.optional_dependencies.into_iter();
        Ok(Locked {
            name: self.name.parse().or(Err(Invalid))?,
            version: version(self.version.as_deref())?,
            is_of_tree: self.source.of_project().is_some() || self.source.directory.is_some(),
            needs: read(self.dependencies)?,
            extras: extras
                .map(|(extra, edges)| Ok((extra, read(edges)?)))
                .collect::<Result<_, Invalid>>()?,
        })
    }
}

impl UvEdge {
    fn read(&self) -> Result<Edge, Invalid> {
        Ok(Edge {
            name: self.name.parse().or(Err(Invalid))?,
            version: version(self.version.as_deref())?,
            extras: self.extra.clone(),
            when: When::of(self.marker.as_deref()),
        })
    }
}
