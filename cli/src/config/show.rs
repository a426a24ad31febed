//! The configuration as it holds, and where each value came from.

use serde::Serialize;

use crate::config::Loaded;
use crate::config::place::line_and_column;
use crate::config::section::title;

pub use crate::config::place::Place;

/// The widest line that a remark still stands behind in its column.
const REMARK_COLUMN_MAX: usize = 60;

/// One value that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its path, as `volume.0.watch.settle`.
    pub key: String,
    /// What holds; nothing where the key is left out and has no default.
    pub value: Option<toml::Value>,
    /// Where it came from.
    pub place: Place,
}

impl Setting {
    fn split(&self) -> (&str, &str) {
        self.key.rsplit_once('.').unwrap_or(("", &self.key))
    }
}

/// Returns the configuration as TOML, each value with a remark that says where it came from.
#[must_use]
pub fn toml(loaded: &Loaded) -> String {
    let line = |setting: &Setting| {
        let (_, key) = setting.split();
        match &setting.value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        }
    };
    let lengths = loaded.settings.iter().map(|s| line(s).chars().count());
    let column = lengths.filter(|length| *length <= REMARK_COLUMN_MAX).max();
    let column = column.unwrap_or_default();
    let mut text = format!("# {}\n", loaded.path.display());
    let mut table = "";
    for setting in &loaded.settings {
        let (path, _) = setting.split();
        if path != table {
            table = path;
            text.extend(["\n", &title(path), "\n"]);
        }
        let remark = remark(setting, &loaded.text);
        text.extend([format!("{:column$}  # {remark}\n", line(setting))]);
    }
    text
}

fn remark(setting: &Setting, text: &str) -> String {
    match &setting.place {
        Place::File(span) => format!("file, line {}", line_and_column(text, span.start).0),
        Place::Variable(name) => format!("environment, {name}"),
        Place::Default => "default".to_owned(),
    }
}

/// The configuration as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    file: String,
    role: &'static str,
    settings: Vec<Entry<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct Entry<'a> {
    key: &'a str,
    value: Option<&'a toml::Value>,
    origin: &'static str,
    line: Option<usize>,
    variable: Option<&'a str>,
}

/// Returns the configuration as a document.
#[must_use]
pub fn document(loaded: &Loaded) -> Document<'_> {
    let entries = loaded.settings.iter().map(|setting| {
        let (origin, line, variable) = match &setting.place {
            Place::File(span) => {
                let (line, _) = line_and_column(&loaded.text, span.start);
                ("file", Some(line), None)
            }
            Place::Variable(name) => ("environment", None, Some(name.as_str())),
            Place::Default => ("default", None, None),
        };
        Entry {
            key: &setting.key,
            value: setting.value.as_ref(),
            origin,
            line,
            variable,
        }
    });
    Document {
        schema: "codevol.config/1",
        file: loaded.path.display().to_string(),
        role: loaded.config.role().as_str(),
        settings: entries.collect(),
    }
}
