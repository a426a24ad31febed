//! Where a sealed tree begins.

use std::fmt;
use std::str::FromStr;

use codevol_protocol::path::{InvalidRelPath, RelPath};

/// The folder of an image, or of a tar, in which a release's tree begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Option<RelPath>);

/// Where the images of Dagster's own examples have their code.
const IN_AN_IMAGE: &str = "/opt/dagster/app";

impl Prefix {
    /// Returns the one of an image, unless another is named.
    pub(crate) fn of_an_image() -> Result<Self, InvalidRelPath> {
        IN_AN_IMAGE.parse()
    }

    /// Returns the one of a tar: the tree is all there is.
    pub(crate) const fn of_a_tar() -> Self {
        Self(None)
    }

    /// Returns the folders above the tree, outermost first, the last one its own.
    pub(crate) fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> = Vec::new();
        for component in self.0.iter().flat_map(RelPath::components) {
            folders.push(match folders.last() {
                Some(above) => format!("{above}/{component}"),
                None => component.to_owned(),
            });
        }
        folders
    }

    /// Returns the path of something in the tree.
    pub(crate) fn join(&self, path: &str) -> String {
        match &self.0 {
            Some(prefix) => format!("{prefix}/{path}"),
            None => path.to_owned(),
        }
    }
}

impl FromStr for Prefix {
    type Err = InvalidRelPath;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let relative = text.trim_matches('/');
        if relative.is_empty() && !text.is_empty() {
            return Ok(Self(None));
        }
        relative.parse().map(Some).map(Self)
    }
}

/// As it is in the image.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.as_ref().map_or("", RelPath::as_str))
    }
}
