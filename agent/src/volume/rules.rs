//! What the source left out of a release: names that may stand beside its files and are no drift.
//! The rules come from the source, under the hash that the signed record names; they are kept, so
//! that they hold while the source is away.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::limits::IGNORE_RULES_BYTES_MAX;
use codevol_store::dir::{Dir, DirError};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Root;
use super::held::Held;
use super::marker::MARKER;

/// The effective ignore rules of a release: one list in gitignore syntax at the root of its tree.
#[derive(Debug)]
pub(super) struct Rules(Gitignore);

impl Rules {
    /// Reads rules. A line that is no pattern leaves nothing out: the source's own has checked them.
    fn parse(text: &[u8]) -> Self {
        let mut rules = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(text).lines() {
            if let Err(error) = rules.add_line(None, line) {
                tracing::debug!(%error, "an ignore rule is no pattern");
            }
        }
        Self(rules.build().unwrap_or_else(|error| {
            tracing::warn!(%error, "ignore rules cannot be used");
            Gitignore::empty()
        }))
    }

    /// Whether a path, or a directory that it lies in, is left out.
    fn leave_out(&self, path: &str, is_dir: bool) -> bool {
        let above = path.match_indices('/').map(|(end, _)| (end, true));
        above.chain([(path.len(), is_dir)]).any(|(end, is_dir)| {
            path.get(..end)
                .is_some_and(|path| self.0.matched(path, is_dir).is_ignore())
        })
    }
}

/// Whether a name that the manifest does not know may stand in a release. Nothing where that cannot
/// be told: the rules are not here yet.
pub(super) fn admits(rules: Option<&Rules>, path: &str, is_dir: bool) -> Option<bool> {
    if path == MARKER || is_bytecode(path) {
        return Some(true);
    }
    rules.map(|rules| rules.leave_out(path, is_dir))
}

/// Whether Python itself writes such a name beside its modules, or below it.
fn is_bytecode(path: &str) -> bool {
    path.split('/').any(|name| name == "__pycache__")
}

impl Root {
    /// Returns the rules of a release; nothing where they are not here.
    pub(super) fn rules_of(&mut self, held: &Held) -> Option<Arc<Rules>> {
        let blob = held.release().ignore_rules;
        if let Some((_, rules)) = self.rules.iter().find(|(kept, _)| *kept == blob) {
            return Some(Arc::clone(rules));
        }
        let text = self.read_rules(blob)?;
        let rules = Arc::new(Rules::parse(&text));
        self.rules.push((blob, Arc::clone(&rules)));
        let surplus = self.rules.len().saturating_sub(RULES_MAX);
        self.rules.drain(..surplus);
        Some(rules)
    }

    /// Returns held releases whose rules are not here, one for each rules.
    pub fn lacks_rules(&mut self) -> Vec<ReleaseId> {
        let held: Vec<Arc<Held>> = self.held.values().cloned().collect();
        let mut asked = BTreeSet::new();
        let lacking = held.iter().filter(|held| {
            let blob = held.release().ignore_rules;
            self.rules_of(held).is_none() && asked.insert(blob)
        });
        lacking.map(|held| held.id()).collect()
    }

    /// Keeps rules that came, where a held release names them. Returns whether one does.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep_rules(&self, text: &[u8]) -> Result<bool, DirError> {
        let blob = BlobId::of(text);
        let named: BTreeSet<BlobId> = self
            .held
            .values()
            .map(|held| held.release().ignore_rules)
            .collect();
        if !named.contains(&blob) {
            return Ok(false);
        }
        let dir = &self.places.rules;
        for (name, _) in dir.entries()? {
            let Some(name) = name.to_str() else { continue };
            if !name.parse().is_ok_and(|blob: BlobId| named.contains(&blob)) {
                dir.remove_tree(name)?;
            }
        }
        let name = blob.to_string();
        dir.remove_file(&name)?;
        write(dir, &name, text)?;
        Ok(true)
    }

    /// Reads rules back; nothing where they are not what their name says.
    fn read_rules(&self, blob: BlobId) -> Option<Vec<u8>> {
        if blob == BlobId::of(b"") {
            return Some(Vec::new());
        }
        let text = self
            .places
            .rules
            .read(&blob.to_string(), IGNORE_RULES_BYTES_MAX);
        text.ok().filter(|text| BlobId::of(text) == blob)
    }
}

/// How many parsed rules are kept at hand: most releases share theirs.
const RULES_MAX: usize = 4;

/// Not made durable: what is torn does not match its name, and is asked for again.
fn write(dir: &Dir, name: &str, text: &[u8]) -> Result<(), DirError> {
    let mut file = dir.create_file(name, 0o600)?;
    file.write_all(text).map_err(|source| DirError::Io {
        action: "write",
        path: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_source_leaves_out_may_stand_there_and_all_below_it() {
        let rules = Rules::parse(b"# state\n*.log\n/build/\n!keep.log\n[\n");
        for (path, is_dir, expected) in [
            ("a.log", false, true),
            ("sub/a.log", false, true),
            ("keep.log", false, false),
            ("build", true, true),
            ("build/app.py", false, true),
            ("build", false, false),
            ("sub/build", true, false),
            ("a.py", false, false),
        ] {
            assert_eq!(admits(Some(&rules), path, is_dir), Some(expected), "{path}");
        }
    }

    #[test]
    fn without_rules_only_what_is_always_there_is_known() {
        assert_eq!(admits(None, "sub/__pycache__", true), Some(true));
        assert_eq!(admits(None, "__pycache__/a.pyc", false), Some(true));
        assert_eq!(admits(None, MARKER, false), Some(true));
        assert_eq!(admits(None, "a.log", false), None);
    }
}
