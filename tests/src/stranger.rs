//! Another user of the same host, one who owns nothing of codevol's: the one that Dagster runs as, or
//! anyone else.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::process::geteuid;

use crate::not_run;

const MARK: &str = "CODEVOL_TEST_STRANGER";
/// `games` or the like; not the plain user that whole daemons run as.
const STRANGER: u32 = 60_123;

/// Returns, in the stranger's process, the place that it is to have a try at.
#[must_use]
pub fn stranger() -> Option<PathBuf> {
    env::var_os(MARK).map(PathBuf::from)
}

/// Runs the test that calls it once more as a stranger, in which [`stranger`] returns `at`.
///
/// # Panics
/// When the test fails there. Only root can be somebody else: where the tests run as another user
/// that is said, and fails where `CI=true`.
pub fn let_stranger_try(at: &Path) {
    if !geteuid().is_root() {
        return not_run("only root can run a test as another user");
    }
    let folder = tempfile::tempdir().expect("a temporary folder is made");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is opened");
    // Where the test was built the stranger may not go.
    let program = folder.path().join("test");
    let built = env::current_exe().expect("a test knows its program");
    fs::copy(built, &program).expect("a program is copied");
    let thread = thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env(MARK, at)
        .uid(STRANGER)
        .gid(STRANGER);
    let output = command.output().expect("a test is run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{shown}\n{error}");
    assert!(shown.contains("1 passed"), "{shown}\n{error}");
}
