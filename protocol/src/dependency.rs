//! What stands in a node's Python environments and how that fits a release, as the node tells it:
//! the names, the messages' parts, the status document's parts. How it is found out is the agent's.

mod skew;
mod warning;
mod words;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ReleaseId;
use crate::limits::{
    DRIFTS_MAX, ENVIRONMENTS_MAX, MENDS_MAX, PACKAGE_NAME_BYTES_MAX, PACKAGES_MAX,
};
use crate::name::Text;
use crate::release::Seq;
use crate::violation::Violation;

pub use self::skew::{Skew, SkewVersion, skew};
pub use self::warning::{DependencyWarning, warnings};

/// The package whose version a person asks for first.
pub const DAGSTER: &str = "dagster";

/// The name of a Python package, normalised as PEP 503 says: `Foo.Bar` is `foo-bar`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

/// The text is not the name of a Python package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the name of a Python package", .0.escape_debug())]
pub struct InvalidPackageName(String);

impl PackageName {
    /// Returns the normalised name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = InvalidPackageName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPackageName(text.chars().take(PACKAGE_NAME_BYTES_MAX).collect());
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        let ends_well = ends
            .iter()
            .all(|end| end.is_some_and(u8::is_ascii_alphanumeric));
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !ends_well || text.len() > PACKAGE_NAME_BYTES_MAX || !bytes.iter().all(allowed) {
            return Err(invalid());
        }
        let mut name = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '-' | '_' | '.' if name.ends_with('-') => {}
                '-' | '_' | '.' => name.push('-'),
                c => name.push(c.to_ascii_lowercase()),
            }
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for PackageName {
    type Error = InvalidPackageName;

    /// Takes what is normalised already: there is one encoding of a name.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name: Self = text.parse()?;
        if name.0 == text {
            Ok(name)
        } else {
            Err(InvalidPackageName(text))
        }
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A Python environment of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The path of its interpreter.
    pub python: Text,
    /// The interpreter's version, as far as its files say it: `3.11.7`, or `3.11`.
    pub version: Text,
    /// What is installed, sorted by name, each name once.
    pub packages: Vec<Package>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Its version, as it says it.
    pub version: Text,
}

impl Environment {
    /// Returns the version of a package; nothing where it is not installed.
    #[must_use]
    pub fn version_of(&self, name: &str) -> Option<&Text> {
        let at = self
            .packages
            .binary_search_by(|package| package.name.as_str().cmp(name));
        Some(&self.packages.get(at.ok()?)?.version)
    }
}

/// How the Python environments of a node fit a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyReport {
    /// The release.
    pub release: ReleaseId,
    /// Whether the node takes the release for that not.
    pub refused: bool,
    /// What the findings are.
    pub found: Found,
}

/// The last reports of a node, each release once, the newest last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reports(Vec<DependencyReport>);

/// How many of them are kept: the active release's, and those that were looked at since.
const REPORTS_MAX: usize = 4;

impl Reports {
    /// Keeps a report in the place of an older one of the same release.
    pub fn keep(&mut self, report: DependencyReport) {
        if self.0.last() == Some(&report) {
            return;
        }
        self.0.retain(|known| known.release != report.release);
        if self.0.len() >= REPORTS_MAX {
            self.0.remove(0);
        }
        self.0.push(report);
    }

    /// Forgets all but the report of one release.
    pub fn keep_only(&mut self, release: Option<ReleaseId>) {
        self.0.retain(|known| Some(known.release) == release);
    }

    /// Returns them.
    #[must_use]
    pub fn all(&self) -> &[DependencyReport] {
        &self.0
    }

    /// Returns the report of the active release; where none is active, the last one.
    #[must_use]
    pub fn of(&self, active: Option<ReleaseId>) -> Option<&DependencyReport> {
        match active {
            Some(active) => self.0.iter().find(|report| report.release == active),
            None => self.0.last(),
        }
    }
}

/// What differs between a release and the Python environments of a node. Lists are cut to
/// [`DRIFTS_MAX`]; `left_out` counts what is not in them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// Packages that are missing or have another version.
    pub packages: Vec<PackageDrift>,
    /// Modules that changed files import and nothing there gives.
    pub imports: Vec<ImportDrift>,
    /// What could not be judged, each with the reason.
    pub unjudged: Vec<Text>,
    /// How many more findings there are.
    pub left_out: u64,
    /// The commands that mend it, one for each environment.
    pub mend: Vec<Text>,
}

impl Found {
    /// Whether something is wrong: what cannot be judged is not.
    #[must_use]
    pub const fn is_drift(&self) -> bool {
        !self.packages.is_empty() || !self.imports.is_empty()
    }
}

/// A package that is not as the release wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageDrift {
    /// The package; `python` is the interpreter itself.
    pub name: PackageName,
    /// What the release wants: `==1.2`; empty where any version will do.
    pub wanted: Text,
    /// What is installed; nothing where it is missing.
    pub installed: Option<Text>,
    /// The interpreter in whose environment.
    pub python: Text,
    /// The file of the tree that wants it.
    pub file: Text,
    /// The line of that file, where it is known.
    pub line: Option<u32>,
}

/// A module that a changed file imports and nothing installed gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImportDrift {
    /// The module's first component.
    pub module: Text,
    /// The interpreter in whose environment.
    pub python: Text,
    /// The file of the tree that imports it first.
    pub file: Text,
    /// The line.
    pub line: u32,
}

