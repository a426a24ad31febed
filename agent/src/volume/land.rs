//! How a file gets to its path: by a second name for what is held, or as a new file with a moment of
//! its own.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codevol_protocol::manifest::Entry;
use codevol_protocol::path::RelPath;
use codevol_store::dir::{Dir, DirError, Stat};

use super::check::file_stat;

const NANOS: i128 = 1_000_000_000;

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) dir: &'a Dir,
    pub(super) name: &'a str,
}

/// When the files of the held releases landed. Python takes a `.pyc` for valid by size and mtime in
/// whole seconds: two different files at one path must never share both.
#[derive(Debug)]
pub(super) struct Landed {
    releases: Vec<Dir>,
}

impl Landed {
    pub(super) const fn new(releases: Vec<Dir>) -> Self {
        Self { releases }
    }

    /// Returns the newest mtime second of any held release's file at this path.
    pub(super) fn newest(&self, path: &RelPath) -> Result<Option<i128>, DirError> {
        let mut newest = None;
        for release in &self.releases {
            let stat = file_stat(release, path.as_str())?;
            newest = newest.max(stat.map(|stat| second(&stat)));
        }
        Ok(newest)
    }

    /// Returns the moment at which a new file lands at this path: now, or as much later as it takes
    /// to be in a second above that of every held one.
    fn moment(&self, path: &RelPath) -> Result<SystemTime, DirError> {
        let now = SystemTime::now();
        let Some(newest) = self.newest(path)? else {
            return Ok(now);
        };
        let above = u64::try_from(newest.saturating_add(1)).unwrap_or(0);
        Ok(now.max(UNIX_EPOCH + Duration::from_secs(above)))
    }

    /// Gives a new file its mode and its moment.
    pub(super) fn settle(&self, file: &File, path: &RelPath, mode: u32) -> Result<(), DirError> {
        let moment = self.moment(path)?;
        file.set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.set_modified(moment))
            .map_err(|source| io_error("settle", path.as_str(), source))
    }

    /// Makes a held file stand at a path of another release, whose own path it may or may not have
    /// been: linked where the link is as good as a new file, else copied.
    pub(super) fn bring(
        &self,
        from: Spot<'_>,
        to: Spot<'_>,
        path: &RelPath,
        (mode, moved): (u32, bool),
    ) -> Result<(), DirError> {
        let stat = file_stat(from.dir, from.name)?;
        let own =
            |stat: &Stat| stat.mode == mode && stat.uid == rustix::process::geteuid().as_raw();
        let linkable = match stat.filter(own) {
            Some(stat) if moved => self
                .newest(path)?
                .is_none_or(|newest| second(&stat) > newest),
            Some(_) => true,
            None => false,
        };
        if linkable {
            match from.dir.link(from.name, to.dir, to.name) {
                Err(error) if error.is_link_refused() => {}
                linked => return linked,
            }
        }
        let mut source = from.dir.open_file(from.name)?;
        let mut copy = to.dir.create_file(to.name, mode)?;
        // Within a file system this is `copy_file_range`, and a reflink where there are any.
        io::copy(&mut source, &mut copy).map_err(|e| io_error("copy", path.as_str(), e))?;
        self.settle(&copy, path, mode)
    }
}

/// Returns the mode that an entry's file has.
pub(super) const fn mode(entry: &Entry) -> u32 {
    match entry {
        Entry::File {
            executable: true, ..
        } => 0o755,
        Entry::File { .. } | Entry::Symlink { .. } | Entry::Dir => 0o644,
    }
}

fn second(stat: &Stat) -> i128 {
    stat.mtime_ns.div_euclid(NANOS)
}

fn io_error(action: &'static str, path: &str, source: io::Error) -> DirError {
    DirError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
