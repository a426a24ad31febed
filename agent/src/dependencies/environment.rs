//! Reads off the disk what is installed in a Python environment: the records of installed packages
//! (`*.dist-info`, `*.egg-info`) and the names of what can be imported. Nothing is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codevol_protocol::dependency::PackageName;
use codevol_protocol::limits::PACKAGES_MAX;

use super::layout::{Layout, Unreadable, beginning, names};
use super::marker::Facts;

/// What stands in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    /// The interpreter.
    pub(super) python: PathBuf,
    pub(super) facts: Facts,
    /// Each package with its version, as it says it.
    pub(super) packages: BTreeMap<PackageName, String>,
    /// The first components of all modules that are installed.
    pub(super) modules: BTreeSet<String>,
    /// Those of the standard library; nothing where that is not found.
    pub(super) standard: Option<BTreeSet<String>>,
    /// How many records say nothing.
    pub(super) unread: usize,
    /// How many folders and lists of modules cannot be read: anything may be in them.
    pub(super) unlisted: usize,
}

/// An environment, and how it can be told that it is still the same.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) installed: Installed,
    stamps: Vec<(PathBuf, Stamp)>,
}

/// What the file system said of a file or folder; nothing where there was none.
type Stamp = Option<(u64, u64, i64, i64, i64)>;

const RECORD_BYTES_MAX: u64 = 64 << 10;
const VERSION_BYTES_MAX: usize = 64;
/// Folders that `.pth` files add.
const ADDED_MAX: usize = 64;
/// What changed a moment ago may change again without a sign.
const RACY: Duration = Duration::from_secs(2);

impl Kept {
    /// Reads an environment.
    pub(super) fn read(python: &Path) -> Result<Self, Unreadable> {
        let layout = Layout::of(python)?;
        let mut paths = vec![python.to_owned()];
        paths.extend(layout.found_by.iter().cloned());
        paths.extend(layout.packages.iter().cloned());
        // Taken before anything is read: what changes meanwhile shows the next time.
        let began = SystemTime::now();
        let mut stamps = stamps(paths);
        let mut gathered = Gathered::default();
        for folder in &layout.packages {
            gathered.folder(folder)?;
        }
        let added = std::mem::take(&mut gathered.added);
        for folder in &added {
            match gathered.modules_of(folder) {
                // A folder that is gone gives nothing.
                Err(error) if !error.is_not_found() => gathered.unlisted += 1,
                Ok(()) | Err(_) => {}
            }
        }
        stamps.extend(self::stamps(added));
        if stamps.iter().any(|(_, stamp)| is_racy(stamp, began)) {
            stamps.clear();
        }
        let standard = layout.standard.as_deref().map(standard).transpose()?;
        let installed = Installed {
            python: python.to_owned(),
            facts: Facts {
                python: layout.python,
                full: layout.full,
                machine: machine(),
                any_extra: false,
            },
            packages: gathered.packages,
            modules: gathered.modules,
            standard,
            unread: gathered.unread,
            unlisted: gathered.unlisted,
        };
        Ok(Self { installed, stamps })
    }

    /// Whether nothing says that it is another one by now.
    pub(super) fn is_fresh(&self) -> bool {
        let same = |(path, stamp): &(PathBuf, Stamp)| stamp_of(path) == *stamp;
        !self.stamps.is_empty() && self.stamps.iter().all(same)
    }
}

impl Installed {
    /// Whether an import of this module finds something, as far as that can be told.
    pub(super) fn gives(&self, module: &str) -> bool {
        let is_standard = |standard: &BTreeSet<String>| standard.contains(module);
        // Names that begin so are an interpreter's own; many are compiled into it.
        module.starts_with('_')
            || BUILT_IN.contains(&module)
            || self.unlisted > 0
            || self.modules.contains(module)
            || self.standard.as_ref().is_none_or(is_standard)
    }
}

/// Modules of the standard library that are compiled into the interpreter, here or there, so that no
/// file shows them.
const BUILT_IN: [&str; 31] = [
    "array",
    "atexit",
    "audioop",
    "binascii",
    "builtins",
    "cmath",
    "errno",
    "faulthandler",
    "fcntl",
    "gc",
    "grp",
    "itertools",
    "marshal",
    "math",
    "mmap",
    "nis",
    "ossaudiodev",
    "posix",
    "pwd",
    "pyexpat",
    "readline",
    "resource",
    "select",
    "signal",
    "spwd",
    "sys",
    "syslog",
    "termios",
    "time",
    "unicodedata",
    "zlib",
];

/// What was found so far.
#[derive(Default)]
struct Gathered {
    packages: BTreeMap<PackageName, String>,
    modules: BTreeSet<String>,
    added: Vec<PathBuf>,
    unread: usize,
    unlisted: usize,
}

impl Gathered {
    fn folder(&mut self, folder: &Path) -> Result<(), Unreadable> {
        for name in names(folder)? {
            if let Some(stem) = record_stem(&name) {
                self.record(&folder.join(&name), stem);
                if self.packages.len() > PACKAGES_MAX {
                    return Err(Unreadable::TooMuch(folder.to_owned()));
                }
            } else if name.ends_with(".pth") {
                self.path_file(folder, &name);
            } else {
                self.modules.extend(module(&name));
            }
        }
        Ok(())
    }

