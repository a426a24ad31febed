//! The ignore rules: what of a tree is left out, and why.
//!
//! The lists, weakest first: built-in everywhere, built-in by context, `.gitignore` (a deeper one
//! beats those above it), `.codevolignore`, configuration, built-in keep rules. In each a later rule
//! beats an earlier one. An ignored directory is not walked, unless a stronger `!` rule names
//! something in it: `!/build/app.py` brings that file back, `!*.py` brings nothing back from there.

use std::collections::BTreeMap;

use codevol_protocol::limits::IGNORE_RULES_BYTES_MAX;
use codevol_protocol::path::RelPath;

mod built_in;
mod layer;

pub(crate) use layer::Rank;
use layer::{Class, Hit, Layer};

/// The ignore file of git, at any level.
pub const GIT_IGNORE: &str = ".gitignore";
/// The ignore file of codevol, at the root.
pub const CODEVOL_IGNORE: &str = ".codevolignore";

/// The rules of one tree.
#[derive(Debug, Clone)]
pub struct Rules {
    fixed: [Layer; 2],
    directories: BTreeMap<String, (RuleFiles, Vec<Layer>)>,
}

/// What the rules say of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried.
    Included,
    /// It is left out.
    Ignored {
        /// The rule, as it was written.
        rule: String,
        /// Where it was written: `pipes/.gitignore:3`, `configuration:1` or `built-in`.
        from: String,
    },
}

/// What of a directory bears on the rules below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleFiles {
    pub(crate) gitignore: Option<String>,
    pub(crate) codevolignore: Option<String>,
    pub(crate) dagster: bool,
    pub(crate) dbt: bool,
}

/// Why there are no rules to go by. A tree whose rules cannot be read is not published: what they
/// would have left out may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A rule is no gitignore pattern.
    #[error("cannot read ignore rule `{text}` ({from})")]
    Pattern {
        /// Where it stands.
        from: String,
        /// The rule.
        text: String,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// An ignore file cannot be read.
    #[error("cannot read ignore file `{path}`")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The rules are longer than a release may carry.
    #[error("ignore rules are longer than {IGNORE_RULES_BYTES_MAX} bytes together")]
    TooLong,
}

/// Whether a file of this name bears on the rules of its directory.
#[must_use]
pub(crate) fn is_rule_file(name: &str) -> bool {
    [
        GIT_IGNORE,
        CODEVOL_IGNORE,
        built_in::DAGSTER_FILE,
        built_in::DBT_FILE,
    ]
    .contains(&name)
}

impl RuleFiles {
    /// Notes that a directory holds an entry of this name.
    pub(crate) fn see(&mut self, name: &[u8]) {
        self.dagster |= name == built_in::DAGSTER_FILE.as_bytes();
        self.dbt |= name == built_in::DBT_FILE.as_bytes();
    }
}

impl Rules {
    /// Returns the rules of a tree of which nothing was seen yet.
    ///
    /// # Errors
    /// When a rule of the configuration is no pattern.
    pub fn new(config_ignore: &[String]) -> Result<Self, RulesError> {
        let config = config_ignore.join("\n");
        Ok(Self {
            fixed: [
                Layer::parse(Class::BuiltIn, "", "built-in", built_in::EVERYWHERE)?,
                Layer::parse(Class::Config, "", "configuration", &config)?,
            ],
            directories: BTreeMap::new(),
        })
    }

    /// Returns what the rules say of a path.
    #[must_use]
    pub fn verdict(&self, path: &RelPath, is_dir: bool) -> Verdict {
        let text = path.as_str();
        let ends = text.match_indices('/').map(|(at, _)| (at, true));
        let mut ignored: Option<Hit<'_>> = None;
        for (end, is_dir) in ends.chain([(text.len(), is_dir)]) {
            let Some(prefix) = text.get(..end) else {
                continue;
            };
            ignored = self.judge(ignored, prefix, is_dir);
        }
        ignored.map_or(Verdict::Included, |hit| Verdict::Ignored {
            rule: hit.line.text.clone(),
            from: hit.line.from.clone(),
        })
    }

    /// Returns the effective rules as one list in gitignore syntax at the root of the tree.
    #[must_use]
    pub fn canonical_text(&self) -> Vec<u8> {
        let mut layers: Vec<&Layer> = self.layers().collect();
        // Stable: a directory comes before those below it, which beat it.
        layers.sort_by_key(|layer| layer.class());
        let mut text = String::new();
        for layer in layers {
            layer.render(&mut text);
        }
        text.into_bytes()
    }

