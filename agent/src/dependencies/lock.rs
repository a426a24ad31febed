//! `uv.lock` and `poetry.lock`: exact versions of all that a project needs, found by following its
//! dependencies from the project on. What only development or an unused extra needs is not reached.
//! Pure.

mod poetry;
mod uv;

use std::collections::{BTreeMap, BTreeSet};

use codevol_protocol::dependency::PackageName;

pub(super) use self::poetry::poetry;
pub(super) use self::uv::uv;
use super::marker::{Facts, Marker};
use super::version::{Invalid, Version};

/// A lock file.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    packages: Vec<Locked>,
    by_name: BTreeMap<PackageName, Vec<usize>>,
    roots: Vec<Edge>,
}

/// One locked package.
#[derive(Debug, Clone)]
struct Locked {
    name: PackageName,
    version: Option<Version>,
    /// It lies in the tree itself, and need not be installed.
    is_of_tree: bool,
    needs: Vec<Edge>,
    extras: BTreeMap<String, Vec<Edge>>,
}

/// That one package needs another.
#[derive(Debug, Clone)]
struct Edge {
    name: PackageName,
    /// Where several versions of it are locked: this one.
    version: Option<Version>,
    extras: Vec<String>,
    when: When,
}

/// In which environments it does.
#[derive(Debug, Clone)]
enum When {
    Always,
    Marked(Marker),
    /// Where an extra asks for it, which whoever follows it does.
    OfExtra(Marker),
    Unreadable,
}

/// What an environment needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Package and exact version; no version where several are locked and nothing says which.
    pub(super) packages: BTreeMap<PackageName, Option<Version>>,
    /// How many packages may be needed or not: what their markers ask for is not known.
    pub(super) open: usize,
}

const PACKAGES_MAX: usize = 20_000;
const STEPS_MAX: usize = 500_000;

impl Lock {
    /// Follows the dependencies that hold in an environment.
    pub(super) fn needs(&self, facts: &Facts) -> Needs {
        let mut needs = Needs::default();
        let mut seen: BTreeSet<(usize, &str)> = BTreeSet::new();
        let mut todo: Vec<&Edge> = self.roots.iter().collect();
        let mut steps = 0_usize;
        while let Some(edge) = todo.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                needs.open += 1;
                break;
            }
            match edge.when.holds(facts) {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    needs.open += 1;
                    continue;
                }
            }
            let found = self.find(edge);
            if let [one] = found.as_slice() {
                self.follow(*one, edge, &mut seen, &mut todo);
            }
            let locked = |at: &usize| self.packages.get(*at);
            if found.iter().filter_map(locked).any(|one| one.is_of_tree) {
                continue;
            }
            let version = match found.as_slice() {
                [one] => locked(one).and_then(|one| one.version.clone()),
                _ => None,
            };
            needs.packages.insert(edge.name.clone(), version);
        }
        needs
    }

    /// Returns the locked packages that an edge may mean.
    fn find(&self, edge: &Edge) -> Vec<usize> {
        let of_name = self.by_name.get(&edge.name).map_or(&[][..], Vec::as_slice);
        let Some(wanted) = &edge.version else {
            return of_name.to_vec();
        };
        let is_it = |at: &&usize| {
            let locked = self.packages.get(**at);
            locked.and_then(|locked| locked.version.as_ref()) == Some(wanted)
        };
        of_name.iter().filter(is_it).copied().collect()
    }

    fn follow<'a>(
        &'a self,
        at: usize,
        edge: &'a Edge,
        seen: &mut BTreeSet<(usize, &'a str)>,
        todo: &mut Vec<&'a Edge>,
    ) {
        let Some(locked) = self.packages.get(at) else {
            return;
        };
        if seen.insert((at, "")) {
            todo.extend(&locked.needs);
        }
        for extra in &edge.extras {
            if let Some(needs) = locked.extras.get(extra)
                && seen.insert((at, extra))
            {
                todo.extend(needs);
            }
        }
    }

    fn new(packages: Vec<Locked>, roots: Vec<Edge>) -> Result<Self, Invalid> {
        if packages.len() > PACKAGES_MAX {
            return Err(Invalid);
        }
        let mut by_name: BTreeMap<PackageName, Vec<usize>> = BTreeMap::new();
        for (at, package) in packages.iter().enumerate() {
            by_name.entry(package.name.clone()).or_default().push(at);
        }
        Ok(Self {
            packages,
            by_name,
            roots,
        })
    }
}

impl When {
    fn of(marker: Option<&str>) -> Self {
        match marker.map(str::parse) {
            None => Self::Always,
            Some(Ok(marker)) => Self::Marked(marker),
            Some(Err(Invalid)) => Self::Unreadable,
        }
    }

    fn holds(&self, facts: &Facts) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::Marked(marker) => marker.holds(facts),
            Self::OfExtra(marker) => {
                let any_extra = Facts {
                    any_extra: true,
                    ..facts.clone()
                };
                Some(marker.holds(&any_extra) != Some(false))
            }
            Self::Unreadable => None,
        }
    }
}

fn version(text: Option<&str>) -> Result<Option<Version>, Invalid> {
    text.map(str::parse).transpose()
}

#[cfg(test)]
mod tests;
