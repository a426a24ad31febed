//! The binary under test, built once for each run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::Uplink;

static CODEVOL: OnceLock<PathBuf> = OnceLock::new();

/// Returns a command that runs `codevol`, as a plain user, with nothing of this environment but
/// what finds programs; on a host of its own, or on this one.
pub(crate) fn codevol(home: &Path, uplink: Option<&Uplink>) -> Command {
    let program = CODEVOL.get_or_init(build);
    let mut command = match uplink {
        Some(uplink) => uplink.command(program.as_os_str()),
        None => {
            let mut command = Command::new(program);
            crate::user::as_plain(&mut command);
            command
        }
    };
    clear(&mut command, home);
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Clears a command's environment down to what any program needs.
pub(crate) fn clear(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir("/");
}

/// Returns the folder of what is built.
pub(crate) fn target_dir() -> PathBuf {
    let default = || workspace().join("target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from)
}

/// Returns the root of the repository.
pub(crate) fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate lies in the workspace")
}

/// Builds it, and makes sure that a plain user can run it: a checkout may lie in root's home.
fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--package",
            "codevol",
            "--bin",
            "codevol",
        ])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.output().expect("cargo runs");
    assert!(
        built.status.success(),
        "cannot build codevol:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    reachable(&executable.expect("cargo says what it built"))
}

/// Returns a path by which everybody reaches the binary.
fn reachable(built: &Path) -> PathBuf {
    let mut probe = Command::new(built);
    crate::user::as_plain(&mut probe);
    if probe.arg("version").current_dir("/").output().is_ok() {
        return built.to_owned();
    }
    let bytes = std::fs::metadata(built).expect("the binary is there");
    let name = format!("codevol-{}-{}", std::process::id(), bytes.len());
    let copy = env::temp_dir().join(name);
    std::fs::copy(built, &copy).expect("the binary is copied");
    copy
}
