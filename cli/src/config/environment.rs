//! The variables that stand for keys: `CODEVOL_` and the key's path in capitals.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use crate::config::value::nearest;

const PREFIX: &str = "CODEVOL_";
/// The variable that names the file.
const FILE: &str = "CODEVOL_CONFIG";
/// Variables that begin like a key and are none.
const RESERVED: [&str; 6] = [
    FILE,
    "CODEVOL_DAGSTER",
    "CODEVOL_KEY_FILE",
    "CODEVOL_REQUIRE_DAGSTER",
    "CODEVOL_REQUIRE_DOCKER",
    "CODEVOL_SOURCE_KEY",
];

/// The variables of the environment that begin with `CODEVOL_`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Returns what this process was given.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::new(named)
    }

    /// Returns those of the variables that begin with `CODEVOL_`.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, OsString)>) -> Self {
        let ours = variables.into_iter();
        Self(ours.filter(|(name, _)| name.starts_with(PREFIX)).collect())
    }

    /// Returns the file that the environment names.
    pub(super) fn file(&self) -> Option<&OsStr> {
        self.value(FILE).filter(|file| !file.is_empty())
    }

    /// Whether the environment names a file.
    #[must_use]
    pub fn names_file(&self) -> bool {
        self.file().is_some()
    }

    /// Returns what a variable holds; an empty one holds nothing.
    #[must_use]
    pub fn held(&self, variable: &str) -> Option<&OsStr> {
        self.value(variable).filter(|value| !value.is_empty())
    }

    pub(super) fn value(&self, variable: &str) -> Option<&OsStr> {
        self.0.get(variable).map(OsString::as_os_str)
    }

    /// Whether a variable stands for a key below this path.
    pub(super) fn names_below(&self, path: &str) -> bool {
        let start = format!("{}__", variable(path));
        let mut from = self.0.range(start.clone()..);
        from.next()
            .is_some_and(|(name, _)| name.starts_with(&start))
    }

    /// Returns a warning for each variable that looks like a key and is none of these.
    pub(super) fn unknown(&self, known: &BTreeSet<String>) -> Vec<String> {
        let unknown = self.0.keys().filter(|name| {
            let name = name.as_str();
            !known.contains(name) && !RESERVED.contains(&name)
        });
        let warnings = unknown.map(|name| {
            // What all of them begin with makes no two of them alike.
            let words = known.iter().map(String::as_str).chain(RESERVED);
            let words = words.filter_map(|word| word.strip_prefix(PREFIX));
            let similar = nearest(name.strip_prefix(PREFIX).unwrap_or(name), words);
            let end = similar.map_or_else(String::new, |word| {
                format!("; did you mean `{PREFIX}{word}`?")
            });
            format!("the variable `{name}` means nothing here{end}")
        });
        warnings.collect()
    }
}

/// Returns the variable of a key: `volume.0.watch.settle` is `CODEVOL_VOLUME__0__WATCH__SETTLE`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}
