//! What differs between a release and a node's Python environments, in words. All screens, failures
//! and logs say it alike.

use std::collections::BTreeMap;

use super::{DependencyReport, Found, ImportDrift, PackageDrift};
use crate::message::Failure;
use crate::name::Text;
use crate::release::Seq;

/// One word for it.
const KIND: &str = "dependencies";
/// More than these are counted.
const NAMED_MAX: usize = 5;

impl DependencyReport {
    /// Returns what is wrong, and what mends it; nothing where nothing is.
    #[must_use]
    pub fn failure(&self, seq: Seq) -> Option<Failure> {
        if !self.found.is_drift() {
            return None;
        }
        let mut failure = Failure::new(KIND, self.found.sentence());
        let first = self.found.packages.first();
        failure.location = first.map(|drift| Text::cut(place(&drift.file, drift.line)));
        failure.hint = Some(Text::cut(self.hint(seq)));
        // Only a person can mend it, who then asks.
        failure.retryable = false;
        Some(failure)
    }

    fn hint(&self, seq: Seq) -> String {
        let mend = self.found.mend();
        match (mend, self.refused) {
            (Some(mend), true) => format!("{mend} on that server, then `codevol retry {seq}`"),
            (Some(mend), false) => format!("{mend} on that server"),
            (None, true) => format!(
                "codevol sends code, not packages: install them there, then `codevol retry {seq}`"
            ),
            (None, false) => "codevol sends code, not packages: install them there".to_owned(),
        }
    }
}

impl Found {
    /// Returns what differs in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut packages: BTreeMap<&Text, Vec<&PackageDrift>> = BTreeMap::new();
        for drift in &self.packages {
            packages.entry(&drift.python).or_default().push(drift);
        }
        let mut parts: Vec<String> = packages
            .iter()
            .map(|(python, drifts)| of_environment(python, drifts))
            .collect();
        let mut imports: BTreeMap<&Text, Vec<&ImportDrift>> = BTreeMap::new();
        for drift in &self.imports {
            imports.entry(&drift.python).or_default().push(drift);
        }
        parts.extend(imports.iter().map(|(python, drifts)| {
            let named = drifts.iter().map(|drift| {
                let at = place(&drift.file, Some(drift.line));
                format!("{} ({at})", drift.module.as_str())
            });
            let named = listed(named.collect());
            format!("nothing in `{}` gives {named}", python.as_str())
        }));
        if self.left_out > 0 {
            parts.push(format!("and {} more", self.left_out));
        }
        parts.join("; ")
    }

    /// Returns the commands that mend it; nothing where there is none.
    #[must_use]
    pub fn mend(&self) -> Option<String> {
        let commands = self.mend.iter();
        let quoted: Vec<String> = commands
            .map(|mend| format!("`{}`", mend.as_str()))
            .collect();
        (!quoted.is_empty()).then(|| quoted.join(" and "))
    }
}

fn of_environment(python: &Text, drifts: &[&PackageDrift]) -> String {
    let (other, missing): (Vec<&PackageDrift>, Vec<&PackageDrift>) =
        drifts.iter().partition(|drift| drift.installed.is_some());
    let missing = missing.iter().map(|drift| {
        let at = place(&drift.file, drift.line);
        format!("{}{} ({at})", drift.name, drift.wanted.as_str())
    });
    let other = other.iter().map(|drift| {
        let installed = drift.installed.as_ref().map_or("", Text::as_str);
        let (wanted, at) = (drift.wanted.as_str(), place(&drift.file, drift.line));
        format!("{} {installed}, not {wanted} ({at})", drift.name)
    });
    let (missing, other) = (missing.collect::<Vec<_>>(), other.collect::<Vec<_>>());
    let lacks = format!("lacks {}", listed(missing.clone()));
    let has = format!("has {}", listed(other.clone()));
    let what = match (missing.is_empty(), other.is_empty()) {
        (false, true) => lacks,
        (true, _) => has,
        (false, false) => format!("{lacks}, and {has}"),
    };
    format!("`{}` {what}", python.as_str())
}

fn place(file: &Text, line: Option<u32>) -> String {
    match line {
        Some(line) => format!("{}:{line}", file.as_str()),
        None => file.as_str().to_owned(),
    }
}

fn listed(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        items.truncate(NAMED_MAX);
        items.push(format!("{more} more"));
    }
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReleaseId;

    const PYTHON: &str = "/opt/venv/bin/python";

    fn drift(name: &str, wanted: &str, installed: Option<&str>, line: Option<u32>) -> PackageDrift {
        PackageDrift {
            name: name.parse().unwrap(),
            wanted: Text::cut(wanted),
            installed: installed.map(Text::cut),
            python: Text::cut(PYTHON),
            file: Text::cut("requirements.txt"),
            line,
        }
    }

    fn report(found: Found) -> DependencyReport {
        DependencyReport {
            release: ReleaseId::of(b"r"),
            refused: true,
            found,
        }
    }

    #[test]
    fn what_is_missing_and_what_is_another_version_is_one_sentence() {
        let found = Found {
            packages: vec![
                drift("polars", "==1.2", None, Some(3)),
                drift("pandas", ">=2.1", Some("2.0"), Some(4)),
                drift("rich", "", None, None),
            ],
            imports: vec![ImportDrift {
                module: Text::cut("duckdb"),
                python: Text::cut(PYTHON),
                file: Text::cut("assets/orders.py"),
                line: 17,
            }],
            left_out: 2,
            ..Found::default()
        };
        assert_eq!(
            found.sentence(),
            "`/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3) and rich \
             (requirements.txt), and has pandas 2.0, not >=2.1 (requirements.txt:4); nothing in \
             `/opt/venv/bin/python` gives duckdb (assets/orders.py:17); and 2 more"
        );
    }

    #[test]
    fn many_are_counted() {
        let packages = (0..8).map(|n| drift(&format!("p{n}"), "", None, None));
        let found = Found {
            packages: packages.collect(),
            ..Found::default()
        };
        let said = found.sentence();
        assert!(said.ends_with("p4 (requirements.txt) and 3 more"), "{said}");
    }

    #[test]
    fn a_failure_names_the_place_and_the_command_that_mends_it() {
        let mut found = Found {
            packages: vec![drift("polars", "==1.2", None, Some(3))],
            ..Found::default()
        };
        let hint = |found: &Found, refused| {
            let mut report = report(found.clone());
            report.refused = refused;
            let failure = report.failure(Seq(43)).unwrap();
            assert_eq!(failure.kind.as_str(), "dependencies");
            assert!(!failure.retryable);
            assert_eq!(failure.location.unwrap().as_str(), "requirements.txt:3");
            String::from(failure.hint.unwrap())
        };
        assert_eq!(
            hint(&found, true),
            "codevol sends code, not packages: install them there, then `codevol retry r43`"
        );
        found.mend = vec![Text::cut(
            "/opt/venv/bin/python -m pip install 'polars==1.2'",
        )];
        assert_eq!(
            hint(&found, true),
            "`/opt/venv/bin/python -m pip install 'polars==1.2'` on that server, then \
             `codevol retry r43`"
        );
        assert_eq!(
            hint(&found, false),
            "`/opt/venv/bin/python -m pip install 'polars==1.2'` on that server"
        );
    }

    #[test]
    fn what_cannot_be_judged_is_no_failure() {
        let found = Found {
            unjudged: vec![Text::cut("requirements.txt:1: it is an editable install")],
            ..Found::default()
        };
        assert!(report(found).failure(Seq(1)).is_none());
    }
}
