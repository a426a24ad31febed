//! The stat cache on disk: what a run of the source knew of the files, for the next one.
//!
//! Nothing is lost with it but time, so it is not made durable: a checksum tells a torn one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use codevol_protocol::codec;
use codevol_protocol::path::RelPath;
use tracing::warn;

use super::tree::{Dir, Known, Node};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 32;

/// The root (device and inode), and its files.
type Stored = ((u64, u64), Vec<(RelPath, Known)>);

/// What an earlier run knew, and where this one's knowledge goes.
#[derive(Debug, Default)]
pub(super) struct Cache {
    file: Option<PathBuf>,
    root: (u64, u64),
    files: HashMap<RelPath, Known>,
}

impl Cache {
    /// Reads the cache of a root. What cannot be used is thrown away with a warning.
    pub(super) fn load(file: Option<&Path>, root: (u64, u64)) -> Self {
        let files = file.map_or_else(Vec::new, |file| read(file, root));
        Self {
            file: file.map(Path::to_path_buf),
            root,
            files: files.into_iter().collect(),
        }
    }

    /// Returns what an earlier run knew of a file.
    pub(super) fn known(&self, path: &RelPath) -> Option<Known> {
        self.files.get(path).copied()
    }

    /// Forgets what an earlier run knew: the tree knows it now.
    pub(super) fn forget(&mut self) {
        self.files = HashMap::new();
    }

    /// Keeps what is known for the next run. A failure costs that run time, and is a warning.
    pub(super) fn save(&self, tree: &Dir) {
        let Some(file) = &self.file else { return };
        let mut files = Vec::new();
        collect(tree, None, &mut files);
        let stored: Stored = (self.root, files);
        let mut bytes = codec::encode_record(VERSION, &stored);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        if let Err(error) = replace(file, &bytes) {
            warn!(path = %file.display(), %error, "cannot keep the stat cache");
        }
    }
}

fn read(file: &Path, root: (u64, u64)) -> Vec<(RelPath, Known)> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!(path = %file.display(), %error, "cannot read the stat cache");
            return Vec::new();
        }
    };
    let stored = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .filter(|(body, checksum)| blake3::hash(body).as_bytes() == *checksum)
        .and_then(|(body, _)| codec::decode_record::<Stored>(VERSION, body).ok());
    match stored {
        // Another tree stands at this path now; its files are others.
        Some((of, _)) if of != root => Vec::new(),
        Some((_, files)) => files,
        None => {
            warn!(path = %file.display(), "the stat cache is damaged and thrown away");
            Vec::new()
        }
    }
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    File::create(&temporary)?.write_all(bytes)?;
    fs::rename(&temporary, file)
}

fn collect(dir: &Dir, path: Option<&RelPath>, files: &mut Vec<(RelPath, Known)>) {
    for (name, node) in &dir.names {
        let Ok(path) = RelPath::from_bytes(&super::dir::below(path, name)) else {
            continue;
        };
        match node {
            Node::File(known) => files.push((path, *known)),
            Node::Dir(dir) => collect(dir, Some(&path), files),
            Node::Unread
            | Node::Link(_)
            | Node::Ignored { .. }
            | Node::Skipped(_)
            | Node::Unstable => {}
        }
    }
}
