//! Where the packages and the standard library of an interpreter lie. It is found by the same files
//! that the interpreter itself goes by; the interpreter is never run.
//!
//! ```text
//! /opt/venv/bin/python       pyvenv.cfg beside it or above: a virtual environment
//! /opt/venv/lib/python3.11/site-packages
//! /usr/lib/python3.11        its standard library, by the `home` of pyvenv.cfg
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Where the parts of an environment lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// `3.11`
    pub(super) python: (u64, u64),
    /// `3.11.7`, where a file says so.
    pub(super) full: Option<String>,
    /// Folders of installed packages that are there, those first that are imported from first.
    pub(super) packages: Vec<PathBuf>,
    /// The standard library, where it is found.
    pub(super) standard: Option<PathBuf>,
    /// What all of this was found by, besides the interpreter.
    pub(super) found_by: Vec<PathBuf>,
}

/// Why an environment cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// A file or folder.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder stands where the interpreter was to be.
    #[error("`{}` is a folder: name the interpreter in it, as `bin/python`", .0.display())]
    Folder(PathBuf),
    /// There is no one `lib/python3.N` for it.
    #[error(
        "which packages `{}` uses cannot be told: no one `lib/python3.N` belongs to it",
        .0.display()
    )]
    NoLibrary(PathBuf),
    /// It is larger than any that is in use.
    #[error("`{}` holds too much", .0.display())]
    TooMuch(PathBuf),
}

impl Unreadable {
    /// Whether there is nothing at that path.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

const CONFIG: &str = "pyvenv.cfg";
const CONFIG_BYTES_MAX: u64 = 64 << 10;
const ENTRIES_MAX: usize = 50_000;

impl Layout {
    /// Finds the environment of an interpreter.
    pub(super) fn of(python: &Path) -> Result<Self, Unreadable> {
        // That this user may not read what it is a link to is no matter: it is not run.
        let real = fs::metadata(python);
        let denied = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
        if !real.as_ref().is_err_and(denied) && at(python, real)?.is_dir() {
            return Err(Unreadable::Folder(python.to_owned()));
        }
        match venv(python)? {
            Some((prefix, config)) => Self::of_venv(python, &prefix, &config),
            None => Self::of_system(python),
        }
    }

    fn of_venv(python: &Path, prefix: &Path, config: &Config) -> Result<Self, Unreadable> {
        let version = match config.version() {
            Some(version) => version,
            None => only_version(prefix, python)?,
        };
        let home = config.value("home").map(PathBuf::from);
        let base = home.as_deref().and_then(Path::parent);
        let mut packages = folders_of(prefix, version, &["site-packages"]);
        if packages.is_empty() {
            return Err(Unreadable::NoLibrary(python.to_owned()));
        }
        if config.value("include-system-site-packages") == Some("true")
            && let Some(base) = base
        {
            packages.extend(system_folders(base, version));
        }
        Ok(Self {
            python: version,
            full: config.full_version(),
            packages,
            standard: base.and_then(|base| standard_of(base, version)),
            found_by: vec![config.path.clone()],
        })
    }

    fn of_system(python: &Path) -> Result<Self, Unreadable> {
        let real = at(python, fs::canonicalize(python))?;
        let none = || Unreadable::NoLibrary(python.to_owned());
        let prefix = real.parent().and_then(Path::parent).ok_or_else(none)?;
        let by_name = real.file_name().and_then(|name| name.to_str());
        let version = match by_name.and_then(version_of_name) {
            Some(version) => version,
            None => only_version(prefix, python)?,
        };
        let standard = standard_of(prefix, version);
        let packages = system_folders(prefix, version);
        if standard.is_none() && packages.is_empty() {
            return Err(none());
        }
        Ok(Self {
            python: version,
            full: None,
            packages,
            standard,
            found_by: Vec::new(),
        })
    }
}

/// Says at which path something failed.
fn at<T>(path: &Path, done: io::Result<T>) -> Result<T, Unreadable> {
    done.map_err(|source| Unreadable::Io {
        path: path.to_owned(),
        source,
    })
}

/// Returns the names in a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Unreadable> {
    let mut names = Vec::new();
    for entry in at(folder, fs::read_dir(folder))? {
        let entry = at(folder, entry)?;
        if names.len() >= ENTRIES_MAX {
            return Err(Unreadable::TooMuch(folder.to_owned()));
        }
        // No package and no module has a name that is no text.
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// Returns the beginning of a file as text.
pub(super) fn beginning(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A `pyvenv.cfg`.
struct Config {
    path: PathBuf,
    text: String,
}

impl Config {
    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim())
        })
    }

    fn numbers(&self) -> Vec<&str> {
        let said = self.value("version_info").or_else(|| self.value("version"));
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts = said.unwrap_or_default().split('.');
        parts.take(3).take_while(is_number).collect()
    }

    fn version(&self) -> Option<(u64, u64)> {
        match self.numbers().as_slice() {
            [major, minor, ..] => Some((major.parse().ok()?, minor.parse().ok()?)),
            _ => None,
        }
    }

    fn full_version(&self) -> Option<String> {
        let numbers = self.numbers();
        (numbers.len() == 3).then(|| numbers.join("."))
    }
}

