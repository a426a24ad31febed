//! Which user the daemons run as: a plain one. Where the tests run as root, that is another one
//! than the code servers', as it should be on a real host.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Gid, Uid, chown};
use rustix::process::geteuid;

/// `nobody`.
pub(crate) const PLAIN: u32 = 65_534;

/// Makes a command run as the daemons' user.
pub(crate) fn as_plain(command: &mut Command) {
    if geteuid().is_root() {
        command.uid(PLAIN).gid(PLAIN);
    }
}

/// Gives a path to the daemons' user.
pub(crate) fn give(path: &Path) {
    if geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(PLAIN), Gid::from_raw(PLAIN));
        chown(path, Some(uid), Some(gid)).expect("a path is given away");
    }
}
