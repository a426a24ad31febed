//! Checks a configuration against the machine: folders that exist and can be written, key files
//! that nobody else reads, places that do not lie in one another.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;

use crate::config::fault::{self, Fault};
use crate::config::place::Place;
use crate::config::show::Setting;
use crate::config::{Config, Loaded};
use crate::error::{CommandError, chain};

/// Who may do something with a file besides its owner, as mode bits.
const OTHERS: u32 = 0o077;
/// No more files of a state folder are looked at.
const FILES_MAX: usize = 10_000;
const STATE_DIR: &str = "state_dir";

/// What is wrong with the value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The key of the setting.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) message: String,
    /// The command that mends it, where there is one.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            mend: None,
        }
    }

    /// Returns what is wrong, with what mends it.
    fn text(self) -> String {
        match self.mend {
            Some(mend) => format!("{}: `{mend}`", self.message),
            None => self.message,
        }
    }
}

/// Checks the configuration against this machine, as the user that this process runs as.
///
/// # Errors
/// The machine is not as the configuration says: all that is wrong is told.
pub fn environment(loaded: &Loaded) -> Result<(), CommandError> {
    let findings = findings(loaded);
    if findings.is_empty() {
        return Ok(());
    }
    let faults = findings.into_iter().map(|finding| {
        let is_of_it = |setting: &&Setting| setting.key == finding.key;
        let setting = loaded.settings.iter().find(is_of_it);
        let place = setting.map(|setting| setting.place.clone());
        Fault::new(place.unwrap_or(Place::Default), finding.text())
    });
    let mut error = fault::report(&loaded.path, &loaded.text, faults.collect());
    error.kind = "environment".into();
    Err(error)
}

/// Returns all that is wrong with this machine by the configuration, for this user.
pub(crate) fn findings(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (state_dir, control_socket) = own_places(&loaded.config);
    findings.extend(state(state_dir));
    if let Some(folder) = control_socket.and_then(Path::parent)
        && folder != state_dir
    {
        findings.extend(writable(folder).map(|text| Finding::new("control_socket", text)));
    }
    for (key, tree) in trees(&loaded.config) {
        let wrong = match loaded.config {
            Config::Source(_) => readable(tree),
            Config::Agent(_) | Config::Operator(_) => writable(tree),
        };
        findings.extend(wrong.map(|text| Finding::new(key, text)));
    }
    let file = std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone());
    findings.extend(nesting(&loaded.config, &file, resolved));
    findings
}

/// Finds the trees that lie in one another, in the state folder, or around it, the file or the
/// control socket: codevol would publish its own keys, or write where it must not. How a path
/// becomes comparable is the caller's choice.
pub(super) fn nesting(
    config: &Config,
    file: &Path,
    comparable: impl Fn(&Path) -> PathBuf,
) -> Vec<Finding> {
    let (state_dir, control_socket) = own_places(config);
    let mut own = vec![("the state folder", state_dir), ("this file", file)];
    own.extend(control_socket.map(|socket| ("the control socket", socket)));
    let trees = trees(config);
    let mut findings = Vec::new();
    for (index, (key, tree)) in trees.iter().enumerate() {
        let at = comparable(tree);
        for (what, place) in &own {
            if comparable(place).starts_with(&at) {
                let text = lies_in(what, place, "this tree", tree);
                findings.push(Finding::new(key.clone(), text));
                // What stands in the state folder is in the tree because the folder is.
                break;
            }
        }
        let state_at = comparable(state_dir);
        if at != state_at && at.starts_with(&state_at) {
            let text = lies_in("this tree", tree, "the state folder", state_dir);
            findings.push(Finding::new(key.clone(), text));
        }
        for (_, other) in trees.iter().take(index) {
            let other_at = comparable(other);
            if at.starts_with(&other_at) || other_at.starts_with(&at) {
                let (tree, other) = (tree.display(), other.display());
                let text = format!("two volumes share a tree: `{tree}` and `{other}`");
                findings.push(Finding::new(key.clone(), text));
            }
        }
    }
    findings
}

fn lies_in(what: &str, inner: &Path, whole: &str, outer: &Path) -> String {
    let (inner, outer) = (inner.display(), outer.display());
    format!("{what}, `{inner}`, lies in {whole}, `{outer}`: keep them apart")
}

/// Returns the state folder.
pub(crate) fn state_dir(config: &Config) -> &Path {
    own_places(config).0
}

