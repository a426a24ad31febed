//! Dependency drift: whether the Python environments of a volume's code servers hold what a release
//! asks for. codevol sends code, not packages; that a package is missing it can say before the code
//! fails. It runs no Python and changes nothing.
//!
//! ```text
//!   layout (where) -> environment (what is installed) --+
//!   requirements, project, lock -> wants (what is asked) -+-> compare -> report
//!   imports (what changed files import) -> stray ---------+
//! ```
//! All that comes from a release is a stranger's text: `version`, `marker`, `requirement` and the
//! readers of files are pure and bounded.

mod checker;
mod compare;
mod environment;
mod imports;
mod layout;
mod lock;
mod marker;
mod project;
mod requirement;
mod requirements;
mod stray;
mod version;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codevol_protocol::chain::Chain;
use codevol_protocol::dependency::{
    DAGSTER, DependencyReport, Environment, Found, ImportDrift, Package, PackageDrift,
};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::{DRIFTS_MAX, ENVIRONMENTS_MAX, PACKAGES_MAX};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;

pub use self::checker::Checker;
use self::compare::{Misfit, compare, mend};
use self::environment::{Installed, Kept};
use self::stray::Stray;
use self::wants::{Tree, Wants};
use crate::config::{DependencyPolicy, VolumeConfig};
use crate::volume::Opened;

/// How much of a path or a reason is told, in bytes.
const TOLD_BYTES_MAX: usize = 512;

/// What a code server says of the Python that it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its interpreter, by a path on its own host.
    pub python: String,
    /// Its version of Dagster.
    pub dagster: Option<String>,
}

/// Whose Python it is.
#[derive(Debug)]
struct Interpreter {
    /// The code server's address; nothing where the volume itself names a Python.
    address: Option<String>,
    /// The one that the configuration names.
    python: Option<PathBuf>,
}

/// What is known of the environments of one volume. It blocks: call it where that is fine.
#[derive(Debug)]
struct Dependencies {
    policy: DependencyPolicy,
    /// The files that are compared; the usual ones where there is none.
    requirements: Vec<RelPath>,
    interpreters: Vec<Interpreter>,
    said: BTreeMap<String, Said>,
    environments: BTreeMap<PathBuf, Kept>,
    /// What the release that was read last asks for.
    wants: Option<Wants>,
    /// What the changed files of the release that was read last import.
    stray: Option<(Change, Stray)>,
}

/// A release, and the one that it is compared with.
type Change = (ReleaseId, Option<ReleaseId>);

/// What a look at a release brings.
struct Looked {
    environments: Vec<Arc<Environment>>,
    report: Option<DependencyReport>,
}

impl Dependencies {
    fn new(volume: &VolumeConfig) -> Self {
        let servers = volume.code_servers.iter().map(|server| Interpreter {
            address: Some(server.address.to_string()),
            python: server.python.clone().or_else(|| volume.python.clone()),
        });
        let mut interpreters: Vec<Interpreter> = servers.collect();
        if interpreters.is_empty() && volume.python.is_some() {
            interpreters.push(Interpreter {
                address: None,
                python: volume.python.clone(),
            });
        }
        Self {
            policy: volume.dependencies,
            requirements: volume.requirements.clone(),
            interpreters,
            said: BTreeMap::new(),
            environments: BTreeMap::new(),
            wants: None,
            stray: None,
        }
    }

    /// Whether there is anything to compare with.
    fn is_on(&self) -> bool {
        self.policy != DependencyPolicy::Off && !self.interpreters.is_empty()
    }

    /// Compares a release, or where there is none only reads the environments.
    fn look(&mut self, release: Option<&Opened>) -> Looked {
        let mut findings = Findings::default();
        let pythons = self.read_environments(&mut findings.unjudged);
        if let Some(opened) = release {
            self.read_release(opened);
        }
        let installed: Vec<&Installed> = self.installed(&pythons).collect();
        let environments = told(&installed, &mut findings.unjudged);
        let report = release.map(|opened| {
            if let Some(wants) = &self.wants {
                findings.unjudged.extend(wants.unjudged.iter().cloned());
                for installed in &installed {
                    findings.packages(wants, installed);
                }
            }
            if let Some((_, stray)) = &self.stray {
                findings.imports(stray, opened.held.manifest(), &installed);
            }
            let refuses = self.policy == DependencyPolicy::Refuse;
            DependencyReport {
                release: opened.held.id(),
                refused: refuses && !findings.packages.is_empty(),
                found: findings.cut(),
            }
        });
        Looked {
            environments,
            report,
        }
    }

