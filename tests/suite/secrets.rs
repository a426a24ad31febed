//! Where keys and tokens are, and where they are not.

use std::fs;
use std::path::{Path, PathBuf};

use codevol_tests::{Agent, Fleet, Process};

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// What everybody on the host sees of a process, and what a dump of it shows.
fn dump(process: &Process) -> Vec<u8> {
    let of = |what: &str| fs::read(format!("/proc/{}/{what}", process.id())).unwrap();
    [of("cmdline"), of("environ")].concat()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn a_secret_is_in_its_key_file_and_nowhere_else() {
    let mut fleet = Fleet::start(1);
    // One token that was used, one that was not.
    let mut secrets = vec![fleet.source.invite("dag-03").into_bytes()];
    let used = fleet.source.invite("dag-02");
    let mut second = Agent::new(fleet.source.place(), "dag-02");
    second.enrol(&used, None).succeeds();
    secrets.push(used.into_bytes());
    second.start();
    fleet.source.save("pipes/new.py", "x = 1\n");
    fleet.source.wait_live_everywhere(2);
    let mut files = Vec::new();
    files_below(fleet.source.place().path(), &mut files);
    let (keys, others): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.extension().is_some_and(|kind| kind == "key"));
    let names: Vec<_> = keys
        .iter()
        .filter_map(|key| key.file_name()?.to_str())
        .collect();
    for name in ["node.key", "operator.key", "publisher.key"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for key in &keys {
        secrets.push(fs::read(key).unwrap().trim_ascii().to_vec());
    }
    let mut shown: Vec<(String, Vec<u8>)> = others
        .iter()
        .map(|file| (file.display().to_string(), fs::read(file).unwrap()))
        .collect();
    assert!(shown.iter().any(|(file, _)| file.ends_with("source.log")));
    assert!(
        shown
            .iter()
            .any(|(file, _)| file.ends_with("journal.jsonl"))
    );
    shown.push((
        "the source's process".to_owned(),
        dump(fleet.source.process()),
    ));
    shown.push((
        "an agent's process".to_owned(),
        dump(fleet.agent().process()),
    ));
    for args in [&["status", "--json"][..], &["log", "--json"]] {
        let ended = fleet.source.run(args).exits(0);
        shown.push((format!("{args:?}"), ended.to_string().into_bytes()));
    }
    for (place, bytes) in &shown {
        for secret in &secrets {
            assert!(secret.len() > 20);
            assert!(!holds(bytes, secret), "{place} holds a secret");
        }
    }
}
