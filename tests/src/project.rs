//! A small Dagster project: one module with assets, one with the definitions.

use std::fmt::Write as _;

use crate::Source;

/// What `pipes/orders.py` holds.
#[derive(Debug, Clone)]
pub struct Defines(String);

impl Defines {
    /// One asset of this name.
    #[must_use]
    pub fn asset(name: &str) -> Self {
        Self::assets(&[name])
    }

    /// Assets of these names.
    #[must_use]
    pub fn assets(names: &[&str]) -> Self {
        let mut text = "import dagster as dg\n".to_owned();
        for name in names {
            write!(text, "\n\n@dg.asset\ndef {name}():\n    return 1\n").expect("text grows");
        }
        Self(text)
    }

    /// The same, with lines that are run when it is imported.
    #[must_use]
    pub fn and(mut self, lines: &str) -> Self {
        self.0.push_str("\n\n");
        self.0.push_str(lines);
        self.0.push('\n');
        self
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Puts the project into a source's tree.
pub fn project(source: &Source, defines: &Defines) {
    source.save("pipes/__init__.py", "");
    source.save("pipes/orders.py", defines.text());
    source.save("pipes/definitions.py", DEFINITIONS);
    source.save(
        "definitions.py",
        "from pipes.definitions import defs  # noqa: F401\n",
    );
}

const DEFINITIONS: &str = "\
import dagster as dg

from pipes import orders

defs = dg.Definitions(assets=dg.load_assets_from_modules([orders]))
";
