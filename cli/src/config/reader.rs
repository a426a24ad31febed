//! Takes values out of the environment and the file, one key at a time. What is asked for is what
//! exists: the keys nobody asked for are the unknown ones.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use codevol_protocol::limits;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::environment::variable;
use crate::config::fault::Fault;
use crate::config::place::Place;
use crate::config::section::{Section, header, kind, title};
use crate::config::show::Setting;
use crate::config::{Environment, defaults, value};

/// What was written for a key.
enum Written<'a> {
    Toml(&'a DeValue<'a>),
    Variable(String),
}

/// Reads, and gathers the faults and the values with their origin.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    /// Where the file stands.
    pub(super) file: PathBuf,
    /// What relative paths of the file are relative to.
    pub(super) folder: PathBuf,
    pub(super) faults: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
    /// The variables of the keys that were asked for.
    pub(super) variables: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &Path, environment: &'a Environment) -> Result<Self, Fault> {
        let gone = |error: std::io::Error| {
            Fault::new(
                Place::Default,
                format!("the working folder is gone: {error}"),
            )
        };
        Ok(Self {
            environment,
            file: std::path::absolute(path).map_err(gone)?,
            folder: defaults::folder_of(path).map_err(gone)?,
            faults: Vec::new(),
            settings: Vec::new(),
            variables: BTreeSet::new(),
        })
    }

    /// Returns the value of a key that is text. Without a default the key must be there.
    pub(super) fn text<T>(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, place) = match self.written(section, key) {
            Some((written, place)) => (self.as_text(key, written, &place)?, place),
            None => match default {
                Some(default) => (default.to_owned(), Place::Default),
                None => return self.missing(section, key),
            },
        };
        let value = self.parsed(&text, &place, parse)?;
        self.settle(section.key(key), Some(text.into()), place);
        Some(value)
    }

    /// Returns the value of a key that is text and may be left out.
    pub(super) fn optional_text<T>(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some((written, place)) = self.written(section, key) else {
            self.settle(section.key(key), None, Place::Default);
            return None;
        };
        let text = self.as_text(key, written, &place)?;
        let value = self.parsed(&text, &place, parse)?;
        self.settle(section.key(key), Some(text.into()), place);
        Some(value)
    }

    /// Returns the value of a key that is a path: absolute, whatever it was relative to.
    pub(super) fn path(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        default: Option<PathBuf>,
    ) -> Option<PathBuf> {
        let (path, place) = match self.written(section, key) {
            Some((written, place)) => {
                let text = self.as_text(key, written, &place)?;
                let folder = self.folder.clone();
                // A shell's user means the folder that he stands in.
                let relative_to_file = matches!(place, Place::File(_));
                let parse = |text: &str| value::path(text, relative_to_file.then_some(&folder));
                (self.parsed(&text, &place, parse)?, place)
            }
            None => match default {
                Some(default) => (default, Place::Default),
                None => return self.missing(section, key),
            },
        };
        let shown = path.display().to_string();
        self.settle(section.key(key), Some(shown.into()), place);
        Some(path)
    }

    /// Returns the value of a key that is a path and may be left out.
    pub(super) fn optional_path(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
    ) -> Option<PathBuf> {
        let Some((written, place)) = self.written(section, key) else {
            self.settle(section.key(key), None, Place::Default);
            return None;
        };
        let text = self.as_text(key, written, &place)?;
        let folder = self.folder.clone();
        let relative_to_file = matches!(place, Place::File(_));
        let parse = |text: &str| value::path(text, relative_to_file.then_some(&folder));
        let path = self.parsed(&text, &place, parse)?;
        let shown = path.display().to_string();
        self.settle(section.key(key), Some(shown.into()), place);
        Some(path)
    }

    /// Returns the value of a key that is a whole number.
    pub(super) fn number(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        default: usize,
        bounds: RangeInclusive<u32>,
    ) -> Option<usize> {
        let Some((written, place)) = self.written(section, key) else {
            self.settle(
                section.key(key),
                i64::try_from(default).ok().map(Into::into),
                Place::Default,
            );
            return Some(default);
        };
        let digits = match written {
            Written::Variable(text) => text,
            Written::Toml(DeValue::Integer(integer)) if integer.radix() == 10 => {
                integer.as_str().to_owned()
            }
            Written::Toml(other) => {
                self.wrong_kind(&format!("`{key}`"), "a whole number", other, place);
                return None;
            }
        };
        let parse = |text: &str| {
            let number = text.parse::<u32>().ok();
            number
                .filter(|number| bounds.contains(number))
                .ok_or_else(|| {
                    let (low, high) = (bounds.start(), bounds.end());
                    format!("`{text}` is not a whole number from {low} to {high}")
                })
        };
        let number = self.parsed(&digits, &place, parse)?;
        self.settle(section.key(key), Some(i64::from(number).into()), place);
        usize::try_from(number).ok()
    }

    /// Returns the value of a key that is a word or a whole number; the number is parsed as text too.
    pub(super) fn text_or_number<T>(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, place) = match self.written(section, key) {
            None => (default.to_owned(), Place::Default),
            Some((Written::Variable(text), place)) => (text, place),
            Some((Written::Toml(DeValue::String(text)), place)) => {
                (text.as_ref().to_owned(), place)
            }
            Some((Written::Toml(DeValue::Integer(integer)), place)) if integer.radix() == 10 => {
                (integer.as_str().to_owned(), place)
            }
            Some((Written::Toml(other), place)) => {
                let expected = "a string or a whole number";
                self.wrong_kind(&format!("`{key}`"), expected, other, place);
                return None;
            }
        };
        let value = self.parsed(&text, &place, parse)?;
        let shown = text
            .parse::<i64>()
            .map_or_else(|_| text.into(), toml::Value::from);
        self.settle(section.key(key), Some(shown), place);
        Some(value)
    }

    /// Returns the values of a key that is a list of texts; none by default.
    pub(super) fn list<T>(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (items, place) = match self.written(section, key) {
            None => (Vec::new(), Place::Default),
            Some((Written::Variable(text), place)) => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                let items = items.map(|item| Some((item.to_owned(), place.clone())));
                (items.collect(), place)
            }
            Some((Written::Toml(DeValue::Array(array)), place)) => {
                let items = array.iter().map(|item| self.item(key, item));
                (items.collect::<Vec<_>>(), place)
            }
            Some((Written::Toml(other), place)) => {
                self.wrong_kind(&format!("`{key}`"), "a list of strings", other, place);
                return None;
            }
        };
        // Each is parsed, so that each faulty one is told.
        let parsed = items.into_iter().map(|item| {
            let (text, place) = item?;
            Some((self.parsed(&text, &place, &parse)?, text))
        });
        let parsed: Vec<Option<(T, String)>> = parsed.collect();
        let (values, shown): (_, Vec<String>) = parsed.into_iter().collect::<Option<_>>()?;
        self.settle(section.key(key), Some(shown.into()), place);
        Some(values)
    }

    /// Returns the table of that name, whether or not it is there.
    pub(super) fn section(&mut self, parent: &mut Section<'a>, key: &'static str) -> Section<'a> {
        parent.asked.push(key);
        let written = parent.table.and_then(|table| table.get(key));
        let path = parent.key(key);
        self.table(path, key, written)
    }

    /// Returns the tables of a list of tables, then those that only the environment names.
    pub(super) fn sections(
        &mut self,
        parent: &mut Section<'a>,
        key: &'static str,
    ) -> Vec<Section<'a>> {
        parent.asked.push(key);
        let path = parent.key(key);
        let mut sections = Vec::new();
        let written = parent.table.and_then(|table| table.get(key));
        if let Some(items) = written.and_then(|written| written.get_ref().as_array()) {
            for (index, item) in items.iter().enumerate().take(limits::VOLUMES_MAX + 1) {
                sections.push(self.table(format!("{path}.{index}"), key, Some(item)));
            }
        } else if let Some(written) = written {
            let what = format!("a list of tables, each under `[[{}]]`", header(&path));
            let place = Place::File(written.span());
            self.wrong_kind(&format!("`{key}`"), &what, written.get_ref(), place);
        }
        while sections.len() <= limits::VOLUMES_MAX
            && self
                .environment
                .names_below(&format!("{path}.{}", sections.len()))
        {
            let section = self.table(format!("{path}.{}", sections.len()), key, None);
            sections.push(section);
        }
        if let Some(section) = sections.get(limits::VOLUMES_MAX) {
            let most = limits::VOLUMES_MAX;
            let message = format!("more than {most} of `{key}`: {most} is the most there can be");
            self.faults.push(Fault::new(section.place.clone(), message));
        }
        sections
    }

    /// Tells the keys of a table that nobody asked for.
    pub(super) fn finish(&mut self, section: &Section<'a>) {
        for key in section.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if !section.asked.contains(&name) {
                let similar = value::nearest(name, section.asked.iter().copied());
                self.faults.push(
                    Fault::new(Place::File(key.span()), format!("unknown key `{name}`"))
                        .hint(similar.map(|similar| format!("did you mean `{similar}`?"))),
                );
            }
        }
    }

    /// Adds a fault of the value of a key that was read: it stands where the value was written.
    pub(super) fn fault(&mut self, key: &str, message: impl Into<String>) {
        let place = self.place(key);
        self.faults.push(Fault::new(place, message));
    }

    /// Returns where the value of a key that was read was written.
    pub(super) fn place(&self, key: &str) -> Place {
        let setting = self.settings.iter().find(|setting| setting.key == key);
        setting.map_or(Place::Default, |setting| setting.place.clone())
    }

    fn written(
        &mut self,
        section: &mut Section<'a>,
        key: &'static str,
    ) -> Option<(Written<'a>, Place)> {
        section.asked.push(key);
        let variable = variable(&section.key(key));
        self.variables.insert(variable.clone());
        if let Some(value) = self.environment.value(&variable) {
            let place = Place::Variable(variable);
            return match OsStr::to_str(value) {
                Some(text) => Some((Written::Variable(text.to_owned()), place)),
                None => {
                    self.faults
                        .push(Fault::new(place, "the value is not UTF-8"));
                    None
                }
            };
        }
        let value = section.table?.get(key)?;
        Some((Written::Toml(value.get_ref()), Place::File(value.span())))
    }

    fn as_text(&mut self, key: &str, written: Written<'a>, place: &Place) -> Option<String> {
        match written {
            Written::Variable(text) => Some(text),
            Written::Toml(DeValue::String(text)) => Some(text.as_ref().to_owned()),
            Written::Toml(other) => {
                self.wrong_kind(&format!("`{key}`"), "a string", other, place.clone());
                None
            }
        }
    }

    fn item(&mut self, key: &str, item: &'a Spanned<DeValue<'a>>) -> Option<(String, Place)> {
        let place = Place::File(item.span());
        let Some(text) = item.get_ref().as_str() else {
            let each = format!("each of `{key}`");
            self.wrong_kind(&each, "a string", item.get_ref(), place);
            return None;
        };
        Some((text.to_owned(), place))
    }

    fn parsed<T>(
        &mut self,
        text: &str,
        place: &Place,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text)
            .map_err(|message| self.faults.push(Fault::new(place.clone(), message)))
            .ok()
    }

    fn table(
        &mut self,
        path: String,
        key: &'static str,
        written: Option<&'a Spanned<DeValue<'a>>>,
    ) -> Section<'a> {
        let place = written.map_or(Place::Default, |value| Place::File(value.span()));
        let table = match written.map(Spanned::get_ref) {
            None => None,
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                self.wrong_kind(&format!("`{key}`"), "a table", other, place.clone());
                None
            }
        };
        Section {
            path,
            table,
            place,
            asked: Vec::new(),
        }
    }

    fn wrong_kind(&mut self, what: &str, expected: &str, found: &DeValue<'_>, place: Place) {
        let message = format!("{what} must be {expected}, not {}", kind(found));
        self.faults.push(Fault::new(place, message));
    }

    fn missing<T>(&mut self, section: &Section<'a>, key: &str) -> Option<T> {
        if !section.is_faulty() {
            let message = format!("this `{}` has no `{key}`", title(&section.path));
            self.faults.push(Fault::new(section.place.clone(), message));
        }
        None
    }

    fn settle(&mut self, key: String, value: Option<toml::Value>, place: Place) {
        self.settings.push(Setting { key, value, place });
    }
}
