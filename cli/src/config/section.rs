//! One table of the file while it is read.

use toml::de::{DeTable, DeValue};

use crate::config::place::Place;

/// One table of the file, and the keys that were asked of it.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Its path, as `volume.0.watch`; empty at the root.
    pub(super) path: String,
    pub(super) table: Option<&'a DeTable<'a>>,
    /// Where the table stands, for what is missing in it.
    pub(super) place: Place,
    pub(super) asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) const fn root(table: &'a DeTable<'a>) -> Self {
        Self {
            path: String::new(),
            table: Some(table),
            place: Place::Default,
            asked: Vec::new(),
        }
    }

    /// Returns the path of one of its keys, as `volume.0.watch.settle`.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether something stands there that is no table: that was told, and nothing else is missing.
    pub(super) fn is_faulty(&self) -> bool {
        self.table.is_none() && self.place != Place::Default
    }
}

/// Returns the header of a table: `[[volume]]` of `volume.0`, `[volume.watch]` of `volume.0.watch`.
pub(super) fn title(path: &str) -> String {
    let names = header(path);
    let last = path.rsplit('.').next().unwrap_or_default();
    if last.parse::<usize>().is_ok() {
        format!("[[{names}]]")
    } else {
        format!("[{names}]")
    }
}

/// Returns the name of a table as its header has it: without the numbers.
pub(super) fn header(path: &str) -> String {
    let names = path
        .split('.')
        .filter(|part| part.parse::<usize>().is_err());
    names.collect::<Vec<_>>().join(".")
}

/// Returns what a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
