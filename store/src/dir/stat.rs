//! What the file system says about a path.

use rustix::fs::{self, FileType};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket or a device.
    Other,
}

/// What the file system says about one path, the link itself where it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Length, in bytes.
    pub size: u64,
    /// Permission bits, setuid, setgid and sticky among them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// When the bytes changed, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// When bytes, mode, owner or links changed, in nanoseconds since 1970.
    pub ctime_ns: i128,
    /// The inode.
    pub ino: u64,
    /// The device. Another one than the directory's own where something is mounted on the path.
    pub dev: u64,
    /// How many names it has.
    pub nlink: u64,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else there is, is not ours"
        )]
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            _ => Self::Other,
        }
    }
}

impl From<fs::Stat> for Stat {
    #[cfg_attr(
        target_arch = "x86_64",
        expect(clippy::useless_conversion, reason = "narrower on other machines")
    )]
    fn from(stat: fs::Stat) -> Self {
        let nanos =
            |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
            ino: stat.st_ino,
            dev: stat.st_dev,
            nlink: u64::from(stat.st_nlink),
        }
    }
}
