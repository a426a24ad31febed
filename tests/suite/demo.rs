//! The first thing that anyone runs: it shows what it promises, and leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use codevol_tests::{Agent, Dagster, Ended, Place, Running, Slot, save, say, wait_for};
use rustix::process::{Signal, getegid, geteuid};

use crate::screens::filtered;

/// Returns the program, to be run as the daemons are: as a plain user.
fn program(place: &Arc<Place>) -> Command {
    Agent::new(place, "demo").command()
}

/// Returns the program, to be run as this very user, as code servers are: the tests' Python may lie
/// where a plain one cannot go.
fn program_beside_python(place: &Arc<Place>) -> Command {
    let mut command = program(place);
    command.uid(geteuid().as_raw()).gid(getegid().as_raw());
    command
}

/// Runs one round of it in a temporary folder of its own, and checks that nothing is left.
fn one_round(
    place: &Arc<Place>,
    mut command: Command,
    args: &[&str],
    env: &[(&str, &Path)],
) -> Ended {
    let temp = place.folder("temp");
    command.args(["demo", "--once", "--break"]).args(args);
    command.env("TMPDIR", &temp).envs(env.iter().copied());
    let began = Instant::now();
    let ended = Ended::run(command).exits(0);
    say(&format!("one round took {:.1?}", began.elapsed()));
    assert_nothing_is_left(&temp);
    ended
}

#[track_caller]
fn assert_nothing_is_left(temp: &Path) {
    let left: Vec<_> = fs::read_dir(temp).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    wait_for("no process of it is left", || {
        let left = processes_of(temp);
        left.is_empty().then_some(()).ok_or_else(|| left.join("\n"))
    });
}

/// The processes that were started with something of a folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap();
    let commands = processes.filter_map(|process| {
        // It may have ended by now.
        let command = fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command).replace('\0', " "))
    });
    commands
        .filter(|command| command.contains(folder))
        .collect()
}

fn last_line(ended: &Ended) -> &str {
    ended.stdout.lines().last().unwrap()
}

/// Each file of a folder, with all that a write would change.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        }
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        files.insert(path.clone(), (changed, fs::read(&path).unwrap_or_default()));
    }
    files
}

#[test]
fn without_dagster_a_copy_of_the_folder_is_edited_lost_and_rolled_back() {
    let place = Arc::new(Place::new());
    let project = place.folder("project");
    for n in 0..12 {
        let text = format!("X = {n}\n");
        save(&project.join(format!("pipes/m{n}.py")), text.as_bytes());
    }
    let before = files_of(&project);
    let nowhere = place.folder("nowhere");
    let ended = one_round(
        &place,
        program(&place),
        &[project.to_str().unwrap()],
        &[("PATH", nowhere.as_path())],
    );
    let _filtered = filtered();
    let shown = ended
        .stdout
        .replace(place.path().to_str().unwrap(), "[PLACE]");
    insta::assert_snapshot!(shown, @"
    codevol demo: one source, three agents, real processes, QUIC on loopback
    no `dagster` on PATH (CODEVOL_DAGSTER=venv/bin/dagster names one): the agents run without code servers
    start    r1 live on 3 of 3 after [took]
    edit     pipes/m0.py saved: visible on 3 of 3 after [took]
    live     r2 live on 3 of 3 after [took]
    break    the tree is gone: push exits 4 (error: the tree is empty: nothing was published)
    guard    r2 live on 3 of 3: nothing was published
    edit     r3 live on 3 of 3
    rollback r4 has the tree of r2; no file travelled; the volume is frozen until `thaw`
    back on r4 on 3 of 3
    ");
    assert_eq!(files_of(&project), before);
}

#[test]
fn it_follows_edits_of_its_copy_until_ctrl_c_and_then_takes_all_of_it_along() {
    let place = Arc::new(Place::new());
    let temp = place.folder("temp");
    let mut command = program(&place);
    let nowhere = place.folder("nowhere");
    command
        .arg("demo")
        .env("TMPDIR", &temp)
        .env("PATH", nowhere);
    let mut demo = Running::start(command);
    let tree = demo.next_line(|line| line.contains("/tree"));
    let tree = tree.split_whitespace().find(|word| word.ends_with("/tree"));
    let tree = PathBuf::from(tree.unwrap());
    assert!(tree.starts_with(&temp), "{tree:?}");
    save(&tree.join("by_hand.py"), b"X = 1\n");
    drop(demo.next_line(|line| line.contains("r3 live on 3 of 3")));
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().code(), Some(0));
    assert_nothing_is_left(&temp);
}

#[test]
fn with_dagster_a_broken_edit_is_taken_back_on_all_three() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let _slot = Slot::take();
    let place = Arc::new(Place::new());
    let ended = one_round(
        &place,
        program_beside_python(&place),
        &[],
        &[("CODEVOL_DAGSTER", dagster.program())],
    );
    assert!(ended.stdout.contains("proven"), "{ended}");
    assert!(ended.stdout.contains("visible on 3 of 3"), "{ended}");
    let error = "No module named 'a_module_that_nobody_has'";
    assert!(ended.stdout.contains(error), "{ended}");
    assert_eq!(last_line(&ended), "back on r2 on 3 of 3", "{ended}");
}