    /// Whether a release is refused as things stand.
    fn refuse(&mut self, opened: &Opened) -> bool {
        if !self.is_on() || self.policy != DependencyPolicy::Refuse {
            return false;
        }
        let pythons = self.read_environments(&mut Vec::new());
        self.read_wants(Tree::of(opened));
        let wants = self.wants.as_ref();
        let lacks = |installed| {
            let compared = wants.map(|wants| compare(wants, installed));
            compared.is_some_and(|compared| !compared.misfits.is_empty())
        };
        self.installed(&pythons).any(lacks)
    }

    fn installed(&self, pythons: &[PathBuf]) -> impl Iterator<Item = &Installed> {
        let kept = pythons.iter().map(|python| self.environments.get(python));
        kept.flatten().map(|kept| &kept.installed)
    }

    /// Reads of a release what was not read before.
    fn read_release(&mut self, opened: &Opened) {
        let tree = Tree::of(opened);
        self.read_wants(tree);
        let since = opened.before.as_ref().map(|before| before.id());
        let of = (opened.held.id(), since);
        if self.stray.as_ref().is_none_or(|(known, _)| *known != of) {
            let before = opened.before.as_ref().map(|before| before.manifest());
            self.stray = Some((of, Stray::read(tree, before)));
        }
    }

    fn read_wants(&mut self, tree: Tree<'_>) {
        let known = self.wants.as_ref();
        if known.is_none_or(|wants| !wants.are_of(tree.manifest)) {
            self.wants = Some(Wants::read(tree, &self.requirements));
        }
    }

    /// Reads the environments that may have changed, and returns the interpreters of all that can be
    /// read, each once. What cannot is said.
    fn read_environments(&mut self, unjudged: &mut Vec<String>) -> Vec<PathBuf> {
        let mut pythons: Vec<PathBuf> = Vec::new();
        for interpreter in &self.interpreters {
            let said = interpreter.address.as_ref().and_then(|a| self.said.get(a));
            let python = match (&interpreter.python, said) {
                (Some(python), _) => python.clone(),
                (None, Some(said)) => PathBuf::from(&said.python),
                (None, None) => {
                    unjudged.push(format!(
                        "{} has not said yet which Python it runs; `python` in its table names one",
                        interpreter.address.as_deref().unwrap_or_default()
                    ));
                    continue;
                }
            };
            if pythons.len() >= ENVIRONMENTS_MAX && !pythons.contains(&python) {
                unjudged.push(format!("`{}` is one too many", python.display()));
                continue;
            }
            if let Err(why) = refresh(&mut self.environments, &python) {
                unjudged.push(why);
                continue;
            }
            let dagster = self
                .environments
                .get(&python)
                .and_then(|kept| dagster_of(&kept.installed));
            if let Some(other) = said.and_then(|said| said.dagster.as_ref())
                && dagster != Some(other)
            {
                let address = interpreter.address.as_deref().unwrap_or_default();
                let found = dagster.map_or("none", String::as_str);
                unjudged.push(format!(
                    "{address} runs Dagster {other}, and `{}` on this host has {found}; `python` \
                     in its table names the right one",
                    python.display()
                ));
                // Its word alone says only what that path means where it runs.
                if interpreter.python.is_none() {
                    continue;
                }
            }
            if !pythons.contains(&python) {
                pythons.push(python);
            }
        }
        self.environments
            .retain(|python, _| pythons.contains(python));
        pythons
    }
}

