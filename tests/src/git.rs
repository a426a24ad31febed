//! git, as the one who edits the tree runs it.

use std::path::Path;
use std::process::Command;

use crate::binary::clear;
use crate::{Ended, user};

/// Runs git in a folder.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    clear(&mut command, folder);
    // The owner of the tree, or git refuses to look at it.
    user::as_plain(&mut command);
    command
        .current_dir(folder)
        .args(["-c", "user.name=Test", "-c", "user.email=test@invalid"])
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args);
    Ended::run(command).succeeds();
}
