//! What the servers' Python environments lack, and how they differ from one another. Servers of which
//! the same is to be said are named together.

use std::collections::BTreeMap;

use codevol_protocol::dependency::{DependencyStatus, Found, Skew, SkewVersion};
use codevol_protocol::name::NodeName;
use codevol_protocol::status::VolumeStatus;

use super::super::{LISTED_MAX, listed, listed_of, one_line, sentence};
use crate::output::units;

/// Returns the lines, what is lacking first.
pub(super) fn lines(volume: &VolumeStatus) -> Vec<String> {
    let said = |line: fn(&DependencyStatus) -> Option<String>| alike(volume, line);
    let mut lines = said(lacking);
    lines.extend(said(unjudged));
    lines.extend(skews(&volume.skew));
    lines
}

/// Returns what is to be said of each node's dependencies, with those of whom the same is.
fn alike(volume: &VolumeStatus, say: fn(&DependencyStatus) -> Option<String>) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&NodeName>> = BTreeMap::new();
    for node in &volume.nodes {
        let said = node.dependencies.as_ref().and_then(say);
        if let Some(said) = said {
            alike.entry(said).or_default().push(&node.name);
        }
    }
    let lines = alike.into_iter();
    lines
        .map(|(said, nodes)| format!("on {} {said}", listed(nodes)))
        .collect()
}

fn lacking(status: &DependencyStatus) -> Option<String> {
    let found = Found {
        packages: status.packages.clone(),
        imports: status.imports.clone(),
        mend: status.mend.clone(),
        ..Found::default()
    };
    if !found.is_drift() {
        return None;
    }
    let what = sentence(&found.sentence());
    let mends = found.mend().map_or_else(String::new, |mend| {
        format!("; {} mends it", sentence(&mend))
    });
    Some(format!("{what}{mends}"))
}

fn unjudged(status: &DependencyStatus) -> Option<String> {
    let count = status.unjudged.len();
    let reasons = status.unjudged.iter().map(|why| sentence(why.as_str()));
    let what = units::count(count, "requirement is", "requirements are");
    (count > 0).then(|| format!("{what} not compared: {}", listed(reasons)))
}

/// Returns what differs, and how much more does.
fn skews(skews: &[Skew]) -> Vec<String> {
    let mut lines: Vec<String> = skews.iter().take(LISTED_MAX).map(skew).collect();
    let more = skews.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        let more = units::count(more, "more package differs", "more packages differ");
        lines.push(format!("{more} between servers (`codevol status --json`)"));
    }
    lines
}

/// Returns `dag-01 has dagster 1.11.2, dag-02 1.11.1 and dag-03 none`.
fn skew(skew: &Skew) -> String {
    let name = one_line(skew.name.as_str());
    let mut first = true;
    let one = |version: &SkewVersion| {
        let nodes = listed_of(&version.nodes, version.count);
        let said = version.version.as_ref();
        let said = said.map_or_else(|| "none".to_owned(), |said| one_line(said.as_str()));
        if std::mem::take(&mut first) {
            let have = if version.count == 1 { "has" } else { "have" };
            return match version.version {
                Some(_) => format!("{nodes} {have} {name} {said}"),
                None => format!("{nodes} {have} no {name}"),
            };
        }
        format!("{nodes} {said}")
    };
    let parts: Vec<String> = skew.versions.iter().map(one).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use codevol_protocol::name::Text;
    use codevol_protocol::status::NodeStatus;
    use insta::assert_snapshot;

    use super::*;
    use crate::screens::sample::{HOSTILE, dependencies, node, text, volume};

    fn skewed(name: &str, versions: &[(Option<&str>, &[&str])]) -> Skew {
        let version = |(version, nodes): &(Option<&str>, &[&str])| SkewVersion {
            version: version.map(text),
            count: nodes.len() as u64,
            nodes: nodes.iter().map(|name| name.parse().unwrap()).collect(),
        };
        Skew {
            name: text(name),
            versions: versions.iter().map(version).collect(),
        }
    }

    fn lacks(name: &str, change: impl FnOnce(&mut DependencyStatus)) -> NodeStatus {
        let mut status = dependencies(42);
        change(&mut status);
        NodeStatus {
            dependencies: Some(status),
            ..node(name, 42)
        }
    }

    #[test]
    fn servers_that_lack_the_same_are_named_together_with_what_mends_it() {
        let nodes = vec![
            lacks("dag-01", |_| {}),
            lacks("dag-02", |_| {}),
            lacks("dag-03", |status| {
                *status = DependencyStatus {
                    packages: Vec::new(),
                    imports: Vec::new(),
                    mend: Vec::new(),
                    unjudged: vec![text("requirements.txt:1: it is an editable install")],
                    ..status.clone()
                };
            }),
            node("dag-04", 42),
        ];
        assert_snapshot!(lines(&volume(42, nodes)).join("\n"), @"
        on dag-01 and dag-02 `/opt/venv/bin/python` lacks polars==1.2 (requirements.txt:3), and has pandas 2.0, not >=2.1 (requirements.txt:4); nothing in `/opt/venv/bin/python` gives duckdb (assets/orders.py:17); `/opt/venv/bin/python -m pip install 'pandas>=2.1' 'polars==1.2'` mends it
        on dag-03 1 requirement is not compared: requirements.txt:1: it is an editable install
        ");
    }

    #[test]
    fn what_differs_between_servers_is_said_a_line_each() {
        let mut volume = volume(42, vec![node("dag-01", 42)]);
        volume.skew = vec![
            skewed(
                "dagster",
                &[(Some("1.11.2"), &["dag-01"]), (Some("1.11.1"), &["dag-02"])],
            ),
            skewed(
                "polars",
                &[(None, &["dag-01", "dag-03"]), (Some("1.2"), &["dag-02"])],
            ),
            skewed(
                "rich",
                &[(Some("1"), &["dag-01", "dag-03"]), (None, &["dag-02"])],
            ),
        ];
        volume.skew.extend((0..4).map(|n| {
            let name = format!("p{n}");
            skewed(&name, &[(Some("1"), &["dag-01"]), (Some("2"), &["dag-02"])])
        }));
        assert_snapshot!(lines(&volume).join("\n"), @"
        dag-01 has dagster 1.11.2, dag-02 1.11.1
        dag-01 and dag-03 have no polars, dag-02 1.2
        dag-01 and dag-03 have rich 1, dag-02 none
        dag-01 has p0 1, dag-02 2
        dag-01 has p1 1, dag-02 2
        2 more packages differ between servers (`codevol status --json`)
        ");
    }

    #[test]
    fn remote_strings_stay_on_their_line_and_draw_nothing() {
        let hostile = lacks("dag-01", |status| {
            for drift in &mut status.packages {
                drift.file = text(HOSTILE);
                drift.installed = Some(text(HOSTILE));
                drift.wanted = text(HOSTILE);
                drift.python = text(HOSTILE);
            }
            status.imports[0].module = text(HOSTILE);
            status.unjudged = vec![text(HOSTILE)];
            status.mend = vec![Text::cut(HOSTILE)];
        });
        let mut volume = volume(42, vec![hostile]);
        volume.skew = vec![skewed(
            HOSTILE,
            &[(Some(HOSTILE), &["dag-01"]), (None, &["dag-02"])],
        )];
        for line in lines(&volume) {
            let raw = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!line.contains(raw), "{line:?}");
        }
    }
}
