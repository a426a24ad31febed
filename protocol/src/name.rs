//! Names of volumes and nodes, and free text: parsed once, then carried as values of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The text is not a name of a volume or node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit",
    .0.escape_debug()
)]
pub struct InvalidName(String);

fn parse(text: &str) -> Result<String, InvalidName> {
    let mut bytes = text.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if first && rest && text.len() <= limits::NAME_BYTES_MAX {
        Ok(text.to_owned())
    } else {
        Err(InvalidName(
            text.chars().take(limits::NAME_BYTES_MAX + 1).collect(),
        ))
    }
}

/// Makes a name out of any text, for defaults: `My Pipes_2` gives `my-pipes-2`.
#[must_use]
pub fn slug(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(limits::NAME_BYTES_MAX);
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                parse(&text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a volume: `[a-z0-9][a-z0-9-]{0,62}`.
    VolumeName
}
name! {
    /// The name of an enrolled node: `[a-z0-9][a-z0-9-]{0,62}`.
    NodeName
}

/// Free text from a person or a peer: at most [`limits::TEXT_BYTES_MAX`] bytes. What shows it
/// neutralises control characters; the text itself is carried as it was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// The text is longer than [`limits::TEXT_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text of {bytes} bytes is longer than {}", limits::TEXT_BYTES_MAX)]
pub struct TextTooLong {
    bytes: usize,
}

impl Text {
    /// Returns the text cut to the limit, at a character's boundary. For what we say ourselves.
    #[must_use]
    pub fn cut(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > limits::TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(limits::TEXT_BYTES_MAX));
        }
        Self(text)
    }

    /// Returns the text as it was said. Escape it before it reaches a screen or a log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for Text {
    type Error = TextTooLong;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > limits::TEXT_BYTES_MAX {
            return Err(TextTooLong { bytes: text.len() });
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    /// Writes the text with its control characters neutralised, newlines and tabs apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable(&self.0), f)
    }
}

/// Shows a remote string safely: each control or direction-changing character but newline and tab
/// is written as an escape.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            let bidi = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if (c.is_control() && c != '\n' && c != '\t') || bidi {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_and_dashes() {
        for good in ["a", "0", "dag-01", &"x".repeat(63)] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "A",
            "a_b",
            "a.b",
            "a/b",
            "é",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_slug_is_a_name_or_nothing() {
        assert_eq!(slug("My Pipes_2").as_deref(), Some("my-pipes-2"));
        assert_eq!(slug("--é--"), None);
        assert_eq!(slug(&"ab".repeat(100)).unwrap().len(), 63);
    }

    #[test]
    fn control_characters_do_not_reach_a_screen() {
        let text = Text::cut("a\u{1b}[31mred\r\n\u{202e}b");
        assert_eq!(text.to_string(), "a\\u{1b}[31mred\\u{d}\n\\u{202e}b");
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let text = Text::cut("é".repeat(limits::TEXT_BYTES_MAX));
        assert_eq!(text.as_str().len(), limits::TEXT_BYTES_MAX);
        assert!(Text::try_from("x".repeat(limits::TEXT_BYTES_MAX + 1)).is_err());
    }
}
