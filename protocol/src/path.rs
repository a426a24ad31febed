//! Paths of the tree and targets of its links: parsed once, safe to join below a root ever after.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

/// What at the root of a tree belongs to codevol itself.
pub const RESERVED_PREFIX: &str = ".codevol";

/// A relative path of a tree: UTF-8, `/`-separated, without empty, `.` or `..` components and
/// without control characters; nothing reserved at its root.
///
/// Its order is by component, so a directory's contents follow it at once: the manifest's order. Its
/// clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<str>);

/// Why a text is no path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRelPath {
    /// The path has no component.
    #[error("path is empty")]
    Empty,
    /// The path begins with `/`.
    #[error("path is absolute")]
    Absolute,
    /// A component is empty: `a//b`, `a/`.
    #[error("path has an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("path has a `.` or `..` component")]
    DotComponent,
    /// A control character, NUL and newline among them.
    #[error("path has a control character")]
    ControlCharacter,
    /// The path is longer than [`PATH_BYTES_MAX`].
    #[error("path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component is longer than [`COMPONENT_BYTES_MAX`].
    #[error("path has a component longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
    /// The path is deeper than [`PATH_DEPTH_MAX`].
    #[error("path is deeper than {PATH_DEPTH_MAX} components")]
    TooDeep,
    /// The first component begins with `.codevol`.
    #[error("names beginning with `{RESERVED_PREFIX}` are reserved at the root")]
    Reserved,
    /// The bytes are not UTF-8.
    #[error("path is not UTF-8")]
    NotUtf8,
}

fn check_component(component: &str) -> Result<(), InvalidRelPath> {
    match component {
        "" => Err(InvalidRelPath::EmptyComponent),
        "." | ".." => Err(InvalidRelPath::DotComponent),
        _ if component.len() > COMPONENT_BYTES_MAX => Err(InvalidRelPath::ComponentTooLong),
        _ if has_control(component) => Err(InvalidRelPath::ControlCharacter),
        _ => Ok(()),
    }
}

/// Whether a text has a control character. Most are plain ASCII, of which the bytes tell.
fn has_control(text: &str) -> bool {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    !text.bytes().all(is_plain) && text.chars().any(char::is_control)
}

impl RelPath {
    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the directory that holds this path; nothing for a path at the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.into()))
    }

    /// Returns the last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// Returns this path with more components.
    ///
    /// # Errors
    /// When a component, or the path that they make, is not allowed.
    pub fn join(&self, components: &str) -> Result<Self, InvalidRelPath> {
        format!("{}/{components}", self.0).parse()
    }

    /// Whether this path lies below `directory`, at any depth.
    #[must_use]
    pub fn is_below(&self, directory: &Self) -> bool {
        self.0
            .strip_prefix(&*directory.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Reads a path out of bytes that the file system gave.
    ///
    /// # Errors
    /// When the bytes are no path of a tree.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidRelPath> {
        std::str::from_utf8(bytes)
            .or(Err(InvalidRelPath::NotUtf8))?
            .parse()
    }
}

impl FromStr for RelPath {
    type Err = InvalidRelPath;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidRelPath::Empty);
        }
        if text.starts_with('/') {
            return Err(InvalidRelPath::Absolute);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(InvalidRelPath::TooLong);
        }
        for (depth, component) in text.split('/').enumerate() {
            if depth >= PATH_DEPTH_MAX {
                return Err(InvalidRelPath::TooDeep);
            }
            check_component(component)?;
        }
        if text.starts_with(RESERVED_PREFIX) {
            return Err(InvalidRelPath::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PathVisitor)
    }
}

/// Reads a path without a copy of the text in between: a manifest has many.
struct PathVisitor;

impl Visitor<'_> for PathVisitor {
    type Value = RelPath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path of a tree")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RelPath, E> {
        text.parse().map_err(E::custom)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        // `/` sorts below every byte a component may hold, so this is the order by component.
        let key = |b: u8| if b == b'/' { 0 } else { b };
        self.0.bytes().map(key).cmp(other.0.bytes().map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a symbolic link points at: relative text without control characters. That it stays inside
/// the tree is the manifest's to check, which knows the other links.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkTarget(String);

/// Why a text is no link target of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLinkTarget {
    /// The target is empty.
    #[error("link target is empty")]
    Empty,
    /// The target begins with `/`.
    #[error("link target is absolute")]
    Absolute,
    /// The target is longer than [`PATH_BYTES_MAX`].
    #[error("link target is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A control character, NUL and newline among them.
    #[error("link target has a control character")]
    ControlCharacter,
}

impl LinkTarget {
    /// Returns the target as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkTarget {
    type Err = InvalidLinkTarget;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err(InvalidLinkTarget::Empty),
            _ if text.starts_with('/') => Err(InvalidLinkTarget::Absolute),
            _ if text.len() > PATH_BYTES_MAX => Err(InvalidLinkTarget::TooLong),
            _ if text.chars().any(char::is_control) => Err(InvalidLinkTarget::ControlCharacter),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for LinkTarget {
    type Error = InvalidLinkTarget;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LinkTarget> for String {
    fn from(target: LinkTarget) -> Self {
        target.0
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_root_does_not_parse() {
        use InvalidRelPath as E;
        let long = "x".repeat(256);
        let deep = vec!["d"; 129].join("/");
        let total = vec!["abcdefg"; 600].join("/");
        for (text, error) in [
            ("", E::Empty),
            ("/etc/cron.d/x", E::Absolute),
            ("../x", E::DotComponent),
            ("a/../../x", E::DotComponent),
            ("./a", E::DotComponent),
            ("a/.", E::DotComponent),
            ("a//b", E::EmptyComponent),
            ("a/", E::EmptyComponent),
            ("a\0b", E::ControlCharacter),
            ("a\nb", E::ControlCharacter),
            ("a\u{1b}[2J", E::ControlCharacter),
            ("a\u{85}", E::ControlCharacter),
            (&long, E::ComponentTooLong),
            (&deep, E::TooDeep),
            (&total, E::TooLong),
            (".codevol", E::Reserved),
            (".codevol/incoming", E::Reserved),
            (".codevolx", E::Reserved),
        ] {
            assert_eq!(text.parse::<RelPath>(), Err(error), "{text:?}");
        }
        assert_eq!(RelPath::from_bytes(b"a\xff"), Err(E::NotUtf8));
    }

    #[test]
    fn ordinary_paths_parse() {
        for text in [
            "a",
            "a/b.py",
            "...",
            "..a",
            "é/ü",
            "a b",
            "sub/.codevol",
            "-rf",
        ] {
            assert_eq!(text.parse::<RelPath>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_directorys_contents_follow_it_at_once() {
        let mut paths: Vec<RelPath> = ["a-b", "a/c", "a", "a.py", "a/b"]
            .map(|p| p.parse().unwrap())
            .to_vec();
        paths.sort();
        let sorted: Vec<&str> = paths.iter().map(RelPath::as_str).collect();
        assert_eq!(sorted, ["a", "a/b", "a/c", "a-b", "a.py"]);
    }

    #[test]
    fn below_means_inside_the_directory() {
        let dir: RelPath = "a/b".parse().unwrap();
        assert!("a/b/c".parse::<RelPath>().unwrap().is_below(&dir));
        assert!(!"a/bc".parse::<RelPath>().unwrap().is_below(&dir));
        assert!(!dir.is_below(&dir));
        assert!(dir.join("..").is_err() && dir.join("x/y").is_ok());
    }
}
