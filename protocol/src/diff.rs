//! What differs between two trees, in lines.

use serde::{Deserialize, Serialize};

use crate::call::ChangeKind;
use crate::manifest::Entry;
use crate::name::Text;
use crate::path::RelPath;

/// What differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeDiff {
    /// The older tree: `r41`, or `nothing`.
    pub from: Text,
    /// The newer tree: `r42`, or `tree`.
    pub to: Text,
    /// The paths that differ, in their order.
    pub files: Vec<FileDiff>,
    /// How many more paths differ than are listed.
    pub files_cut: u64,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    /// The path.
    pub path: RelPath,
    /// What happened to it.
    pub change: ChangeKind,
    /// What stood there.
    pub old: Option<Shape>,
    /// What stands there.
    pub new: Option<Shape>,
    /// How its lines differ.
    pub content: Content,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// `file`, `symlink` or `dir`.
    pub kind: Text,
    /// How many bytes; of a file only.
    pub bytes: Option<u64>,
    /// Whether it may be executed; of a file only.
    pub executable: Option<bool>,
    /// Where it points; of a link only.
    pub target: Option<Text>,
}

/// How the lines of a path differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Its bytes are the same, or it has none.
    Same,
    /// As a unified diff, without the lines that name the files.
    Text {
        /// The hunks.
        hunks: String,
        /// How many lines of them were cut off.
        lines_cut: u64,
    },
    /// It holds a zero byte.
    Binary,
    /// It is too long to be compared, or one too many.
    TooLong,
    /// It cannot be read.
    Unreadable,
}

impl From<&Entry> for Shape {
    fn from(entry: &Entry) -> Self {
        let mut shape = Self {
            kind: Text::cut("dir"),
            bytes: None,
            executable: None,
            target: None,
        };
        match entry {
            Entry::File {
                size, executable, ..
            } => {
                shape.kind = Text::cut("file");
                (shape.bytes, shape.executable) = (Some(*size), Some(*executable));
            }
            Entry::Symlink { target } => {
                shape.kind = Text::cut("symlink");
                shape.target = Some(Text::cut(target.as_str()));
            }
            Entry::Dir => {}
        }
        shape
    }
}
