//! A sealed release: one release as a file or a folder of its own, an OCI image or a plain tar, which
//! needs no fleet to be read, and which another fleet takes in.
//!
//! ```text
//! daemon --pieces--> handed --files--> tree (tar) --> layer, config, manifest --> X, renamed whole
//!                    each file against its BLAKE3      on a base's layers
//! X of another fleet --open--> manifest, files --offered--> source: a release of its own
//! ```
//! The same release gives the same bytes: times are the release's, owners are nobody's, and nothing of
//! this host is in it.

pub(crate) mod base;
pub(crate) mod digest;
pub(crate) mod handed;
pub(crate) mod labels;
pub(crate) mod layout;
pub(crate) mod open;
pub mod prefix;
pub(crate) mod tree;
pub(crate) mod workshop;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use codevol_protocol::path::RelPath;

use crate::error::CommandError;
use crate::exit::ExitStatus;

/// Why a release cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// What is written cannot be.
    #[error("cannot {action} `{}`", path.display())]
    Write {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The layer, the tar or a blob cannot be written on.
    #[error("cannot write the sealed release")]
    Stream(#[from] io::Error),
    /// A file's bytes are not those that the release names.
    #[error("the daemon handed over other bytes of `{0}` than the release says")]
    Damaged(RelPath),
    /// A name that unpacking an image takes for a removal.
    #[error(
        "`{0}` cannot be in an image: names that begin with `.wh.` mean that something is removed"
    )]
    Whiteout(RelPath),
    /// X is there.
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
    /// Another process writes X.
    #[error("another `codevol seal` is writing `{}`", .0.display())]
    Busy(PathBuf),
    /// The base is none.
    #[error("`{}` is no base for an image: {why}", path.display())]
    Base { path: PathBuf, why: String },
    /// A document cannot be made.
    #[error("cannot make the image's documents")]
    Document(#[from] serde_json::Error),
    /// The daemon's answer ended early, or a person ended it.
    #[error("{}", .0.message)]
    Ended(Box<CommandError>),
}

impl From<SealError> for CommandError {
    fn from(error: SealError) -> Self {
        let hint = match &error {
            SealError::Ended(error) => return (**error).clone(),
            SealError::Exists(_) => "name another with `-o X`, or remove this one",
            SealError::Busy(_) => "wait until it has ended, or name another with `-o X`",
            SealError::Whiteout(_) => "seal it as a tar: `-o X.tar`",
            SealError::Damaged(_) => "`codevol verify --deep` finds what is damaged there",
            SealError::Base { .. } => {
                "a base is one image as an OCI layout: skopeo copy docker://IMAGE oci:BASE"
            }
            SealError::Write { .. } | SealError::Stream(_) | SealError::Document(_) => "",
        };
        let (exit, kind) = match &error {
            SealError::Exists(_) => (ExitStatus::Refused, "exists"),
            SealError::Busy(_) => (ExitStatus::Refused, "busy"),
            SealError::Whiteout(_) => (ExitStatus::Refused, "whiteout"),
            SealError::Base { .. } => (ExitStatus::Usage, "base"),
            SealError::Damaged(_) => (ExitStatus::Failed, "damaged"),
            SealError::Write { .. }
            | SealError::Stream(_)
            | SealError::Document(_)
            | SealError::Ended(_) => (ExitStatus::Failed, "failed"),
        };
        let mut report = Self::new(exit, kind, error.to_string());
        if let Some(source) = std::error::Error::source(&error) {
            report = report.because(source);
        }
        if hint.is_empty() {
            report
        } else {
            report.hint(hint)
        }
    }
}