/// A Python environment in a status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentStatus {
    /// The path of its interpreter.
    pub python: Text,
    /// The interpreter's version.
    pub version: Text,
    /// The version of Dagster in it.
    pub dagster: Option<Text>,
    /// How many packages are installed.
    pub packages: u64,
}

impl From<&Environment> for EnvironmentStatus {
    fn from(environment: &Environment) -> Self {
        Self {
            python: environment.python.clone(),
            version: environment.version.clone(),
            dagster: environment.version_of(DAGSTER).cloned(),
            packages: environment.packages.len() as u64,
        }
    }
}

/// How a node's Python environments fit a release, in a status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyStatus {
    /// The release that was looked at: the active one, or with none active the last.
    pub release: Option<Seq>,
    /// Whether the node takes the release for that not.
    pub refused: bool,
    /// Packages that are missing or have another version.
    pub packages: Vec<PackageDrift>,
    /// Modules that changed files import and nothing there gives.
    pub imports: Vec<ImportDrift>,
    /// What could not be judged, each with the reason.
    pub unjudged: Vec<Text>,
    /// How many more findings there are.
    pub left_out: u64,
    /// The commands that mend it.
    pub mend: Vec<Text>,
}

impl DependencyStatus {
    /// Describes a report about a release of this seq.
    #[must_use]
    pub fn new(release: Option<Seq>, report: &DependencyReport) -> Self {
        let found = report.found.clone();
        Self {
            release,
            refused: report.refused,
            packages: found.packages,
            imports: found.imports,
            unjudged: found.unjudged,
            left_out: found.left_out,
            mend: found.mend,
        }
    }
}

/// Checks the counts of what a node says of its environments.
///
/// # Errors
/// When there are more than the limits allow.
pub fn environments_within(environments: &[Environment]) -> Result<(), Violation> {
    at_most("environments", environments.len(), ENVIRONMENTS_MAX)?;
    let packages = environments.iter().map(|one| one.packages.len()).sum();
    at_most("packages", packages, PACKAGES_MAX)
}

/// Checks the counts of a report.
///
/// # Errors
/// When there are more than the limits allow.
pub fn report_within(report: &DependencyReport) -> Result<(), Violation> {
    let found = &report.found;
    for (what, count) in [
        ("package drifts", found.packages.len()),
        ("import drifts", found.imports.len()),
        ("unjudged", found.unjudged.len()),
    ] {
        at_most(what, count, DRIFTS_MAX)?;
    }
    at_most("mends", found.mend.len(), MENDS_MAX)
}

fn at_most(what: &'static str, count: usize, count_max: usize) -> Result<(), Violation> {
    if count <= count_max {
        return Ok(());
    }
    Err(Violation::TooMany {
        what,
        count,
        count_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_name_is_normalised_as_pep_503_says() {
        for (text, name) in [
            ("Foo.Bar", "foo-bar"),
            ("foo_-._bar", "foo-bar"),
            ("PyYAML", "pyyaml"),
            ("a", "a"),
            ("7zip", "7zip"),
        ] {
            assert_eq!(text.parse::<PackageName>().unwrap().as_str(), name);
        }
        let long = "x".repeat(PACKAGE_NAME_BYTES_MAX + 1);
        for text in ["", "-a", "a-", "a b", "a;b", "a'b", "é", &long] {
            assert!(text.parse::<PackageName>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_a_normalised_name_decodes() {
        let encoded = |text: &str| codec::encode(&text.to_owned());
        assert!(codec::decode::<PackageName>(&encoded("foo-bar")).is_ok());
        assert!(codec::decode::<PackageName>(&encoded("Foo_bar")).is_err());
    }

    #[test]
    fn the_last_reports_are_kept_each_release_once() {
        let report = |n: u8, refused| DependencyReport {
            release: ReleaseId::of(&[n]),
            refused,
            found: Found::default(),
        };
        let mut reports = Reports::default();
        for n in 0..6 {
            reports.keep(report(n, false));
        }
        reports.keep(report(3, true));
        let kept: Vec<ReleaseId> = reports.all().iter().map(|one| one.release).collect();
        assert_eq!(kept, [2, 4, 5, 3].map(|n: u8| ReleaseId::of(&[n])));
        assert!(reports.of(None).unwrap().refused);
        let four = Some(ReleaseId::of(&[4]));
        assert_eq!(reports.of(four), Some(&report(4, false)));
        assert_eq!(reports.of(Some(ReleaseId::of(&[0]))), None);
        reports.keep_only(four);
        assert_eq!(reports.all(), [report(4, false)]);
    }

    #[test]
    fn a_report_or_an_environment_over_its_limit_is_a_violation() {
        let package = |n: usize| Package {
            name: format!("p{n}").parse().unwrap(),
            version: Text::cut("1"),
        };
        let mut environment = Environment {
            python: Text::cut("/bin/python"),
            version: Text::cut("3.11"),
            packages: (0..PACKAGES_MAX).map(package).collect(),
        };
        let one = std::slice::from_ref(&environment);
        assert_eq!(environments_within(one), Ok(()));
        environment.packages.push(package(PACKAGES_MAX));
        assert!(environments_within(std::slice::from_ref(&environment)).is_err());
        environment.packages.clear();
        assert!(environments_within(&vec![environment; ENVIRONMENTS_MAX + 1]).is_err());

        let mut report = DependencyReport {
            release: ReleaseId::of(b"r"),
            refused: false,
            found: Found::default(),
        };
        report.found.unjudged = vec![Text::default(); DRIFTS_MAX];
        assert_eq!(report_within(&report), Ok(()));
        report.found.unjudged.push(Text::default());
        assert!(report_within(&report).is_err());
    }
}
