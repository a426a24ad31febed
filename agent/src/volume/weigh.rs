//! How much room releases take that nothing else needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use codevol_store::dir::{Dir, DirError, Kind};

use super::{Held, Trash};

/// The files of which some names were met: how many names are missing yet, and the length.
type Met = BTreeMap<(u64, u64), (u64, u64)>;

impl Trash {
    /// Returns how many bytes are free once these releases are gone. A file that another release shares
    /// frees nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn weigh(&self, releases: &[Arc<Held>]) -> Result<u64, DirError> {
        let mut met = Met::new();
        let mut bytes = 0;
        for held in releases {
            match self.0.releases.open_dir(&held.dir_name()) {
                Ok(dir) => bytes += weigh(&dir, &mut met)?,
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

fn weigh(top: &Dir, met: &mut Met) -> Result<u64, DirError> {
    let mut bytes = 0;
    let mut todo = vec![top.try_clone()?];
    while let Some(dir) = todo.pop() {
        for (name, kind) in dir.entries()? {
            // Whatever else stands there is not ours.
            let Some(name) = name.to_str() else { continue };
            if kind == Kind::Dir {
                todo.push(dir.open_dir(name)?);
                continue;
            }
            let Some(stat) = dir.stat(name)?.filter(|stat| stat.kind == Kind::File) else {
                continue;
            };
            let (missing, size) = met
                .entry((stat.dev, stat.ino))
                .or_insert((stat.nlink, stat.size));
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                bytes += *size;
            }
        }
    }
    Ok(bytes)
}
