//! The directories of a volume root, pinned by descriptor when it is opened. Whatever is swapped for
//! a link later on, these stay the directories that they were.

use codevol_protocol::id::ReleaseId;
use codevol_store::blanks::Blanks;
use codevol_store::dir::{Dir, DirError, Kind};
use codevol_store::persist;

pub(super) const CURRENT: &str = "current";
pub(super) const RELEASES: &str = "releases";
pub(super) const OWN: &str = ".codevol";
/// The directory of a spare tree, below incoming.
pub(super) const SPARE: &str = "spare";
/// The directory of the next staging, made in advance, below incoming.
pub(super) const NEXT: &str = "next";
/// Where a staging keeps what it received.
pub(super) const BLOBS: &str = "blobs";

#[derive(Debug)]
pub(super) struct Places {
    pub(super) root: Dir,
    pub(super) releases: Dir,
    pub(super) own: Dir,
    pub(super) incoming: Dir,
    pub(super) records: Dir,
    /// The ignore rules of what is held, by their hash.
    pub(super) rules: Dir,
    /// Where a file is made that takes the place of a wrong one.
    pub(super) mending: Dir,
    /// What the files of the next staging are made of.
    pub(super) blanks: Blanks,
    trash: Dir,
}

impl Places {
    pub(super) fn open(root: Dir) -> Result<Self, DirError> {
        let own = root.ensure_dir(OWN, 0o700)?;
        Ok(Self {
            releases: root.ensure_dir(RELEASES, 0o755)?,
            incoming: own.ensure_dir("incoming", 0o700)?,
            records: own.ensure_dir("records", 0o700)?,
            rules: own.ensure_dir("rules", 0o700)?,
            mending: own.ensure_dir("mending", 0o700)?,
            blanks: Blanks::open(own.ensure_dir("blanks", 0o700)?)?,
            trash: own.ensure_dir("trash", 0o700)?,
            own,
            root,
        })
    }

    /// Makes the files and directories of the next staging while nobody waits for them.
    pub(super) fn prepare(&self) -> Result<(), DirError> {
        self.blanks.fill()?;
        let next = self.incoming.ensure_dir(NEXT, 0o700)?;
        next.ensure_dir(BLOBS, 0o700).map(drop)
    }

    /// Opens the directory in which a release is staged, with what it has received.
    pub(super) fn staging(&self, id: ReleaseId) -> Result<(Dir, Dir), DirError> {
        let name = id.to_string();
        match self.incoming.rename_noreplace(NEXT, &self.incoming, &name) {
            Err(error) if !error.is_not_found() && !error.is_already_exists() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let dir = self.incoming.ensure_dir(&name, 0o700)?;
        let blobs = dir.ensure_dir(BLOBS, 0o700)?;
        Ok((dir, blobs))
    }

    /// Whether `releases` still is the directory that was pinned.
    pub(super) fn is_in_place(&self) -> Result<bool, DirError> {
        let pinned = self.releases.stat_self()?;
        let named = self.root.stat(RELEASES)?;
        Ok(named.is_some_and(|named| {
            named.kind == Kind::Dir && (named.dev, named.ino) == (pinned.dev, pinned.ino)
        }))
    }

    /// Takes something out of sight in one step; [`Self::empty_trash`] removes it.
    pub(super) fn discard(&self, dir: &Dir, name: &str) -> Result<(), DirError> {
        self.step()?;
        match dir.rename(name, &self.trash, &persist::temporary_name()?) {
            Err(error) if error.is_not_found() => Ok(()),
            discarded => discarded,
        }
    }

    /// Removes what was discarded. What cannot be removed stays for the next time.
    pub(super) fn empty_trash(&self) -> Result<(), DirError> {
        self.step()?;
        for (name, _) in self.trash.entries()? {
            let Some(name) = name.to_str() else { continue };
            if let Err(error) = self.trash.remove_tree(name) {
                tracing::warn!(name, error = %error, "trash stays");
            }
        }
        Ok(())
    }

    /// Removes what was received of a release.
    pub(super) fn remove_staging(&self, id: ReleaseId) -> Result<(), DirError> {
        let name = id.to_string();
        self.discard(&self.incoming, &name)?;
        self.records.remove_file(&name)?;
        self.empty_trash()
    }

    /// Removes what was received for a release that is held, and goes on being held.
    pub(super) fn remove_received(&self, id: ReleaseId) -> Result<(), DirError> {
        self.discard(&self.incoming, &id.to_string())?;
        self.empty_trash()
    }

    /// Removes what was received of a release, after another failure that is the one to report.
    pub(super) fn abandon(&self, id: ReleaseId) {
        if let Err(error) = self.remove_staging(id) {
            tracing::warn!(release = %id, error = %error, "leftovers of staging stay");
        }
    }

    /// Returns how much may still be written, in bytes.
    pub(super) fn free_bytes(&self) -> Result<u64, DirError> {
        #[cfg(test)]
        if let Some(free_bytes) = super::tests::faults::free_bytes() {
            return Ok(free_bytes);
        }
        self.root.free_bytes()
    }

    /// A point at which a test may stop the process or fail the disk.
    #[cfg_attr(
        not(test),
        expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "tests fail here"
        )
    )]
    pub(super) fn step(&self) -> Result<(), DirError> {
        #[cfg(test)]
        super::tests::faults::step()?;
        Ok(())
    }
}