/// Returns the root of the virtual environment that an interpreter stands in. A link to it is not
/// followed: Python does not either.
fn venv(python: &Path) -> Result<Option<(PathBuf, Config)>, Unreadable> {
    let beside = python.parent();
    for folder in [beside, beside.and_then(Path::parent)]
        .into_iter()
        .flatten()
    {
        let path = folder.join(CONFIG);
        match beginning(&path, CONFIG_BYTES_MAX) {
            Ok(text) => return Ok(Some((folder.to_owned(), Config { path, text }))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(Unreadable::Io { path, source }),
        }
    }
    Ok(None)
}

/// Reads `python3.11`.
fn version_of_name(name: &str) -> Option<(u64, u64)> {
    let (major, minor) = name.strip_prefix("python")?.split_once('.')?;
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let both = is_number(major) && is_number(minor);
    both.then(|| Some((major.parse().ok()?, minor.parse().ok()?)))?
}

/// Returns the version of the only library below a prefix.
fn only_version(prefix: &Path, python: &Path) -> Result<(u64, u64), Unreadable> {
    let lib = prefix.join("lib");
    let mut versions: Vec<(u64, u64)> = names(&lib)?
        .iter()
        .filter_map(|name| version_of_name(name))
        .filter(|version| !folders_of(prefix, *version, &["site-packages", "."]).is_empty())
        .collect();
    match (versions.pop(), versions.pop()) {
        (Some(only), None) => Ok(only),
        _ => Err(Unreadable::NoLibrary(python.to_owned())),
    }
}

/// Returns those of the folders below a library that are there, or may be: who reads one that cannot be
/// looked at hears why. Where `lib64` is a link to `lib`, once.
fn folders_of(prefix: &Path, (major, minor): (u64, u64), names: &[&str]) -> Vec<PathBuf> {
    let libraries = ["lib", "lib64"].map(|lib| prefix.join(lib));
    let mut folders: Vec<PathBuf> = Vec::new();
    for library in libraries {
        let library = library.join(format!("python{major}.{minor}"));
        let there = names.iter().map(|name| library.join(name));
        for folder in there {
            let none = [ErrorKind::NotFound, ErrorKind::NotADirectory];
            let folder = match fs::canonicalize(&folder) {
                Ok(real) if real.is_dir() => real,
                Err(error) if !none.contains(&error.kind()) => folder,
                Ok(_) | Err(_) => continue,
            };
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// Returns the folders of packages of an interpreter that is in no virtual environment. Debian's have
/// names of their own, so that `pip` does not write into them.
fn system_folders(prefix: &Path, version: (u64, u64)) -> Vec<PathBuf> {
    let debian = prefix.join("lib/python3/dist-packages");
    let is_debian = debian.is_dir();
    let names = if is_debian {
        ["dist-packages"]
    } else {
        ["site-packages"]
    };
    let mut folders = Vec::new();
    if prefix == Path::new("/usr") {
        folders.extend(folders_of(Path::new("/usr/local"), version, &names));
    }
    folders.extend(folders_of(prefix, version, &names));
    folders.extend(is_debian.then_some(debian));
    folders
}

fn standard_of(prefix: &Path, version: (u64, u64)) -> Option<PathBuf> {
    let libraries = folders_of(prefix, version, &["."]);
    libraries
        .into_iter()
        .find(|library| library.join("os.py").is_file())
}