    fn modules_of(&mut self, folder: &Path) -> Result<(), Unreadable> {
        let names = names(folder)?;
        self.modules
            .extend(names.iter().filter_map(|name| module(name)));
        Ok(())
    }

    /// Takes in the record of a package. The first one found is the one that is imported.
    fn record(&mut self, path: &Path, stem: &str) {
        // pip moves what it could not remove to a name that begins so.
        if stem.starts_with('~') {
            return;
        }
        let Some((name, version)) = name_and_version(path, stem) else {
            self.unread += 1;
            return;
        };
        if is_editable(&self.list(&path.join("direct_url.json"))) {
            // What it gives is found by code of its own, and not by a name in this folder.
            self.modules.insert(name.as_str().replace('-', "_"));
            let listed = self.list(&path.join("top_level.txt"));
            let listed = listed.lines().map(str::trim).filter(|l| !l.is_empty());
            self.modules.extend(listed.map(str::to_owned));
        }
        self.packages.entry(name).or_insert(version);
    }

    /// Reads a file that says which modules there are, or where. Not each package has it.
    fn list(&mut self, path: &Path) -> String {
        match beginning(path, RECORD_BYTES_MAX) {
            Ok(text) => text,
            Err(error) => {
                // A record may be a file, and then there is nothing below it.
                let none = [ErrorKind::NotFound, ErrorKind::NotADirectory];
                self.unlisted += usize::from(!none.contains(&error.kind()));
                String::new()
            }
        }
    }

    /// Takes in the folders that a `.pth` file adds to the path. Lines of code in it are not run.
    fn path_file(&mut self, folder: &Path, name: &str) {
        let text = self.list(&folder.join(name));
        let is_folder =
            |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("import");
        for line in text.lines().map(str::trim).filter(is_folder) {
            if self.added.len() < ADDED_MAX {
                self.added.push(folder.join(line));
            } else {
                self.unlisted += 1;
            }
        }
    }
}

fn record_stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".dist-info");
    stem.or_else(|| name.strip_suffix(".egg-info"))
}

/// Returns what a record says, else what its name says.
fn name_and_version(path: &Path, stem: &str) -> Option<(PackageName, String)> {
    let texts = ["METADATA", "PKG-INFO"].map(|file| path.join(file));
    // An `.egg-info` may be a file itself.
    let mut texts = texts.iter().map(PathBuf::as_path).chain([path]);
    let text = texts.find_map(|path| beginning(path, RECORD_BYTES_MAX).ok());
    let header = |key: &str| {
        let text = text.as_deref()?;
        let mut head = text.lines().take_while(|line| !line.is_empty());
        let value = head.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    };
    let mut named = stem.split('-');
    let (by_name, by_version) = (named.next(), named.next());
    let name = header("Name").or_else(|| by_name.map(str::to_owned))?;
    let version = header("Version").or_else(|| by_version.map(str::to_owned))?;
    let is_short = !version.is_empty() && version.len() <= VERSION_BYTES_MAX;
    Some((name.parse().ok().filter(|_| is_short)?, version))
}

/// Goes by a package's `direct_url.json`; most have none.
fn is_editable(text: &str) -> bool {
    let said: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let editable = said.pointer("/dir_info/editable");
    editable.and_then(serde_json::Value::as_bool) == Some(true)
}

/// Returns the module that a name in a folder of modules stands for.
fn module(name: &str) -> Option<String> {
    let stem = match name.split_once('.') {
        None => Some(name),
        Some((stem, "py")) => Some(stem),
        // `x.cpython-311-x86_64-linux-gnu.so`
        Some((stem, rest)) if rest == "so" || rest.ends_with(".so") => Some(stem),
        Some(_) => None,
    };
    stem.filter(|stem| *stem != "__pycache__")
        .map(str::to_owned)
}

fn standard(library: &Path) -> Result<BTreeSet<String>, Unreadable> {
    let mut names = names(library)?;
    match self::names(&library.join("lib-dynload")) {
        Ok(compiled) => names.extend(compiled),
        // Not everywhere: the modules may be compiled in.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(names.iter().filter_map(|name| module(name)).collect())
}

fn machine() -> String {
    let system = rustix::system::uname();
    system.machine().to_string_lossy().into_owned()
}

fn stamps(paths: Vec<PathBuf>) -> Vec<(PathBuf, Stamp)> {
    let stamped = paths.into_iter().map(|path| {
        let stamp = stamp_of(&path);
        (path, stamp)
    });
    stamped.collect()
}

fn stamp_of(path: &Path) -> Stamp {
    let of = |stat: Metadata| {
        let (mtime, ctime) = (stat.mtime(), stat.ctime());
        (stat.dev(), stat.ino(), mtime, stat.mtime_nsec(), ctime)
    };
    fs::metadata(path).ok().map(of)
}

fn is_racy(stamp: &Stamp, began: SystemTime) -> bool {
    let Some((_, _, mtime, _, ctime)) = *stamp else {
        return false;
    };
    let safe = began.checked_sub(RACY).unwrap_or(UNIX_EPOCH);
    let safe = safe.duration_since(UNIX_EPOCH).unwrap_or_default();
    let safe = i64::try_from(safe.as_secs()).unwrap_or(i64::MAX);
    mtime.max(ctime) >= safe
}

#[cfg(test)]
pub(super) mod tests;
