//! A real virtual environment, in which packages stand by their records alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::{Place, save};

/// A virtual environment of the system's Python.
#[derive(Debug)]
pub struct Venv {
    path: PathBuf,
}

impl Venv {
    /// Makes one, in which nothing is installed.
    ///
    /// # Panics
    /// When there is no Python that makes one.
    #[must_use]
    pub fn make(place: &Place, name: &str) -> Self {
        let path = place.folder(name);
        // One that the daemons' user can read, too, with its standard library.
        let system = Path::new("/usr/bin/python3");
        let python = if system.exists() {
            system
        } else {
            Path::new("python3")
        };
        let mut command = Command::new(python);
        command.args(["-m", "venv", "--without-pip"]).arg(&path);
        let output = command.output().expect("`python3` is run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "no virtual environment: {said}");
        Self { path }
    }

    /// Returns its interpreter.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.path.join("bin/python")
    }

    /// Puts the record of a package there, and an empty module of its name.
    pub fn install(&self, name: &str, version: &str) {
        let site = self.site();
        let record = site.join(format!("{name}-{version}.dist-info/METADATA"));
        let text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        save(&record, text.as_bytes());
        save(&site.join(name).join("__init__.py"), b"");
    }

    /// Takes the package away.
    ///
    /// # Panics
    /// When it is not there.
    pub fn uninstall(&self, name: &str, version: &str) {
        let record = self.site().join(format!("{name}-{version}.dist-info"));
        fs::remove_dir_all(record).expect("a record is removed");
        fs::remove_dir_all(self.site().join(name)).expect("a module is removed");
    }

    fn site(&self) -> PathBuf {
        let lib = self.path.join("lib");
        let entries = fs::read_dir(&lib).expect("an environment has a library");
        let version = entries.flatten().map(|entry| entry.path()).next();
        let site = version.map(|version| version.join("site-packages"));
        site.filter(|site| Path::is_dir(site))
            .expect("an environment has a folder of packages")
    }
}
