//! The two images of a sidecar, made on this host: no registry is asked for anything.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::binary::{target_dir, workspace};
use crate::docker::docker;
use crate::{Dagster, Ended};

/// Builds the image that is shipped, by the script that is shipped, from what is in this checkout.
pub(crate) fn codevol(tag: &str) {
    // It compiles for minutes when it is new: after whatever else runs, for that waits for states
    // under deadlines; and in a folder of its own, for cargo lets one build at a time into one.
    let mut command = Command::new("nice");
    command
        .arg(workspace().join("deploy/build-image"))
        .arg(tag)
        .env("PROFILE", "dev")
        .env("CARGO_TARGET_DIR", target_dir().join("static"));
    Ended::run(command).succeeds();
}

/// Returns the tag of an image with this Dagster, which is made where there is none yet.
pub(crate) fn dagster(dagster: &Dagster) -> String {
    let venv = dagster.program().parent().and_then(Path::parent);
    let venv = venv.expect("Dagster lies in an environment's `bin`");
    let script = workspace().join("tests/dagster-image");
    let tag = format!("codevol-tests-dagster:{}", content(&script, venv));
    // Tests run in several processes: one of them makes it, the others wait for it.
    let lock = File::create(target_dir().join("dagster-image.lock")).expect("a lock is opened");
    lock.lock().expect("the lock is taken");
    if docker(&["image", "inspect", &tag]).code != Some(0) {
        let mut command = Command::new(script);
        command.arg(venv).arg(&tag);
        Ended::run(command).succeeds();
    }
    tag
}

/// Returns what tells one such image from another: how it is made, from which interpreter and from
/// which packages, whose versions are part of their folders' names.
fn content(script: &Path, venv: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(venv.as_os_str().as_encoded_bytes());
    for file in [script, &venv.join("pyvenv.cfg")] {
        hasher.update(&fs::read(file).expect("a file of the image is read"));
    }
    let mut packages = Vec::new();
    for python in fs::read_dir(venv.join("lib")).expect("the environment is read") {
        let python = python.expect("the environment is read").path();
        for package in fs::read_dir(python.join("site-packages")).expect("packages are read") {
            packages.push(package.expect("packages are read").file_name());
        }
    }
    packages.sort();
    for package in packages {
        hasher.update(package.as_encoded_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex()[..12].to_owned()
}
