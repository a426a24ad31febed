//! One list of rules in gitignore syntax, and where in the tree it holds.

use std::path::PathBuf;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::RulesError;

/// Which list a rule stands in: a later one beats an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    BuiltIn,
    Context,
    GitIgnore,
    CodevolIgnore,
    Config,
    Keep,
}

/// How strong a rule is among those that can match one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    class: Class,
    depth: usize,
    line: usize,
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// As it was written.
    pub(super) text: String,
    /// `pipes/.gitignore:3`, `configuration:1` or `built-in`.
    pub(super) from: String,
}

/// A rule that matched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'a> {
    pub(super) rank: Rank,
    pub(super) line: &'a Line,
    pub(super) ignores: bool,
}

impl Hit<'_> {
    /// Whether the rule may bring back what lies in an ignored directory. Only one that names the
    /// directory may: for `!*.example` every ignored directory would have to be walked.
    pub(super) fn rescues(&self) -> bool {
        !self.ignores && !parents(&self.line.text).is_empty()
    }
}

/// A list of rules that holds in `base` and below.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    class: Class,
    base: String,
    lines: Vec<Line>,
    matcher: Gitignore,
    /// Matches the directories above what the `!` rules name.
    parents: Gitignore,
}

impl Layer {
    /// Reads a list of rules; `name` is what they are said to come from.
    pub(super) fn parse(
        class: Class,
        base: &str,
        name: &str,
        text: &str,
    ) -> Result<Self, RulesError> {
        let mut layer = Self {
            class,
            base: base.to_owned(),
            lines: Vec::new(),
            matcher: Gitignore::empty(),
            parents: Gitignore::empty(),
        };
        let mut matcher = GitignoreBuilder::new("");
        let mut above = GitignoreBuilder::new("");
        for (number, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let trimmed = text.trim_end();
            let text = if text.ends_with("\\ ") { text } else { trimmed };
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let from = match class {
                Class::BuiltIn | Class::Context | Class::Keep => name.to_owned(),
                Class::GitIgnore | Class::CodevolIgnore | Class::Config => {
                    format!("{name}:{}", number + 1)
                }
            };
            let index = PathBuf::from(layer.lines.len().to_string());
            let bad = |source| RulesError::Pattern {
                from: from.clone(),
                text: text.to_owned(),
                source,
            };
            matcher.add_line(Some(index.clone()), text).map_err(bad)?;
            for parent in parents(text) {
                above.add_line(Some(index.clone()), &parent).map_err(bad)?;
            }
            let text = text.to_owned();
            layer.lines.push(Line { text, from });
        }
        let bad = |source| RulesError::Pattern {
            from: name.to_owned(),
            text: "all together".to_owned(),
            source,
        };
        layer.matcher = matcher.build().map_err(bad)?;
        layer.parents = above.build().map_err(bad)?;
        Ok(layer)
    }

    /// Returns the last rule of the list that matches a path of the tree.
    pub(super) fn hit(&self, path: &str, is_dir: bool) -> Option<Hit<'_>> {
        self.find(&self.matcher, path, is_dir)
    }

    /// Returns the last `!` rule of the list that names something below a directory.
    pub(super) fn rescue(&self, dir: &str) -> Option<Rank> {
        self.find(&self.parents, dir, true).map(|hit| hit.rank)
    }

    fn find(&self, matcher: &Gitignore, path: &str, is_dir: bool) -> Option<Hit<'_>> {
        let path = if self.base.is_empty() {
            path
        } else {
            path.strip_prefix(&self.base)?.strip_prefix('/')?
        };
        let (glob, ignores) = match matcher.matched(path, is_dir) {
            Match::None => return None,
            Match::Ignore(glob) => (glob, true),
            Match::Whitelist(glob) => (glob, false),
        };
        let line: usize = glob.from()?.to_str()?.parse().ok()?;
        let rank = Rank {
            class: self.class,
            depth: self.base.split('/').filter(|part| !part.is_empty()).count(),
            line,
        };
        Some(Hit {
            rank,
            line: self.lines.get(line)?,
            ignores,
        })
    }

    pub(super) const fn class(&self) -> Class {
        self.class
    }

    /// Writes the rules so that they mean the same in one list at the root.
    pub(super) fn render(&self, out: &mut String) {
        for line in &self.lines {
            out.push_str(&rebase(&self.base, &line.text));
            out.push('\n');
        }
    }
}

/// Splits a pattern into `!`, whether it is bound to its directory, and the rest.
fn split(text: &str) -> (&'static str, bool, &str) {
    let (not, body) = match text.strip_prefix('!') {
        Some(body) => ("!", body),
        None => ("", text),
    };
    let inner = body.strip_suffix('/').unwrap_or(body);
    let bound = inner.contains('/');
    (not, bound, body.strip_prefix('/').unwrap_or(body))
}

/// Returns the patterns of the directories above what a `!` rule names.
fn parents(text: &str) -> Vec<String> {
    let ("!", true, body) = split(text) else {
        return Vec::new();
    };
    let body = body.strip_suffix('/').unwrap_or(body);
    let mut found = Vec::new();
    let mut parent = String::new();
    let components: Vec<&str> = body.split('/').collect();
    let above = components.split_last().map_or(&[][..], |(_, above)| above);
    for component in above {
        if *component == "**" && found.is_empty() {
            return found;
        }
        parent.push('/');
        parent.push_str(component);
        if *component == "**" {
            found.push(parent);
            return found;
        }
        found.push(format!("{parent}/"));
    }
    found
}

fn rebase(base: &str, text: &str) -> String {
    if base.is_empty() {
        return text.to_owned();
    }
    let mut escaped = String::new();
    for c in base.chars() {
        if "*?[]{}\\!#".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    let (not, bound, body) = split(text);
    let any = if bound { "" } else { "**/" };
    format!("{not}/{escaped}/{any}{body}")
}
