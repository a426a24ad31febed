//! A file without a name, for what the files of a sealed release hold: gone with the process, however that
//! ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, statvfs};

/// Makes one where temporary files go, if there is room for so many bytes.
pub(super) fn create(bytes: u64) -> io::Result<File> {
    let folder = std::env::temp_dir();
    let stat = statvfs(&folder)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if bytes > free {
        let folder = folder.display();
        let why = format!("it is {bytes} bytes, and `{folder}` has room for {free}");
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    unnamed(&folder)
}

fn unnamed(folder: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    if let Ok(file) = openat(CWD, folder, flags, mode) {
        return Ok(file.into());
    }
    // Not every file system knows how: it has a name for a moment.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let path = folder.join(format!("codevol-{:016x}", u64::from_le_bytes(random)));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, &path, flags, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}
