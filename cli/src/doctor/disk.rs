//! Room on the disks that are written: bytes, and inodes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statvfs;

use super::Check;
use crate::config::Config;
use crate::config::check::state_dir;
use crate::error::chain;
use crate::output::units;

/// With less than this nothing can be relied on to fit.
const BYTES_MIN: u64 = 64 << 20;
const INODES_MIN: u64 = 1_000;
/// Of the whole, a part of so many is little.
const LITTLE_PARTS: u64 = 20;
/// However small a part of its disk: it is enough.
const BYTES_ENOUGH: u64 = 10 << 30;
const INODES_ENOUGH: u64 = 1_000_000;

/// What a file system has left for this user, and has in all.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: (u64, u64),
    /// The whole is zero where the file system makes inodes as they are needed.
    inodes: (u64, u64),
}

/// Looks at each file system that is written once.
pub(super) fn look(config: &Config) -> Vec<Check> {
    let mut folders = vec![state_dir(config)];
    if let Config::Agent(config) = config {
        folders.extend(config.volumes.iter().map(|volume| volume.root.as_path()));
    }
    let mut seen = BTreeSet::new();
    let first_of_its = |folder: &&Path| {
        let stat = fs::metadata(folder);
        stat.map_or(true, |stat| seen.insert(stat.dev()))
    };
    let folders = folders.into_iter().filter_map(standing);
    folders.filter(first_of_its).map(check).collect()
}

/// Returns the folder, or the one above it that is there: it will be made in that.
fn standing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|ancestor| ancestor.exists())
}

fn check(folder: &Path) -> Check {
    let room = match statvfs(folder) {
        Ok(found) => Room {
            bytes: (
                found.f_bavail.saturating_mul(found.f_frsize),
                found.f_blocks.saturating_mul(found.f_frsize),
            ),
            inodes: (found.f_favail, found.f_files),
        },
        Err(error) => {
            let why = chain(&std::io::Error::from(error)).join(": ");
            let message = format!("cannot look at `{}`: {why}", folder.display());
            return Check::wrong("disk", message);
        }
    };
    judge(room, &folder.display().to_string())
}

fn judge(room: Room, folder: &str) -> Check {
    let Room { bytes, inodes } = room;
    let has_inodes = inodes.1 > 0;
    let (free, whole) = (units::bytes(bytes.0), units::bytes(bytes.1));
    let mut message = format!("{free} of {whole} are free at `{folder}`");
    if has_inodes {
        let (free, whole) = inodes;
        message = format!("{message}, {free} of {whole} inodes");
    }
    let little = |(free, whole): (u64, u64), enough| free < whole / LITTLE_PARTS && free < enough;
    let mend = format!("make room there: `df -h {folder}; df -i {folder}`, or keep fewer releases");
    if bytes.0 < BYTES_MIN || (has_inodes && inodes.0 < INODES_MIN) {
        Check::wrong("disk", message).mend(mend)
    } else if little(bytes, BYTES_ENOUGH) || (has_inodes && little(inodes, INODES_ENOUGH)) {
        Check::warning("disk", message).mend(mend)
    } else {
        Check::ok("disk", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    const TIB: u64 = 1 << 40;

    #[test]
    fn a_disk_is_full_by_its_bytes_or_its_inodes() {
        let state = |bytes, inodes| judge(Room { bytes, inodes }, "/x").state;
        let plenty = (900_000, 1_000_000);
        assert_eq!(state((TIB / 2, TIB), plenty), State::Ok);
        assert_eq!(state((TIB / 2, TIB), (0, 0)), State::Ok);
        // A small part of much is much.
        assert_eq!(state((20 << 30, TIB), plenty), State::Ok);
        assert_eq!(state((5 << 30, TIB), plenty), State::Warning);
        assert_eq!(state((TIB / 2, TIB), (40_000, 1_000_000)), State::Warning);
        assert_eq!(state((BYTES_MIN - 1, 4 * BYTES_MIN), plenty), State::Wrong);
        assert_eq!(state((TIB / 2, TIB), (INODES_MIN - 1, 2_000)), State::Wrong);
        // Half of a small disk.
        assert_eq!(state((BYTES_MIN, 2 * BYTES_MIN), plenty), State::Ok);
    }
}
