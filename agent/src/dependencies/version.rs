//! Versions of Python packages, as PEP 440 orders them. Pure.

mod specifier;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

pub(super) use self::specifier::Specifiers;

/// A version: `1!2.0rc1.post2.dev3+local`. Equal are those that compare so: `1.0` and `1`.
#[derive(Debug, Clone)]
pub(super) struct Version {
    epoch: u64,
    release: Vec<u64>,
    pre: Option<(Pre, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Vec<Segment>,
}

/// The text is no version, or no rule about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Alpha,
    Beta,
    Candidate,
}

/// A part of a local version; a number is newer than a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Word(String),
    Number(u64),
}

/// Where a version stands among those of one release, by what is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// A development release of the release itself comes before its first alpha.
    Development,
    Pre(Pre, u64),
    Final,
}

const BYTES_MAX: usize = 128;

impl Version {
    fn key(&self) -> (u64, &[u64], Stage, Option<u64>, u64) {
        let zeros = self.release.iter().rev().take_while(|n| **n == 0).count();
        let release = self.release.get(..self.release.len() - zeros);
        let stage = match (self.pre, self.post, self.dev) {
            (Some((pre, n)), _, _) => Stage::Pre(pre, n),
            (None, None, Some(_)) => Stage::Development,
            (None, _, _) => Stage::Final,
        };
        // What is no development release comes after all of them.
        let dev = self.dev.unwrap_or(u64::MAX);
        (
            self.epoch,
            release.unwrap_or_default(),
            stage,
            self.post,
            dev,
        )
    }

    const fn is_prerelease(&self) -> bool {
        self.pre.is_some() || self.dev.is_some()
    }

    fn public(&self) -> Self {
        Self {
            local: Vec::new(),
            ..self.clone()
        }
    }

    fn has_base_of(&self, other: &Self) -> bool {
        let base = |version: &Self| {
            let (epoch, release, ..) = version.key();
            (epoch, release.to_vec())
        };
        base(self) == base(other)
    }

    /// Whether the release begins with these numbers, with as many zeros behind it as need be.
    fn begins_with(&self, epoch: u64, prefix: &[u64]) -> bool {
        let padded = self.release.iter().copied().chain(std::iter::repeat(0));
        self.epoch == epoch && prefix.iter().copied().eq(padded.take(prefix.len()))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.key(), &self.local).cmp(&(other.key(), &other.local))
    }
}

impl FromStr for Version {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > BYTES_MAX || !text.is_ascii() {
            return Err(Invalid);
        }
        let text = text.to_ascii_lowercase();
        let text = text.strip_prefix('v').unwrap_or(&text);
        let (public, local) = match text.split_once('+') {
            Some((public, local)) => (public, local_segments(local)?),
            None => (text, Vec::new()),
        };
        let (epoch, rest) = match public.split_once('!') {
            Some((epoch, rest)) => (number(epoch)?, rest),
            None => (0, public),
        };
        let mut rest = Rest(rest);
        let mut version = Self {
            epoch,
            release: vec![rest.number().ok_or(Invalid)?],
            pre: None,
            post: None,
            dev: None,
            local,
        };
        while let Some(next) = rest.after_dot() {
            version.release.push(next);
        }
        version.pre = rest.pre();
        version.post = rest.post();
        version.dev = rest.suffix(&["dev"]);
        if rest.0.is_empty() {
            Ok(version)
        } else {
            Err(Invalid)
        }
    }
}

impl fmt::Display for Version {
    /// Writes it in its normal form, which has nothing in it that a shell would take for its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch > 0 {
            write!(f, "{}!", self.epoch)?;
        }
        write!(f, "{}", dotted(&self.release))?;
        if let Some((pre, n)) = self.pre {
            let word = match pre {
                Pre::Alpha => "a",
                Pre::Beta => "b",
                Pre::Candidate => "rc",
            };
            write!(f, "{word}{n}")?;
        }
        if let Some(post) = self.post {
            write!(f, ".post{post}")?;
        }
        if let Some(dev) = self.dev {
            write!(f, ".dev{dev}")?;
        }
        for (index, segment) in self.local.iter().enumerate() {
            f.write_str(if index == 0 { "+" } else { "." })?;
            match segment {
                Segment::Word(word) => f.write_str(word)?,
                Segment::Number(n) => write!(f, "{n}")?,
            }
        }
        Ok(())
    }
}

fn dotted(numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(".")
}

fn number(digits: &str) -> Result<u64, Invalid> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().ok_or(Invalid)
}

fn local_segments(text: &str) -> Result<Vec<Segment>, Invalid> {
    text.split(['-', '_', '.'])
        .map(|part| match number(part) {
            Ok(n) => Ok(Segment::Number(n)),
            Err(Invalid) if is_word(part) => Ok(Segment::Word(part.to_owned())),
            Err(Invalid) => Err(Invalid),
        })
        .collect()
}

fn is_word(part: &str) -> bool {
    // Digits that are no number are too many of them.
    part.bytes().all(|b| b.is_ascii_alphanumeric()) && part.bytes().any(|b| !b.is_ascii_digit())
}

/// What of a version is not read yet.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(digits);
        let number = number(digits).ok()?;
        self.0 = rest;
        Some(number)
    }

    fn after_dot(&mut self) -> Option<u64> {
        let mut rest = Rest(self.0.strip_prefix('.')?);
        let number = rest.number()?;
        self.0 = rest.0;
        Some(number)
    }

    /// Reads one of the words, with what may stand around it, and its number: 0 where there is none.
    fn suffix(&mut self, words: &[&str]) -> Option<u64> {
        let separators = ['-', '_', '.'];
        let rest = self.0.strip_prefix(separators).unwrap_or(self.0);
        let rest = words.iter().find_map(|word| rest.strip_prefix(word))?;
        let mut rest = Rest(rest);
        let mut numbered = Rest(rest.0.strip_prefix(separators).unwrap_or(rest.0));
        let number = numbered.number();
        if number.is_some() {
            rest = numbered;
        }
        self.0 = rest.0;
        Some(number.unwrap_or(0))
    }

    fn pre(&mut self) -> Option<(Pre, u64)> {
        // A longer word before the one that it begins with.
        let kinds = [
            (Pre::Alpha, &["alpha", "a"][..]),
            (Pre::Beta, &["beta", "b"][..]),
            (Pre::Candidate, &["preview", "pre", "rc", "c"][..]),
        ];
        kinds
            .into_iter()
            .find_map(|(kind, words)| Some((kind, self.suffix(words)?)))
    }

    fn post(&mut self) -> Option<u64> {
        if let Some(rest) = self.0.strip_prefix('-') {
            let mut rest = Rest(rest);
            if let Some(number) = rest.number() {
                self.0 = rest.0;
                return Some(number);
            }
        }
        self.suffix(&["post", "rev", "r"])
    }
}

#[cfg(test)]
mod tests;
