//! What commands print, one after the other, as a person at a terminal would keep it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::{Ended, Host};

/// The page that names each key of each document.
const PAGE: &str = include_str!("../../docs/json.md");

/// Commands with all that came of them.
#[derive(Debug, Default)]
pub struct Transcript(String);

impl Transcript {
    /// Runs a command on a host, and keeps what it prints.
    ///
    /// # Panics
    /// When a document holds a key that `docs/json.md` does not name.
    #[track_caller]
    pub fn run(&mut self, host: &Host, args: &[&str]) -> Ended {
        let ended = host.run(args);
        self.keep(host, args, &ended);
        ended
    }

    /// Keeps what a command printed that was run already.
    ///
    /// # Panics
    /// As [`Self::run`].
    #[track_caller]
    pub fn keep(&mut self, host: &Host, args: &[&str], ended: &Ended) {
        if args.contains(&"--json") {
            let unnamed: Vec<String> = ended.json_lines().iter().flat_map(unnamed).collect();
            let args = args.join(" ");
            assert!(
                unnamed.is_empty(),
                "`{args}`: docs/json.md does not name {unnamed:?}"
            );
        }
        let (args, code) = (args.join(" "), ended.code);
        let code = code.expect("no signal ended it");
        let place = host.place().path().to_str().expect("the path is text");
        let (out, err) = (&ended.stdout, &ended.stderr);
        let said = format!("$ codevol {args}\n{out}{err}--- {code}\n").replace(place, "[PLACE]");
        for line in said.lines() {
            self.0.push_str(&squeezed(line));
            self.0.push('\n');
        }
    }

    /// Keeps the last line alone of what a command printed, where those before it have no order.
    #[track_caller]
    pub fn run_for_last(&mut self, host: &Host, args: &[&str]) -> Ended {
        let mut ended = host.run(args);
        let last = ended.stdout.lines().last().unwrap_or_default();
        ended.stdout = format!("{last}\n");
        self.keep(host, args, &ended);
        ended
    }

    /// Writes a remark.
    pub fn remark(&mut self, remark: &str) {
        writeln!(self.0, "# {remark}").expect("text grows");
    }

    /// Returns it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Returns a row of a table with two blanks between its cells: how wide they are differs from run to run.
fn squeezed(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let (indent, row) = line.split_at(indent);
    let cells = row.split("  ").map(str::trim);
    let mut cells = cells.filter(|cell| !cell.is_empty());
    match (cells.next(), cells.next(), cells.next()) {
        (Some(one), Some(two), Some(three)) => {
            let rest: String = cells.map(|cell| format!("  {cell}")).collect();
            format!("{indent}{one}  {two}  {three}{rest}")
        }
        _ => line.trim_end().to_owned(),
    }
}

/// Returns the keys of a document that the page does not name.
#[must_use]
fn unnamed(document: &Value) -> Vec<String> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let words: BTreeSet<&str> = PAGE.split(|c| !is_of_word(c)).collect();
    let keys = keys(document).into_iter();
    keys.filter(|key| !words.contains(key.as_str())).collect()
}

/// Returns the keys of a document, and what its schema is called.
fn keys(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match document {
        Value::Object(fields) => {
            let is_outcome = fields.contains_key("returned");
            for (key, value) in fields {
                found.insert(key.clone());
                let schema = value.as_str().filter(|_| key == "schema");
                let schema = schema.and_then(|schema| schema.strip_prefix("codevol."));
                found.extend(schema.map(|schema| schema.trim_end_matches("/1").to_owned()));
                // Its keys are the names of nodes.
                if !(is_outcome && key == "nodes") {
                    found.extend(keys(value));
                }
            }
        }
        Value::Array(values) => found.extend(values.iter().flat_map(keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}