fn own_places(config: &Config) -> (&Path, Option<&Path>) {
    match config {
        Config::Source(config) => (&config.state_dir, Some(&config.control_socket)),
        Config::Agent(config) => (&config.state_dir, Some(&config.control_socket)),
        Config::Operator(config) => (&config.state_dir, None),
    }
}

/// Returns the tree of each volume with the key that names it.
fn trees(config: &Config) -> Vec<(String, &Path)> {
    let keyed = |(index, path): (usize, _), key: &str| (format!("volume.{index}.{key}"), path);
    match config {
        Config::Source(config) => {
            let paths = config.volumes.iter().map(|volume| volume.path.as_path());
            paths.enumerate().map(|it| keyed(it, "path")).collect()
        }
        Config::Agent(config) => {
            let roots = config.volumes.iter().map(|volume| volume.root.as_path());
            roots.enumerate().map(|it| keyed(it, "root")).collect()
        }
        Config::Operator(_) => Vec::new(),
    }
}

/// Returns the path without `..`, by its text alone.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            clean.pop();
        } else {
            clean.push(component);
        }
    }
    clean
}

/// Returns the path with its links followed, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|ancestor| {
        let real = fs::canonicalize(ancestor).ok()?;
        Some(real.join(path.strip_prefix(ancestor).ok()?))
    });
    lexical(&known.unwrap_or_else(|| path.to_path_buf()))
}

/// Checks that the state folder is, or can be made, writable for us and closed to others.
fn state(path: &Path) -> Vec<Finding> {
    let unusable = writable(path).map(|text| Finding::new(STATE_DIR, text));
    let mut findings: Vec<Finding> = unusable.into_iter().collect();
    if findings.is_empty()
        && let Ok(metadata) = fs::metadata(path)
    {
        findings.extend(open_to_others(path, &metadata, "700"));
        findings.extend(open_files(path));
    }
    findings
}

fn open_files(folder: &Path) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(folder) else {
        let text = format!("cannot list `{}`", folder.display());
        return vec![Finding::new(STATE_DIR, text)];
    };
    let files = entries.flatten().take(FILES_MAX).filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let path = entry.path();
        let open = || open_to_others(&path, &metadata, "600");
        metadata.is_file().then(open).flatten()
    });
    let mut findings: Vec<Finding> = files.collect();
    findings.sort_by(|a, b| a.message.cmp(&b.message));
    findings
}

fn open_to_others(path: &Path, metadata: &Metadata, closed: &str) -> Option<Finding> {
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then(|| {
        let path = path.display();
        let message = format!("`{path}` has mode {mode:04o}, open to others");
        Finding {
            mend: Some(format!("chmod {closed} {path}")),
            ..Finding::new(STATE_DIR, message)
        }
    })
}

/// Says why a folder cannot be read, if it cannot.
pub(crate) fn readable(path: &Path) -> Option<String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(cannot("read", path, &error)),
    };
    if !metadata.is_dir() {
        return Some(format!("`{}` is not a directory", path.display()));
    }
    let wanted = Access::READ_OK | Access::EXEC_OK;
    let error = rustix::fs::access(path, wanted).err()?;
    Some(denied("read", path, &metadata, error.into()))
}

/// Says why a folder cannot be written, or made, if it cannot.
fn writable(path: &Path) -> Option<String> {
    for ancestor in path.ancestors() {
        let metadata = match fs::metadata(ancestor) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Some(cannot("write", path, &error)),
        };
        if !metadata.is_dir() {
            return Some(format!("`{}` is not a directory", ancestor.display()));
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        let action = if ancestor == path {
            "write"
        } else {
            "create folders in"
        };
        let error = rustix::fs::access(ancestor, wanted).err()?;
        return Some(denied(action, ancestor, &metadata, error.into()));
    }
    None
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> String {
    let causes = chain(error).join(": ");
    format!("cannot {action} `{}`: {causes}", path.display())
}

fn denied(action: &str, path: &Path, metadata: &Metadata, error: io::Error) -> String {
    let (owner, mode) = (metadata.uid(), metadata.permissions().mode() & 0o7777);
    let own = rustix::process::geteuid().as_raw();
    let cannot = cannot(action, path, &error);
    format!("{cannot}; it belongs to uid {owner}, has mode {mode:04o}, and this is uid {own}")
}
