//! Rules about versions, as PEP 440 compares by them: `>=1.2,<2`.

use std::fmt;
use std::str::FromStr;

use super::{BYTES_MAX, Invalid, Version, dotted};

/// What a version must be: all of these, `>=1.2,<2`.
#[derive(Debug, Clone, Default)]
pub(in crate::dependencies) struct Specifiers(Vec<Specifier>);

#[derive(Debug, Clone)]
struct Specifier {
    operator: Operator,
    against: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Compatible,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Identical,
}

#[derive(Debug, Clone)]
enum Against {
    Version(Version),
    /// `1.2.*`
    Prefix(u64, Vec<u64>),
    /// What `===` names, whatever it is.
    Text(String),
}

/// The longer ones first.
const OPERATORS: [(&str, Operator); 8] = [
    ("===", Operator::Identical),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("~=", Operator::Compatible),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Specifiers {
    /// Exactly this version.
    pub(in crate::dependencies) fn exactly(version: Version) -> Self {
        Self(vec![Specifier {
            operator: Operator::Equal,
            against: Against::Version(version),
        }])
    }

    /// Whether a version is what it must be.
    pub(in crate::dependencies) fn contain(&self, version: &Version) -> bool {
        self.0.iter().all(|specifier| specifier.admits(version))
    }

    /// Whether any version will do.
    pub(in crate::dependencies) const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one version is named.
    pub(in crate::dependencies) fn is_exact(&self) -> bool {
        self.0.iter().any(|one| {
            matches!(one.operator, Operator::Equal | Operator::Identical)
                && !matches!(one.against, Against::Prefix(..))
        })
    }

    /// Both.
    pub(in crate::dependencies) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.iter().cloned());
        self
    }
}

impl FromStr for Specifiers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let read: Vec<Specifier> = parts.map(str::parse).collect::<Result<_, _>>()?;
        if read.len() > SPECIFIERS_MAX {
            return Err(Invalid);
        }
        Ok(Self(read))
    }
}

impl fmt::Display for Specifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&each.join(","))
    }
}

impl FromStr for Specifier {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut operators = OPERATORS.iter();
        let found = operators.find_map(|(sign, operator)| {
            let rest = text.strip_prefix(sign)?;
            Some((*operator, rest.trim()))
        });
        let (operator, rest) = found.ok_or(Invalid)?;
        let against = match operator {
            Operator::Identical => Against::Text(plain(rest)?),
            Operator::Equal | Operator::NotEqual if rest.ends_with(".*") => prefix(rest)?,
            Operator::Compatible => {
                let version: Version = rest.parse()?;
                if version.release.len() < 2 || !version.local.is_empty() {
                    return Err(Invalid);
                }
                Against::Version(version)
            }
            Operator::Equal | Operator::NotEqual => Against::Version(rest.parse()?),
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => {
                let version: Version = rest.parse()?;
                if !version.local.is_empty() {
                    return Err(Invalid);
                }
                Against::Version(version)
            }
        };
        Ok(Self { operator, against })
    }
}

fn plain(text: &str) -> Result<String, Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+!-".contains(c);
    let is_plain = !text.is_empty() && text.len() <= BYTES_MAX && text.chars().all(allowed);
    is_plain.then(|| text.to_owned()).ok_or(Invalid)
}

fn prefix(text: &str) -> Result<Against, Invalid> {
    let version: Version = text.trim_end_matches(".*").parse()?;
    let is_release = !version.is_prerelease() && version.post.is_none() && version.local.is_empty();
    is_release
        .then_some(Against::Prefix(version.epoch, version.release))
        .ok_or(Invalid)
}

impl Specifier {
    fn admits(&self, version: &Version) -> bool {
        match (&self.against, self.operator) {
            (Against::Text(text), _) => version.to_string().eq_ignore_ascii_case(text),
            (Against::Prefix(epoch, prefix), Operator::NotEqual) => {
                !version.begins_with(*epoch, prefix)
            }
            (Against::Prefix(epoch, prefix), _) => version.begins_with(*epoch, prefix),
            (Against::Version(wanted), operator) => admits(operator, wanted, version),
        }
    }
}

fn admits(operator: Operator, wanted: &Version, version: &Version) -> bool {
    let equal = || {
        if wanted.local.is_empty() {
            version.public() == *wanted
        } else {
            version == wanted
        }
    };
    match operator {
        Operator::Equal | Operator::Identical => equal(),
        Operator::NotEqual => !equal(),
        Operator::LessOrEqual => version.public() <= *wanted,
        Operator::GreaterOrEqual => version.public() >= *wanted,
        Operator::Compatible => {
            let fixed = wanted.release.len().saturating_sub(1);
            let prefix = wanted.release.get(..fixed).unwrap_or_default();
            version.public() >= *wanted && version.begins_with(wanted.epoch, prefix)
        }
        // A pre-release of the bound itself is not before it, nor a local build or a later edition
        // of it after it.
        Operator::Less => {
            let of_bound =
                !wanted.is_prerelease() && version.is_prerelease() && version.has_base_of(wanted);
            version < wanted && !of_bound
        }
        Operator::Greater => {
            let is_post = wanted.post.is_none() && version.post.is_some();
            let of_bound = (is_post || !version.local.is_empty()) && version.has_base_of(wanted);
            version > wanted && !of_bound
        }
    }
}

impl fmt::Display for Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = OPERATORS.iter().find(|(_, one)| *one == self.operator);
        let sign = sign.map_or("", |(sign, _)| *sign);
        match &self.against {
            Against::Version(version) => write!(f, "{sign}{version}"),
            Against::Prefix(0, release) => write!(f, "{sign}{}.*", dotted(release)),
            Against::Prefix(epoch, release) => write!(f, "{sign}{epoch}!{}.*", dotted(release)),
            Against::Text(text) => write!(f, "{sign}{text}"),
        }
    }
}

pub(super) const SPECIFIERS_MAX: usize = 64;
