//! Environments as pip, uv and Debian leave them, laid out by hand.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use codevol_tests::save;
use tempfile::TempDir;

use super::*;

/// An environment that was read, for tests of what is made of it.
pub(in crate::dependencies) fn installed(
    packages: &[(&str, &str)],
    modules: &[&str],
    standard: Option<&[&str]>,
) -> Installed {
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Installed {
        python: PathBuf::from("/opt/venv/bin/python"),
        facts: Facts {
            python: (3, 11),
            full: Some("3.11.7".to_owned()),
            machine: "x86_64".to_owned(),
            any_extra: false,
        },
        packages: packages
            .iter()
            .map(|(name, version)| (name.parse().unwrap(), (*version).to_owned()))
            .collect(),
        modules: texts(modules),
        standard: standard.map(texts),
        unread: 0,
        unlisted: 0,
    }
}

/// A folder with an interpreter of its own and its standard library below `base`, and a virtual
/// environment of that one below `venv`.
pub(in crate::dependencies) struct Laid(TempDir);

impl Laid {
    pub(in crate::dependencies) fn new() -> Self {
        let laid = Self(tempfile::tempdir().unwrap());
        laid.file("base/bin/python3.11", "");
        laid.file("base/lib/python3.11/os.py", "");
        laid.file("base/lib/python3.11/json/__init__.py", "");
        laid.file(
            "base/lib/python3.11/lib-dynload/_csv.cpython-311-x86_64-linux-gnu.so",
            "",
        );
        fs::create_dir_all(laid.path("venv/bin")).unwrap();
        symlink(laid.path("base/bin/python3.11"), laid.python()).unwrap();
        laid.config("3.11.7", "");
        laid.file("venv/lib/python3.11/site-packages/README.txt", "");
        laid
    }

