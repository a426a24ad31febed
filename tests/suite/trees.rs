//! What a tree holds and loses: ignored environments, new folders, a tree that is mostly gone. Without
//! code servers.

#![expect(
    clippy::disallowed_methods,
    reason = "what a test writes needs no durability"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use codevol_tests::{Agent, Fleet, Process, Source, wait_for, wait_until};

/// A timer that does not come while a test runs: what is found then was found by events.
const NEVER: &str = "1h";

#[test]
fn a_big_environment_that_is_ignored_costs_no_watch_and_is_no_release() {
    let mut fleet = Fleet::start_with(1, |source| {
        for package in 0..200 {
            for n in 0..100 {
                let module = format!(".venv/lib/p{package}/m{n}.py");
                plant(source.tree(), &module, "");
            }
        }
    });
    let status = fleet.source.status();
    assert_eq!(status.volume()["release"]["files"], 4, "{status}");
    // What appears in it later is as little anybody's business.
    for n in 0..100 {
        plant(fleet.source.tree(), &format!(".venv/lib/late{n}/m.py"), "");
    }
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.volume()["release"]["files"], 4, "{status}");
    assert!(!fleet.agent().root().join("current/.venv").exists());
    let watches = inotify_watches(fleet.source.process());
    assert!((1..10).contains(&watches), "{watches} watches");
}

#[test]
fn a_new_directory_with_files_made_in_it_at_once_arrives_whole() {
    let fleet = Fleet::start_with(1, |source| {
        source.set("VOLUME__0__WATCH__RESCAN", NEVER);
    });
    for round in 0..10 {
        for n in 0..20 {
            let path = format!("new{round}/d{}/e/f{n}.py", n % 4);
            fleet.source.save(&path, format!("F = {n}\n"));
        }
        wait_for("the new directory is live", || {
            same(&fleet.source, &fleet.agents[0])
        });
    }
}

#[test]
fn a_tree_that_is_mostly_removed_by_hand_publishes_nothing_and_heals_when_it_is_back() {
    let mut fleet = Fleet::start_with(1, |source| save_tables(source));
    fs::remove_dir_all(fleet.source.tree().join("tables")).unwrap();
    let source = fleet.source.process();
    wait_until("the source says that it does not publish that", || {
        source.log().contains("30 of 34 files are gone")
    });
    let refused = fleet.source.run(&["push", "--json"]).exits(4);
    assert_eq!(refused.json()["kind"], "blast-guard", "{refused}");
    assert_eq!(fleet.source.status().head(), 1);
    assert_eq!(fleet.agents[0].read("tables/t7.py").unwrap(), "TABLE = 7\n");
    save_tables(&fleet.source);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    same(&fleet.source, &fleet.agents[0]).unwrap();
}

fn save_tables(source: &Source) {
    for n in 0..30 {
        source.save(&format!("tables/t{n}.py"), format!("TABLE = {n}\n"));
    }
}

/// Writes a file, as any user.
fn plant(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Whether `current` is the tree, file for file; else, in what not.
fn same(source: &Source, agent: &Agent) -> Result<(), String> {
    let current = fs::canonicalize(agent.root().join("current"));
    let current = current.map_err(|error| error.to_string())?;
    let (wanted, stands) = (files_below(source.tree()), files_below(&current));
    let differs = |path: &&PathBuf| wanted.get(*path) != stands.get(*path);
    let paths = wanted.keys().chain(stands.keys());
    match paths.filter(differs).min() {
        None => Ok(()),
        Some(path) => Err(format!("{} differs", path.display())),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    File { bytes: Vec<u8>, executable: bool },
    Link(PathBuf),
}

/// Returns all files and links of a tree, but what is nobody's code.
fn files_below(root: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().unwrap();
            if name == ".git" || name == ".codevol-release.json" {
                continue;
            } else if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let what = if kind.is_symlink() {
                Found::Link(fs::read_link(&path).unwrap())
            } else {
                Found::File {
                    bytes: fs::read(&path).unwrap(),
                    executable: entry.metadata().unwrap().permissions().mode() & 0o111 != 0,
                }
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    found
}

/// Returns how many files and directories a process watches.
fn inotify_watches(process: &Process) -> usize {
    let fds = fs::read_dir(format!("/proc/{}/fdinfo", process.id())).unwrap();
    let told = fds.filter_map(|fd| fs::read_to_string(fd.unwrap().path()).ok());
    told.map(|told| told.matches("inotify wd:").count()).sum()
}
