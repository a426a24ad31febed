//! Environment markers, as PEP 508 says them: `python_version < "3.12" and sys_platform == "linux"`.
//! What is not known of an environment makes a marker unknown, unless it does not matter. Pure.

use std::str::FromStr;

use super::version::{Invalid, Specifiers, Version};

/// A condition on an environment.
#[derive(Debug, Clone)]
pub(super) struct Marker(Condition);

#[derive(Debug, Clone)]
enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare(Value, Comparison, Value),
}

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Fact(Fact),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    PythonVersion,
    PythonFullVersion,
    OsName,
    SysPlatform,
    Machine,
    System,
    /// The kernel's release and version: the environment may be used in another container.
    Kernel,
    Implementation,
    ImplementationName,
    Extra,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Comparison {
    In,
    NotIn,
    Sign(String),
}

/// What is known of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// `3.11`
    pub(super) python: (u64, u64),
    /// `3.11.7`, where that is known.
    pub(super) full: Option<String>,
    /// `x86_64`
    pub(super) machine: String,
    /// Which extra is asked for is not known; else none is.
    pub(super) any_extra: bool,
}

/// Parentheses in one another.
const DEPTH_MAX: usize = 32;
const BYTES_MAX: usize = 8 << 10;
/// No Python has had a later release of one minor version.
const MICRO_MAX: u32 = 9_999;

impl Marker {
    /// Returns whether it holds; nothing where that cannot be said.
    pub(super) fn holds(&self, facts: &Facts) -> Option<bool> {
        self.0.holds(facts)
    }
}

impl FromStr for Marker {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > BYTES_MAX {
            return Err(Invalid);
        }
        let mut tokens = tokens(text)?.into_iter().peekable();
        let condition = any(&mut tokens, 0)?;
        match tokens.next() {
            None => Ok(Self(condition)),
            Some(_) => Err(Invalid),
        }
    }
}

impl Condition {
    fn holds(&self, facts: &Facts) -> Option<bool> {
        match self {
            Self::All(parts) => settled(parts, false, facts),
            Self::Any(parts) => settled(parts, true, facts),
            Self::Compare(left, comparison, right) => compare(left, comparison, right, facts),
        }
    }
}

/// One part that is so settles it, whatever is not known of the others.
fn settled(parts: &[Condition], settles: bool, facts: &Facts) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match part.holds(facts) {
            Some(held) if held == settles => return Some(settles),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!settles)
}

/// What a value may be: all that it can be lies between the two.
enum Known {
    Text(String),
    Between(String, String),
    Nothing,
}

fn compare(left: &Value, by: &Comparison, right: &Value, facts: &Facts) -> Option<bool> {
    match (facts.value(left), facts.value(right)) {
        (Known::Text(left), Known::Text(right)) => Some(holds(&left, by, &right)),
        (Known::Between(low, high), Known::Text(right)) if by.is_ordered() => {
            let low = holds(&low, by, &right);
            (low == holds(&high, by, &right)).then_some(low)
        }
        (Known::Text(left), Known::Between(low, high)) if by.is_ordered() => {
            let low = holds(&left, by, &low);
            (low == holds(&left, by, &high)).then_some(low)
        }
        _ => None,
    }
}

impl Comparison {
    fn is_ordered(&self) -> bool {
        matches!(self, Self::Sign(sign) if matches!(sign.as_str(), "<" | "<=" | ">" | ">="))
    }
}

fn holds(left: &str, by: &Comparison, right: &str) -> bool {
    let sign = match by {
        Comparison::In => return right.contains(left),
        Comparison::NotIn => return !right.contains(left),
        Comparison::Sign(sign) => sign.as_str(),
    };
    // As versions where they are some, else as texts.
    if let (Ok(rule), Ok(version)) = (
        format!("{sign}{right}").parse::<Specifiers>(),
        left.parse::<Version>(),
    ) {
        return rule.contain(&version);
    }
    match sign {
        "==" | "===" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        _ => false,
    }
}

impl Facts {
    fn value(&self, value: &Value) -> Known {
        let fact = match value {
            Value::Text(text) => return Known::Text(text.clone()),
            Value::Fact(fact) => *fact,
        };
        let text = match fact {
            Fact::PythonVersion => self.minor(),
            Fact::PythonFullVersion => match &self.full {
                Some(full) => full.clone(),
                None => {
                    let minor = self.minor();
                    let (low, high) = (format!("{minor}.0"), format!("{minor}.{MICRO_MAX}"));
                    return Known::Between(low, high);
                }
            },
            Fact::OsName => "posix".to_owned(),
            Fact::SysPlatform => "linux".to_owned(),
            Fact::System => "Linux".to_owned(),
            Fact::Machine => self.machine.clone(),
            Fact::Kernel => return Known::Nothing,
            Fact::Implementation => "CPython".to_owned(),
            Fact::ImplementationName => "cpython".to_owned(),
            Fact::Extra if self.any_extra => return Known::Nothing,
            Fact::Extra => String::new(),
        };
        Known::Text(text)
    }

