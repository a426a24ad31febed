//! One requirement, as PEP 508 says it: `name[extra] >=1.2; marker`, or `name @ URL`. Pure.

use std::str::FromStr;

use codevol_protocol::dependency::PackageName;

use super::marker::Marker;
use super::version::{Invalid, Specifiers};

/// What is to be installed, and where.
#[derive(Debug, Clone)]
pub(super) struct Requirement {
    pub(super) name: PackageName,
    /// As they were written.
    pub(super) extras: Vec<String>,
    pub(super) wanted: Wanted,
    pub(super) marker: Option<Marker>,
}

/// Which version is wanted.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// One of these.
    Version(Specifiers),
    /// Whatever lies at a URL.
    Url,
}

const BYTES_MAX: usize = 16 << 10;
const EXTRAS_MAX: usize = 64;

impl FromStr for Requirement {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > BYTES_MAX {
            return Err(Invalid);
        }
        let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let name: PackageName = name.parse().or(Err(Invalid))?;
        let (extras, rest) = extras(rest.trim_start())?;
        let rest = rest.trim_start();
        let (wanted, marker) = match rest.strip_prefix('@') {
            Some(url) => at_url(url.trim_start())?,
            None => {
                let (rule, marker) = split_marker(rest);
                let rule = rule.trim();
                let inside = rule.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
                (Wanted::Version(inside.unwrap_or(rule).parse()?), marker)
            }
        };
        let marker = marker.map(str::parse).transpose()?;
        Ok(Self {
            name,
            extras,
            wanted,
            marker,
        })
    }
}

fn split_marker(text: &str) -> (&str, Option<&str>) {
    match text.split_once(';') {
        Some((before, marker)) => (before, Some(marker)),
        None => (text, None),
    }
}

fn extras(text: &str) -> Result<(Vec<String>, &str), Invalid> {
    let Some(inside) = text.strip_prefix('[') else {
        return Ok((Vec::new(), text));
    };
    let (names, rest) = inside.split_once(']').ok_or(Invalid)?;
    let names = names.split(',').map(str::trim).filter(|n| !n.is_empty());
    let names: Vec<String> = names.take(EXTRAS_MAX + 1).map(str::to_owned).collect();
    if names.len() > EXTRAS_MAX {
        return Err(Invalid);
    }
    Ok((names, rest))
}

/// A URL ends at a blank: it may have a semicolon itself.
fn at_url(text: &str) -> Result<(Wanted, Option<&str>), Invalid> {
    let (url, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim_start();
    let marker = match rest.strip_prefix(';') {
        Some(marker) => Some(marker),
        None if rest.is_empty() => None,
        None => return Err(Invalid),
    };
    if url.is_empty() {
        return Err(Invalid);
    }
    Ok((Wanted::Url, marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Requirement {
        text.parse().unwrap_or_else(|Invalid| panic!("{text}"))
    }

    #[test]
    fn a_requirement_has_a_name_extras_a_rule_and_a_marker() {
        let all = read("Dag_ster[postgres, s3] >= 1.2 , <2 ; python_version > '3'");
        assert_eq!(all.name.as_str(), "dag-ster");
        assert_eq!(all.extras, ["postgres", "s3"]);
        assert!(all.marker.is_some());
        let rule = |text: &str| match read(text).wanted {
            Wanted::Version(rule) => rule.to_string(),
            Wanted::Url => "url".to_owned(),
        };
        for (text, expected) in [
            ("polars", ""),
            ("polars==1.2", "==1.2"),
            ("polars (>=1.2)", ">=1.2"),
            ("polars[all]~=1.2", "~=1.2"),
            ("polars>=1,<2;os_name=='posix'", ">=1,<2"),
            ("polars @ https://example.org/a;b.whl", "url"),
            ("polars@ git+https://x/y@main ; os_name == 'nt'", "url"),
        ] {
            assert_eq!(rule(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        let long = format!("polars {}", ">1,".repeat(BYTES_MAX));
        let extras = format!("polars[{}]", "a,".repeat(EXTRAS_MAX + 1));
        for text in [
            "",
            "./polars",
            "https://example.org/x.whl",
            "polars 1.2",
            "polars=1.2",
            "polars[all",
            "polars; nonsense",
            "polars @",
            "polars @ https://x y",
            "polars==1.2'; touch x; '",
            &long,
            &extras,
        ] {
            assert!(text.parse::<Requirement>().is_err(), "{text:?} was taken");
        }
    }
}
