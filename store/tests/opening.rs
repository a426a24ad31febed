//! What is made durable when a store is opened that a killed process left behind: seen from outside,
//! by the system calls of this very test.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::Path;
use std::process::Command;

use codevol_store::blobs::Blobs;
use codevol_store::dir::Dir;
use codevol_store::log::Log;
use codevol_store::manifests::Manifests;

const MARK: &str = "CODEVOL_TEST_OPENING_DIR";
const TEST: &str = "what_stands_under_its_name_is_durable_once_its_store_is_open";

fn open(dir: &Path) {
    let at = |name: &str| {
        let dir = Dir::open(dir).unwrap();
        dir.ensure_dir(name, 0o700).unwrap()
    };
    drop(Log::open(&at("log")).unwrap());
    drop(Manifests::open(&at("manifests")).unwrap());
    drop(Blobs::open(&at("blobs")).unwrap());
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that could not be run says so")]
fn what_stands_under_its_name_is_durable_once_its_store_is_open() {
    if let Some(dir) = std::env::var_os(MARK) {
        return open(Path::new(&dir));
    }
    let strace = |program: &str| {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-e", "trace=fsync,syncfs", program]);
        command
    };
    if !strace("true")
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        eprintln!("NOT RUN: {TEST}: there is no strace here that may trace");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    // The second time there is nothing to make, only to rely on.
    open(temp.path());
    let this = std::env::current_exe().unwrap();
    let ran = strace(this.to_str().unwrap())
        .args(["--exact", TEST])
        .env(MARK, temp.path())
        .output()
        .unwrap();
    let calls = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{calls}");
    for (call, name) in [
        ("fsync", "log"),
        ("fsync", "manifests"),
        ("syncfs", "blobs"),
    ] {
        let path = temp.path().join(name);
        let made = |line: &str| {
            line.contains(&format!("{call}(")) && line.contains(&format!("<{}>)", path.display()))
        };
        assert!(calls.lines().any(made), "no {call} of {name}:\n{calls}");
    }
}