    fn config(&self, version: &str, more: &str) {
        let home = self.path("base/bin");
        let text = format!("home = {}\nversion = {version}\n{more}", home.display());
        self.file("venv/pyvenv.cfg", &text);
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(in crate::dependencies) fn python(&self) -> PathBuf {
        self.path("venv/bin/python")
    }

    fn file(&self, path: &str, text: &str) {
        save(&self.path(path), text.as_bytes());
    }

    pub(in crate::dependencies) fn package(&self, folder: &str, metadata: &str) {
        let path = format!("venv/lib/python3.11/site-packages/{folder}/METADATA");
        self.file(&path, metadata);
    }

    fn read(&self) -> Installed {
        Kept::read(&self.python()).unwrap().installed
    }
}

fn shown(packages: &BTreeMap<PackageName, String>) -> Vec<String> {
    let pairs = packages.iter();
    pairs
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

#[test]
fn a_virtual_environment_holds_what_its_records_say() {
    let laid = Laid::new();
    laid.package(
        "dagster_pipes-1.11.2.dist-info",
        "Metadata-Version: 2.1\nName: dagster-pipes\nVersion: 1.11.2\n\nName: other\n",
    );
    // The record's name is not the project's own spelling.
    laid.package(
        "ruamel.yaml-0.18.dist-info",
        "Name: Ruamel_Yaml\nVersion: 0.18\n",
    );
    // Without a readable record its folder's name still says it.
    laid.package("bare-2.0.dist-info", "\n");
    laid.package("~ip-24.0.dist-info", "Name: pip\nVersion: 24.0\n");
    laid.package("odd-.dist-info", "Name: a b\n");
    let read = laid.read();
    assert_eq!(
        shown(&read.packages),
        ["bare 2.0", "dagster-pipes 1.11.2", "ruamel-yaml 0.18"]
    );
    assert_eq!(read.unread, 1);
    assert_eq!(read.facts.python, (3, 11));
    assert_eq!(read.facts.full.as_deref(), Some("3.11.7"));
}

#[test]
fn what_can_be_imported_is_found_by_the_names_of_its_files() {
    let laid = Laid::new();
    let site = "venv/lib/python3.11/site-packages";
    for path in [
        "polars/__init__.py",
        "six.py",
        "fast.cpython-311-x86_64-linux-gnu.so",
        "plain.abi3.so",
        "data.txt",
    ] {
        laid.file(&format!("{site}/{path}"), "");
    }
    laid.file(
        &format!("{site}/more.pth"),
        "# more\n../../../more\nimport x\n",
    );
    laid.file("venv/more/added.py", "");
    let read = laid.read();
    for module in [
        "polars", "six", "fast", "plain", "added", "os", "json", "sys", "time", "_csv",
    ] {
        assert!(read.gives(module), "{module}");
    }
    for module in ["data", "more", "pandas", "README", "x"] {
        assert!(!read.gives(module), "{module}");
    }
}

#[test]
fn an_editable_package_gives_its_own_name_and_what_it_lists() {
    let laid = Laid::new();
    laid.package("my_pipes-1.dist-info", "Name: my-pipes\nVersion: 1\n");
    let record = "venv/lib/python3.11/site-packages/my_pipes-1.dist-info";
    let url = r#"{"url": "file:///src", "dir_info": {"editable": true}}"#;
    laid.file(&format!("{record}/direct_url.json"), url);
    laid.file(&format!("{record}/top_level.txt"), "pipes_lib\n");
    let read = laid.read();
    assert!(read.gives("my_pipes") && read.gives("pipes_lib"));
}

#[test]
fn where_a_list_of_modules_cannot_be_read_nothing_is_said_to_be_missing() {
    let site = "venv/lib/python3.11/site-packages";
    // A folder can be opened as a file is, and not be read.
    for list in ["more.pth", "a-1.dist-info/direct_url.json"] {
        let laid = Laid::new();
        laid.package("a-1.dist-info", "Name: a\nVersion: 1\n");
        assert!(!laid.read().gives("pandas"));
        fs::create_dir(laid.path(&format!("{site}/{list}"))).unwrap();
        let read = laid.read();
        assert_eq!((read.unread, read.unlisted), (0, 1), "{list}");
        assert!(read.gives("pandas"), "{list}");
        assert_eq!(shown(&read.packages), ["a 1"]);
    }
    let laid = Laid::new();
    laid.file(&format!("{site}/more.pth"), "no-folder.txt\ngone\n");
    laid.file(&format!("{site}/no-folder.txt"), "");
    assert_eq!(laid.read().unlisted, 1);
    let laid = Laid::new();
    laid.file(&format!("{site}/more.pth"), &"x\n".repeat(ADDED_MAX + 1));
    assert_eq!(laid.read().unlisted, 1);
}

#[test]
fn the_system_counts_only_where_the_environment_includes_it() {
    let laid = Laid::new();
    laid.file(
        "base/lib/python3.11/site-packages/numpy-2.0.dist-info/METADATA",
        "Name: numpy\nVersion: 2.0\n",
    );
    laid.package("polars-1.dist-info", "Name: polars\nVersion: 1\n");
    assert_eq!(shown(&laid.read().packages), ["polars 1"]);
    laid.config("3.11.7", "include-system-site-packages = true\n");
    // Its own come first.
    laid.package("numpy-1.0.dist-info", "Name: numpy\nVersion: 1.0\n");
    assert_eq!(shown(&laid.read().packages), ["numpy 1.0", "polars 1"]);
}

#[test]
fn an_interpreter_without_an_environment_has_the_packages_beside_it() {
    let laid = Laid::new();
    laid.file(
        "base/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO",
        "Name: PyYAML\nVersion: 6.0\n",
    );
    symlink("python3.11", laid.path("base/bin/python3")).unwrap();
    let read = Kept::read(&laid.path("base/bin/python3"))
        .unwrap()
        .installed;
    assert_eq!(shown(&read.packages), ["pyyaml 6.0"]);
    assert_eq!(
        (read.facts.python, read.facts.full.clone()),
        ((3, 11), None)
    );
    assert!(read.gives("json"));
}

#[test]
fn what_uv_and_virtualenv_write_is_read_too() {
    let laid = Laid::new();
    let home = laid.path("base/bin");
    let text = format!("home = {}\nversion_info = 3.11.7.final.0\n", home.display());
    laid.file("venv/pyvenv.cfg", &text);
    assert_eq!(laid.read().facts.full.as_deref(), Some("3.11.7"));
    // Without a version there is one library to go by.
    laid.file("venv/pyvenv.cfg", &format!("home = {}\n", home.display()));
    let read = laid.read();
    assert_eq!((read.facts.python, read.facts.full), ((3, 11), None));
    laid.file("venv/lib/python3.12/site-packages/x.py", "");
    assert!(
        Kept::read(&laid.python()).is_err(),
        "which of two is not told"
    );
}

#[test]
fn what_cannot_be_read_says_which_file_it_is() {
    let laid = Laid::new();
    laid.file("lonely/bin/python", "");
    laid.file("lonely/lib/python3.x/os.py", "");
    let dynload = laid.path("base/lib/python3.11/lib-dynload");
    fs::remove_dir_all(&dynload).unwrap();
    laid.read();
    laid.file("base/lib/python3.11/lib-dynload", "");
    let error = Kept::read(&laid.python()).unwrap_err().to_string();
    assert!(error.contains("lib-dynload"), "{error}");
    fs::remove_file(&dynload).unwrap();
    let library = laid.path("venv/lib64");
    symlink("lib64", &library).unwrap();
    let error = Kept::read(&laid.python()).unwrap_err().to_string();
    assert!(error.contains("lib64"), "{error}");
    fs::remove_file(&library).unwrap();
    for (path, said) in [
        ("venv/bin/gone", "cannot read `"),
        ("venv", "is a folder"),
        ("lonely/bin/python", "no one `lib/python3.N`"),
    ] {
        let error = Kept::read(&laid.path(path)).unwrap_err().to_string();
        assert!(error.contains(said), "{path}: {error}");
    }
}

#[test]
fn an_environment_is_read_again_only_when_it_changed() {
    let laid = Laid::new();
    laid.package("polars-1.dist-info", "Name: polars\nVersion: 1\n");
    let site = laid.path("venv/lib/python3.11/site-packages");
    // What changed a moment ago may change again without a sign.
    assert!(!Kept::read(&laid.python()).unwrap().is_fresh());
    let mut kept = Kept::read(&laid.python()).unwrap();
    kept.stamps = stamps(vec![laid.python(), laid.path("venv/pyvenv.cfg"), site]);
    assert!(kept.is_fresh());
    laid.package("rich-1.dist-info", "Name: rich\nVersion: 1\n");
    assert!(!kept.is_fresh());
}
