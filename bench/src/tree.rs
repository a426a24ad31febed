//! The source tree: files of Python's look, the same ones at each run.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};

/// Bytes of a file: 20,000 of them are 95 MB.
const FILE_BYTES: usize = 4_750;
/// Files of a directory.
const DIR_FILES: usize = 50;
/// How far apart the files of two saves in a row lie: no power of anything, so that all have a turn.
const STRIDE: usize = 37;
/// How long before the run the tree was written.
const AGE: Duration = Duration::from_secs(3_600);

/// A tree that is edited one line at a time.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Where it stands.
    pub(crate) path: PathBuf,
    files: usize,
    edits: usize,
}

/// One save of one file.
#[derive(Debug)]
pub(crate) struct Edit {
    /// The file, below the tree.
    pub(crate) file: PathBuf,
    /// All of its bytes.
    pub(crate) text: String,
    /// Just before they were written.
    pub(crate) at: Instant,
}

impl Tree {
    /// Makes a tree of so many files.
    pub(crate) fn make(path: PathBuf, files: usize) -> Result<Self> {
        for index in 0..files {
            let file = path.join(name(index));
            if index % DIR_FILES == 0
                && let Some(dir) = file.parent()
            {
                fs::create_dir_all(dir).context("cannot make the tree")?;
            }
            write(&file, &text(index, 0))?;
        }
        Ok(Self {
            path,
            files,
            edits: 0,
        })
    }

    /// Changes one line of the next file, as an editor saves it: in place.
    pub(crate) fn edit(&mut self) -> Result<Edit> {
        self.edits += 1;
        let index = (self.edits * STRIDE) % self.files;
        let (file, text) = (name(index), text(index, self.edits));
        let path = self.path.join(&file);
        let mut open = File::create(&path).with_context(|| format!("cannot save {file:?}"))?;
        let at = Instant::now();
        open.write_all(text.as_bytes()).context("cannot save")?;
        Ok(Edit { file, text, at })
    }
}

/// Whether the tree at a path holds what was saved.
pub(crate) fn holds(tree: &Path, edit: &Edit) -> bool {
    fs::read(tree.join(&edit.file)).is_ok_and(|bytes| bytes == edit.text.as_bytes())
}

fn name(index: usize) -> PathBuf {
    PathBuf::from(format!(
        "package_{:03}/module_{index:05}.py",
        index / DIR_FILES
    ))
}

/// Returns a module; each edit of it differs in one line.
fn text(index: usize, edit: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let mut text = format!("\"\"\"Module {index}.\"\"\"\n\nEDIT = {edit:08}\n\n");
    while text.len() < FILE_BYTES {
        let mut noise = [0; 8];
        stream.fill(&mut noise);
        let number = u64::from_le_bytes(noise);
        let function = format!(
            "def column_{:05x}(row, factor={}):\n    return row[\"value_{:04x}\"] * factor + {}\n\n",
            number & 0xf_ffff,
            number >> 60,
            (number >> 20) & 0xffff,
            (number >> 36) & 0xfff,
        );
        text.push_str(&function);
    }
    text
}

fn write(file: &Path, text: &str) -> Result<()> {
    let mut open = File::create(file).with_context(|| format!("cannot make {file:?}"))?;
    // rsync takes a file of equal size and equal second for unchanged: the tree is an old one.
    let long_ago = SystemTime::now() - AGE;
    open.write_all(text.as_bytes())
        .and_then(|()| open.set_modified(long_ago))
        .with_context(|| format!("cannot write {file:?}"))
}