fn refresh(environments: &mut BTreeMap<PathBuf, Kept>, python: &Path) -> Result<(), String> {
    if environments.get(python).is_some_and(Kept::is_fresh) {
        return Ok(());
    }
    match Kept::read(python) {
        Ok(kept) => {
            environments.insert(python.to_owned(), kept);
            Ok(())
        }
        Err(error) => {
            environments.remove(python);
            Err(Chain(&error).to_string())
        }
    }
}

fn dagster_of(installed: &Installed) -> Option<&String> {
    let mut packages = installed.packages.iter();
    packages.find_map(|(name, version)| (name.as_str() == DAGSTER).then_some(version))
}

/// Returns the environments as they are told, as many as there is room for.
fn told(installed: &[&Installed], unjudged: &mut Vec<String>) -> Vec<Arc<Environment>> {
    let mut room = PACKAGES_MAX;
    let mut told = Vec::new();
    for one in installed {
        if one.packages.len() > room {
            let python = one.python.display();
            unjudged.push(format!("`{python}` holds more packages than can be told"));
            continue;
        }
        room -= one.packages.len();
        let packages = one.packages.iter().map(|(name, version)| Package {
            name: name.clone(),
            version: Text::cut(version),
        });
        told.push(Arc::new(Environment {
            python: short(&one.python.to_string_lossy()),
            version: Text::cut(one.facts.version()),
            packages: packages.collect(),
        }));
    }
    told
}

/// All that was found, before it is cut.
#[derive(Default)]
struct Findings {
    packages: Vec<PackageDrift>,
    imports: Vec<ImportDrift>,
    unjudged: Vec<String>,
    mend: Vec<Text>,
}

impl Findings {
    fn packages(&mut self, wants: &Wants, installed: &Installed) {
        let compared = compare(wants, installed);
        self.mend
            .extend(mend(compared.misfits.values(), installed).map(Text::cut));
        let drift = |misfit: Misfit| PackageDrift {
            name: misfit.name,
            wanted: short(&misfit.wanted),
            installed: misfit.installed.map(Text::cut),
            python: short(&installed.python.to_string_lossy()),
            file: short(&misfit.source.file),
            line: misfit.source.line,
        };
        self.packages
            .extend(compared.misfits.into_values().map(drift));
        self.unjudged.extend(compared.unjudged);
    }

    fn imports(&mut self, stray: &Stray, manifest: &Manifest, installed: &[&Installed]) {
        self.unjudged.extend(stray.unjudged.clone());
        let drifts = stray.in_none_of(manifest, installed);
        self.imports
            .extend(drifts.into_iter().map(|(python, module)| ImportDrift {
                module: short(module.name),
                python: short(&python.to_string_lossy()),
                file: short(module.file),
                line: module.line,
            }));
        for one in installed.iter().filter(|one| one.standard.is_none()) {
            let python = one.python.display();
            let why = "imports are not compared, as its standard library is not found";
            self.unjudged.push(format!("`{python}`: {why}"));
        }
        for one in installed.iter().filter(|one| one.unlisted > 0) {
            let (count, python) = (one.unlisted, one.python.display());
            let why = "cannot be read that say which modules are installed";
            self.unjudged.push(format!(
                "`{python}`: imports are not compared, as {count} files or folders {why}"
            ));
        }
    }

    /// Cuts the lists to what is told, each reason once.
    fn cut(self) -> Found {
        let unjudged: BTreeSet<String> = self.unjudged.into_iter().collect();
        let lengths = [self.packages.len(), self.imports.len(), unjudged.len()];
        let left_out: usize = lengths.iter().map(|n| n.saturating_sub(DRIFTS_MAX)).sum();
        let mut found = Found {
            packages: self.packages,
            imports: self.imports,
            unjudged: unjudged.iter().map(|why| short(why)).collect(),
            left_out: left_out as u64,
            mend: self.mend,
        };
        found.packages.truncate(DRIFTS_MAX);
        found.imports.truncate(DRIFTS_MAX);
        found.unjudged.truncate(DRIFTS_MAX);
        found
    }
}

fn short(text: &str) -> Text {
    let end = text.floor_char_boundary(TOLD_BYTES_MAX);
    Text::cut(text.get(..end).unwrap_or(text))
}

#[cfg(test)]
mod tests;
