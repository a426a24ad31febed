//! A file of many segments.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use codevol_tests::{Fleet, Process};

/// How long the file is: a gibibyte where nothing may be left out, which takes a minute; elsewhere so
/// much that the whole of it in memory would be noticed.
fn file_bytes() -> u64 {
    let is_ci = env::var_os("CI").is_some_and(|ci| ci == "true");
    let segments = if is_ci { 32 } else { 12 };
    segments * (32 << 20)
}

/// Below the file: a few segments, their old bytes and the compressor's tables.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// The most memory that a process ever had.
fn memory_bytes(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

fn hash(file: &File) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).unwrap();
    hasher.finalize()
}

#[test]
fn a_file_of_many_segments_arrives_and_so_does_a_change_in_it() {
    let mut fleet = Fleet::start(1);
    let folder = fleet.source.tree().parent().unwrap().join("aside");
    fs::create_dir(&folder).unwrap();
    // Nothing but holes, and some bytes at both sides of each place where one segment ends.
    let mut whole = None;
    for (seq, seed) in [(2, 1), (3, 2)] {
        let aside = folder.join("table.bin");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&aside)
            .unwrap();
        file.set_len(file_bytes()).unwrap();
        for at in (0..file_bytes()).step_by(32 << 20) {
            let text = format!("{seed} at {at}");
            file.write_all_at(text.as_bytes(), at.saturating_sub(5))
                .unwrap();
        }
        fs::rename(&aside, fleet.source.tree().join("table.bin")).unwrap();
        fleet.source.wait_live_everywhere(seq);
        let current = fleet.agents[0].root().join("current/table.bin");
        let sent = File::open(fleet.source.tree().join("table.bin")).unwrap();
        let landed = File::open(current).unwrap();
        let hash = hash(&landed);
        assert_eq!(hash, self::hash(&sent));
        assert_ne!(whole.replace(hash), Some(hash));
    }
    let source = memory_bytes(fleet.source.process());
    let agent = memory_bytes(fleet.agent().process());
    assert!(source < MEMORY_BYTES_MAX, "the source had {source} bytes");
    assert!(agent < MEMORY_BYTES_MAX, "the agent had {agent} bytes");
}
