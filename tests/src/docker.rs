//! The Docker engine of this host.

use std::env;
use std::ffi::OsStr;
use std::process::Command;
use std::sync::OnceLock;

use crate::{Ended, say};

/// Set to `1`: a test that needs an engine fails where none answers.
const REQUIRE: &str = "CODEVOL_REQUIRE_DOCKER";

static FOUND: OnceLock<Result<(), String>> = OnceLock::new();

/// Returns whether an engine and `docker-compose` answer; where they do not, says so.
///
/// # Panics
/// When they do not, and `CODEVOL_REQUIRE_DOCKER=1` asks for them.
pub(crate) fn answers() -> bool {
    let Err(error) = FOUND.get_or_init(ask) else {
        return true;
    };
    let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(!required, "{REQUIRE}=1, but there is no Docker: {error}");
    say(&format!("NOT RUN: there is no Docker: {error}"));
    false
}

/// Runs `docker`.
pub(crate) fn docker<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let mut command = Command::new("docker");
    command.args(args);
    Ended::run(command)
}

fn ask() -> Result<(), String> {
    // Without a server `docker version` fails, and `docker info` does not.
    for asked in [["docker", "version"], ["docker-compose", "version"]] {
        let [program, argument] = asked;
        let output = Command::new(program).arg(argument).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program}: {}", said.trim_end()));
        }
    }
    Ok(())
}
