//! The Dagster under test: a Python environment made once from the pinned requirements.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary::{target_dir, workspace};
use crate::say;

/// The one that a user names.
const OVERRIDE: &str = "CODEVOL_DAGSTER";
/// Set to `1`: a test that needs Dagster fails where there is none.
const REQUIRE: &str = "CODEVOL_REQUIRE_DAGSTER";

static FOUND: OnceLock<Result<Dagster, String>> = OnceLock::new();

/// An installed Dagster.
#[derive(Debug, Clone)]
pub struct Dagster {
    program: PathBuf,
}

impl Dagster {
    /// Returns Dagster, installed on first use; where that cannot be, says so and returns nothing.
    ///
    /// # Panics
    /// When there is none, and `CODEVOL_REQUIRE_DAGSTER=1` asks for it.
    #[must_use]
    pub fn find() -> Option<Self> {
        match FOUND.get_or_init(find) {
            Ok(dagster) => Some(dagster.clone()),
            Err(error) => {
                let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
                assert!(!required, "{REQUIRE}=1, but there is no Dagster: {error}");
                say(&format!("NOT RUN: there is no Dagster: {error}"));
                None
            }
        }
    }

    /// Returns the program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

fn find() -> Result<Dagster, String> {
    if let Some(program) = env::var_os(OVERRIDE) {
        let program = PathBuf::from(program);
        run(Command::new(&program).arg("--version"))?;
        return Ok(Dagster { program });
    }
    let requirements = workspace().join("tests/requirements.txt");
    let pinned = fs::read(&requirements).map_err(|error| format!("no requirements: {error}"))?;
    let hash = blake3::hash(&pinned).to_hex();
    let venv = target_dir().join(format!("dagster-venv-{}", &hash[..12]));
    let complete = venv.join("complete");
    // Tests run in several processes: one of them installs, the others wait for it.
    let lock = venv.with_extension("lock");
    let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    lock.lock().map_err(|error| error.to_string())?;
    if !complete.exists() {
        drop(fs::remove_dir_all(&venv));
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--requirement"])
            .arg(&requirements))?;
        File::create(&complete).map_err(|error| error.to_string())?;
    }
    Ok(Dagster {
        program: venv.join("bin/dagster"),
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_os_string();
    let failed = |why: String| format!("{}: {why}", program.display());
    let output = command
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        said.lines().last().unwrap_or("it failed").to_owned(),
    ))
}