    fn minor(&self) -> String {
        format!("{}.{}", self.python.0, self.python.1)
    }

    /// Returns the version as far as it is known.
    pub(super) fn version(&self) -> String {
        self.full.clone().unwrap_or_else(|| self.minor())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Text(String),
    Word(String),
    Sign(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, Invalid> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '(' => (Token::Open, rest.get(1..).unwrap_or_default()),
            ')' => (Token::Close, rest.get(1..).unwrap_or_default()),
            '\'' | '"' => {
                let (text, after) = rest
                    .get(1..)
                    .and_then(|rest| rest.split_once(first))
                    .ok_or(Invalid)?;
                (Token::Text(text.to_owned()), after)
            }
            '<' | '>' | '=' | '!' | '~' => {
                let (sign, after) = run_of(rest, |c| "<>=!~".contains(c));
                (Token::Sign(sign.to_owned()), after)
            }
            c if c.is_ascii_alphabetic() => {
                let (word, after) =
                    run_of(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                (Token::Word(word.to_owned()), after)
            }
            _ => return Err(Invalid),
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn run_of(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn any(tokens: &mut Tokens, depth: usize) -> Result<Condition, Invalid> {
    let mut parts = vec![all(tokens, depth)?];
    while tokens.next_if(|token| is_word(token, "or")).is_some() {
        parts.push(all(tokens, depth)?);
    }
    Ok(Condition::Any(parts))
}

fn all(tokens: &mut Tokens, depth: usize) -> Result<Condition, Invalid> {
    let mut parts = vec![one(tokens, depth)?];
    while tokens.next_if(|token| is_word(token, "and")).is_some() {
        parts.push(one(tokens, depth)?);
    }
    Ok(Condition::All(parts))
}

fn one(tokens: &mut Tokens, depth: usize) -> Result<Condition, Invalid> {
    if tokens.next_if_eq(&Token::Open).is_some() {
        if depth >= DEPTH_MAX {
            return Err(Invalid);
        }
        let inner = any(tokens, depth + 1)?;
        return match tokens.next() {
            Some(Token::Close) => Ok(inner),
            _ => Err(Invalid),
        };
    }
    let left = value(tokens)?;
    let comparison = match tokens.next() {
        Some(Token::Sign(sign)) => Comparison::Sign(known_sign(sign)?),
        Some(token) if is_word(&token, "in") => Comparison::In,
        Some(token) if is_word(&token, "not") => match tokens.next() {
            Some(token) if is_word(&token, "in") => Comparison::NotIn,
            _ => return Err(Invalid),
        },
        _ => return Err(Invalid),
    };
    Ok(Condition::Compare(left, comparison, value(tokens)?))
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found == word)
}

fn known_sign(sign: String) -> Result<String, Invalid> {
    let known = ["<", "<=", "!=", "==", ">=", ">", "~=", "==="];
    let is_known = known.contains(&sign.as_str());
    is_known.then_some(sign).ok_or(Invalid)
}

fn value(tokens: &mut Tokens) -> Result<Value, Invalid> {
    match tokens.next() {
        Some(Token::Text(text)) => Ok(Value::Text(text)),
        Some(Token::Word(word)) => fact(&word).map(Value::Fact).ok_or(Invalid),
        _ => Err(Invalid),
    }
}

/// Returns what a name stands for; those with a dot are older than PEP 508.
fn fact(name: &str) -> Option<Fact> {
    Some(match name {
        "python_version" => Fact::PythonVersion,
        "python_full_version" | "implementation_version" => Fact::PythonFullVersion,
        "os_name" | "os.name" => Fact::OsName,
        "sys_platform" | "sys.platform" => Fact::SysPlatform,
        "platform_machine" | "platform.machine" => Fact::Machine,
        "platform_system" => Fact::System,
        "platform_release" | "platform_version" | "platform.version" => Fact::Kernel,
        "platform_python_implementation"
        | "platform.python_implementation"
        | "python_implementation" => Fact::Implementation,
        "implementation_name" => Fact::ImplementationName,
        "extra" => Fact::Extra,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
