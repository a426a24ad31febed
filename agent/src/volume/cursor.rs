//! Going through a tree in the manifest's order with the directory at hand kept open: one look-up a
//! directory, not one a file.

use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError};

#[derive(Debug)]
pub(super) struct Cursor<'d> {
    top: &'d Dir,
    at: Option<(RelPath, Dir)>,
}

impl<'d> Cursor<'d> {
    pub(super) const fn new(top: &'d Dir) -> Self {
        Self { top, at: None }
    }

    /// Returns the directory that holds a path, and the path's name in it.
    pub(super) fn seek<'p>(&mut self, path: &'p RelPath) -> Result<(&Dir, &'p str), DirError> {
        self.go(path, Dir::open_dir)
    }

    /// As [`Self::seek`], making the directories that are missing.
    pub(super) fn make<'p>(&mut self, path: &'p RelPath) -> Result<(&Dir, &'p str), DirError> {
        self.go(path, |dir, path| dir.ensure_dir(path, 0o755))
    }

    fn go<'p>(
        &mut self,
        path: &'p RelPath,
        open: impl FnOnce(&Dir, &str) -> Result<Dir, DirError>,
    ) -> Result<(&Dir, &'p str), DirError> {
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let Some(parent) = path.parent() else {
            return Ok((self.top, name));
        };
        let (at, dir) = match self.at.take() {
            Some((at, dir)) if at == parent => (at, dir),
            _ => {
                let dir = open(self.top, parent.as_str())?;
                (parent, dir)
            }
        };
        let (_, dir) = self.at.insert((at, dir));
        Ok((dir, name))
    }
}