    /// Whether a directory, ignored by a rule of this rank, must be walked for what a stronger rule
    /// brings back.
    pub(crate) fn must_walk(&self, dir: &str, ignored_by: Rank) -> bool {
        self.layers_above(dir)
            .filter_map(|layer| layer.rescue(dir))
            .any(|rank| rank > ignored_by)
    }

    /// Whether a new directory is one to walk.
    #[must_use]
    pub(crate) fn is_walked(&self, dir: &RelPath) -> bool {
        let mut ignored = None;
        let text = dir.as_str();
        let ends = text.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([text.len()]) {
            let prefix = text.get(..end).unwrap_or(text);
            ignored = self.ignored_by(ignored, prefix, true);
            if ignored.is_some_and(|rank| !self.must_walk(prefix, rank)) {
                return false;
            }
        }
        true
    }

    /// Returns the rank of the rule that ignores a path, given that of its directory.
    pub(crate) fn ignored_by(&self, above: Option<Rank>, path: &str, is_dir: bool) -> Option<Rank> {
        match self.hit(path, is_dir) {
            Some(hit) if hit.ignores => above.max(Some(hit.rank)),
            Some(hit) if hit.rescues() => above.filter(|above| *above > hit.rank),
            Some(_) | None => above,
        }
    }

    /// Whether this is what was found in a directory before.
    pub(crate) fn knows(&self, dir: &str, files: &RuleFiles) -> bool {
        match self.directories.get(dir) {
            Some((before, _)) => before == files,
            None => *files == RuleFiles::default(),
        }
    }

    /// Takes in what was found in a directory.
    pub(crate) fn enter(&mut self, dir: &str, files: RuleFiles) -> Result<(), RulesError> {
        let layers = layers_of(dir, &files)?;
        self.directories.insert(dir.to_owned(), (files, layers));
        if self.canonical_text().len() as u64 > IGNORE_RULES_BYTES_MAX {
            // Not taken in: the next scan finds them too long again.
            self.directories.remove(dir);
            return Err(RulesError::TooLong);
        }
        Ok(())
    }

    /// Returns the directories that have rules of their own.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &str> {
        self.directories.keys().map(String::as_str)
    }

    /// Forgets the rules of directories that are gone or no longer walked.
    pub(crate) fn retain(&mut self, is_walked: impl Fn(&str) -> bool) {
        self.directories.retain(|dir, _| is_walked(dir));
    }

    fn judge<'a>(&'a self, above: Option<Hit<'a>>, path: &str, is_dir: bool) -> Option<Hit<'a>> {
        let by = self.ignored_by(above.map(|hit| hit.rank), path, is_dir)?;
        match above {
            Some(above) if above.rank == by => Some(above),
            Some(_) | None => self.hit(path, is_dir),
        }
    }

    /// Returns the strongest rule that matches a path.
    fn hit(&self, path: &str, is_dir: bool) -> Option<Hit<'_>> {
        self.layers_above(path)
            .filter_map(|layer| layer.hit(path, is_dir))
            .max_by_key(|hit| hit.rank)
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        let own = self.directories.values().flat_map(|(_, layers)| layers);
        self.fixed.iter().chain(own)
    }

    /// Returns the lists that hold for a path: its own directory's and those above.
    fn layers_above<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Layer> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let own = std::iter::once(0)
            .chain(ends)
            .filter_map(|end| self.directories.get(path.get(..end)?))
            .flat_map(|(_, layers)| layers);
        self.fixed.iter().chain(own)
    }
}

fn layers_of(dir: &str, files: &RuleFiles) -> Result<Vec<Layer>, RulesError> {
    let mut layers = Vec::new();
    let mut add = |class, name: &str, text: &str| {
        layers.push(Layer::parse(class, dir, name, text)?);
        Ok::<(), RulesError>(())
    };
    if files.dagster {
        add(
            Class::Context,
            "built-in, beside dagster.yaml",
            built_in::DAGSTER,
        )?;
    }
    if files.dbt {
        add(
            Class::Context,
            "built-in, beside dbt_project.yml",
            built_in::DBT,
        )?;
        add(
            Class::Keep,
            "built-in, beside dbt_project.yml",
            built_in::DBT_KEEP,
        )?;
    }
    if let Some(text) = &files.gitignore {
        let name = if dir.is_empty() {
            GIT_IGNORE.to_owned()
        } else {
            format!("{dir}/{GIT_IGNORE}")
        };
        add(Class::GitIgnore, &name, text)?;
    }
    if let Some(text) = &files.codevolignore {
        add(Class::CodevolIgnore, CODEVOL_IGNORE, text)?;
    }
    Ok(layers)
}

#[cfg(test)]
mod tests;
