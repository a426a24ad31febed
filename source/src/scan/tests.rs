//! Scans of real directories.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Entry;
use codevol_protocol::path::{InvalidLinkTarget, InvalidRelPath};
use proptest::prelude::*;
use tempfile::TempDir;

use super::tree::Node;
use super::*;
use crate::rules::RulesError;

const HOUR_NS: i64 = 3_600_000_000_000;

/// A tree, and a scanner of it whose clock is an hour ahead: no time of a file is racy.
struct Fixture {
    dir: TempDir,
    scanner: Scanner,
}

impl Fixture {
    fn new(files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scanner = Scanner::open(dir.path(), &[], None).unwrap();
        let fixture = Self { dir, scanner };
        for file in files {
            fixture.write(file, file);
        }
        fixture
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn full(&mut self) -> Scan {
        self.scanner.full_at(now_ns() + HOUR_NS).unwrap()
    }

    fn partial(&mut self, dirty: &[&str]) -> Scan {
        let dirty = dirty.iter().map(|path| rel(path)).collect();
        self.scanner.partial_at(&dirty, now_ns() + HOUR_NS).unwrap()
    }
}

fn rel(path: &str) -> RelPath {
    path.parse().unwrap()
}

fn paths(scan: &Scan) -> Vec<&str> {
    let entries = scan.manifest.entries().iter();
    entries.map(|(path, _)| path.as_str()).collect()
}

fn skipped(scan: &Scan) -> BTreeMap<&str, SkipReason> {
    let skipped = scan.skipped.iter();
    skipped.map(|one| (one.path.as_str(), one.why)).collect()
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn a_tree_becomes_its_manifest() {
    let mut tree = Fixture::new(&["a/b.py", "a.py", "run"]);
    fs::create_dir_all(tree.at("empty/deep")).unwrap();
    fs::set_permissions(tree.at("run"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(tree.at("a.py"), fs::Permissions::from_mode(0o666)).unwrap();
    symlink("a/b.py", tree.at("link")).unwrap();
    let scan = tree.full();
    assert_eq!(
        paths(&scan),
        ["a/b.py", "a.py", "empty/deep", "link", "run"]
    );
    let entry = |path| scan.manifest.entry(&rel(path)).unwrap().clone();
    let file = |text: &str, executable| Entry::File {
        blob: BlobId::of(text.as_bytes()),
        size: text.len() as u64,
        executable,
    };
    assert_eq!(entry("a.py"), file("a.py", false));
    assert_eq!(entry("run"), file("run", true));
    assert_eq!(entry("empty/deep"), Entry::Dir);
    let target = "a/b.py".parse().unwrap();
    assert_eq!(entry("link"), Entry::Symlink { target });
    assert_eq!(scan.directories, ["a", "empty", "empty/deep"].map(rel));
}

#[test]
fn only_files_whose_stat_changed_are_read() {
    let mut tree = Fixture::new(&["a", "b", "c/d"]);
    assert_eq!(tree.full().read, 3);
    assert_eq!(tree.full().read, 0);
    tree.write("b", "other");
    assert_eq!(tree.full().read, 1);
    fs::set_permissions(tree.at("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(tree.partial(&["a", "c"]).read, 1);
}

#[test]
fn an_edit_within_the_same_tick_as_the_scan_is_found() {
    let mut tree = Fixture::new(&["a"]);
    // The clock as it is: the file's times may stand for another state a moment later.
    let first = tree.scanner.full().unwrap();
    let stat = dir::status_at(&tree.scanner.root, b"a").unwrap();
    tree.write("a", "B");
    // As if the edit had left all times as they were.
    let after = dir::status_at(&tree.scanner.root, b"a").unwrap().stat;
    let memory = tree.scanner.tree.as_mut().unwrap();
    let Some(Node::File(known)) = memory.names.get_mut(&b"a"[..]) else {
        panic!("`a` is a file");
    };
    assert_eq!(known.stat, stat.stat);
    assert!(known.racy);
    known.stat = after;
    let second = tree.full();
    assert_ne!(first.manifest, second.manifest);
    assert_eq!(tree.full().read, 0);
}

#[test]
fn a_file_that_was_just_made_or_emptied_may_be_about_to_be_written() {
    let mut tree = Fixture::new(&["a", "b", "c"]);
    let now = now_ns();
    tree.write("b", "");
    tree.write("d", "");
    let full = tree.scanner.full_at(now).unwrap();
    assert_eq!(full.unwritten, ["b", "d"].map(rel));
    // Only what is looked at again.
    let partial = tree.scanner.partial_at(&[rel("d")].into(), now).unwrap();
    assert_eq!(partial.unwritten, ["d"].map(rel));
    // An hour later nobody is any more.
    assert!(tree.full().unwritten.is_empty());
}

#[test]
fn names_that_a_path_cannot_carry_are_skipped_and_listed_escaped() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut tree = Fixture::new(&["a"]);
    let names: [&[u8]; 5] = [
        b"new\nline",
        b"esc\x1b[2J",
        b"bad\xff",
        b".codevolx",
        b"it's",
    ];
    for name in names {
        File::create(tree.dir.path().join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    tree.write(".codevolignore", "");
    let scan = tree.full();
    assert_eq!(paths(&scan), ["a", "it's"]);
    let name = SkipReason::Name;
    let expected = [
        (".codevolx", name(InvalidRelPath::Reserved)),
        ("bad\\xff", name(InvalidRelPath::NotUtf8)),
        ("esc\\u{1b}[2J", name(InvalidRelPath::ControlCharacter)),
        ("new\\nline", name(InvalidRelPath::ControlCharacter)),
    ];
    assert_eq!(skipped(&scan), BTreeMap::from(expected));
}

#[test]
fn a_path_deeper_or_longer_than_allowed_is_skipped() {
    let mut tree = Fixture::new(&["a"]);
    let deep = vec!["d"; 130].join("/");
    let long = vec!["x".repeat(250); 17].join("/");
    // One component at a time: the path is longer than a system call takes.
    for path in [deep, long] {
        let mut at = dir::open_dir(&tree.scanner.root, b".").unwrap();
        for component in path.split('/') {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mkdirat(&at, component, mode).unwrap();
            at = dir::open_dir(&at, component.as_bytes()).unwrap();
        }
    }
    let scan = tree.full();
    let why: Vec<SkipReason> = scan.skipped.iter().map(|one| one.why).collect();
    let expected = [InvalidRelPath::TooDeep, InvalidRelPath::TooLong];
    assert_eq!(why, expected.map(SkipReason::Name));
}

#[test]
fn links_out_of_the_tree_are_skipped_and_others_are_carried() {
    let mut tree = Fixture::new(&["d/e/f"]);
    for (link, target) in [
        ("absolute", "/etc/passwd"),
        ("above", "../../x"),
        ("d/lexical", "e/../../../x"),
        // `d/up` stays inside by itself, and so does `through`; together they leave.
        ("d/up", "../d/e"),
        ("through", "d/up/../../.."),
        ("d/top", ".."),
        ("chain", "d/top/../x"),
        ("loop", "loop"),
        ("dangling", "nowhere"),
        ("control", "a\u{1b}b"),
        ("inside", "d/e/../e/f"),
        ("d/upward", "../d/e/f"),
    ] {
        symlink(target, tree.at(link)).unwrap();
    }
    let scan = tree.full();
    let carried = [
        "d/e/f", "d/top", "d/up", "d/upward", "dangling", "inside", "loop",
    ];
    assert_eq!(paths(&scan), carried);
    let expected = [
        ("above", SkipReason::LinkLeaves),
        ("absolute", SkipReason::Target(InvalidLinkTarget::Absolute)),
        ("chain", SkipReason::LinkLeaves),
        (
            "control",
            SkipReason::Target(InvalidLinkTarget::ControlCharacter),
        ),
        ("d/lexical", SkipReason::LinkLeaves),
        ("through", SkipReason::LinkLeaves),
    ];
    assert_eq!(skipped(&scan), BTreeMap::from(expected));
}

#[test]
fn fifos_and_sockets_are_skipped_and_never_opened_to_block() {
    let mut tree = Fixture::new(&["a"]);
    mkfifo(&tree.at("fifo"));
    let _socket = UnixListener::bind(tree.at("socket")).unwrap();
    mkfifo(&tree.at("sub.py"));
    let scan = tree.full();
    assert_eq!(paths(&scan), ["a"]);
    let expected = [
        ("fifo", SkipReason::Special(Special::Fifo)),
        ("socket", SkipReason::Special(Special::Socket)),
        ("sub.py", SkipReason::Special(Special::Fifo)),
    ];
    assert_eq!(skipped(&scan), BTreeMap::from(expected));
    for path in ["fifo", "socket"] {
        let error = tree.scanner.open_file(&rel(path)).unwrap_err();
        assert!(matches!(error, ScanError::NotAFile(_)), "{error}");
    }
}

#[test]
fn devices_are_skipped_and_never_opened() {
    // Only root makes one; here are some that are there.
    let mut scanner = Scanner::open(Path::new("/dev"), &[], None).unwrap();
    let scan = scanner.full().unwrap();
    assert!(!paths(&scan).contains(&"null"));
    let expected = SkipReason::Special(Special::Device);
    assert_eq!(skipped(&scan).get("null"), Some(&expected));
    let error = scanner.open_file(&rel("null")).unwrap_err();
    assert!(matches!(error, ScanError::NotAFile(_)), "{error}");
}

#[test]
fn a_file_swapped_after_the_scan_is_not_opened() {
    let mut tree = Fixture::new(&["a", "b", "d/c"]);
    let outside = Fixture::new(&["id", "c"]);
    tree.full();
    let swap = |path: &str| fs::remove_file(tree.at(path)).unwrap();
    swap("a");
    symlink(outside.at("id"), tree.at("a")).unwrap();
    swap("b");
    mkfifo(&tree.at("b"));
    fs::remove_dir_all(tree.at("d")).unwrap();
    symlink(outside.dir.path(), tree.at("d")).unwrap();
    for path in ["a", "b", "d/c"] {
        let error = tree.scanner.open_file(&rel(path)).unwrap_err();
        assert!(matches!(error, ScanError::NotAFile(_)), "{path}: {error}");
    }
    let now_ns = now_ns();
    let root = tree.scanner.root.as_fd();
    let read = read::read_all(root, &["a", "b", "d/c"].map(rel), now_ns).unwrap();
    assert_eq!(read, [const { Some(Node::Unstable) }; 3]);
    let scan = tree.full();
    assert!(paths(&scan).is_empty(), "{scan:?}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_unstable() {
    // Its size is always said to be 0, and its content is not empty.
    let proc = dir::open_root(Path::new("/proc/self")).unwrap();
    let read = read::read_all(proc.as_fd(), &[rel("status")], now_ns()).unwrap();
    assert_eq!(read, [Some(Node::Unstable)]);
}

#[test]
fn a_replaced_root_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("tree");
    let other = parent.path().join("other");
    fs::create_dir(&root).unwrap();
    fs::create_dir(&other).unwrap();
    let mut scanner = Scanner::open(&root, &[], None).unwrap();
    scanner.full().unwrap();
    let replaced = |scanner: &mut Scanner| {
        let full = matches!(scanner.full(), Err(ScanError::RootReplaced(_)));
        let dirty = BTreeSet::from([rel("a")]);
        full && matches!(scanner.partial(&dirty), Err(ScanError::RootReplaced(_)))
    };
    fs::rename(&root, parent.path().join("moved")).unwrap();
    assert!(replaced(&mut scanner));
    fs::create_dir(&root).unwrap();
    assert!(replaced(&mut scanner));
    fs::remove_dir(&root).unwrap();
    symlink(&other, &root).unwrap();
    assert!(replaced(&mut scanner));
    fs::remove_file(&root).unwrap();
    fs::rename(parent.path().join("moved"), &root).unwrap();
    scanner.full().unwrap();
}

#[test]
fn another_file_system_inside_the_tree_is_skipped_and_listed() {
    // `/dev/shm` or the like: a directory whose device is another than its parent's.
    let mut scanner = Scanner::open(Path::new("/dev"), &[], None).unwrap();
    let scan = scanner.full().unwrap();
    let expected = SkipReason::OtherFileSystem;
    assert_eq!(skipped(&scan).get("shm"), Some(&expected));
    assert!(!paths(&scan).iter().any(|path| path.starts_with("shm")));
    assert!(!scan.directories.contains(&rel("shm")));
    let error = dir::open_dir(&scanner.root, b"shm").unwrap_err();
    assert_eq!(error, Errno::XDEV);
}

#[test]
fn a_name_that_no_file_can_have_is_skipped_and_leads_nowhere() {
    let mut tree = Fixture::new(&["a/b"]);
    symlink("a", tree.at("link")).unwrap();
    let Scanner {
        root, rules, cache, ..
    } = &mut tree.scanner;
    let mut walk = Walk::new(0, rules, cache);
    let place = Place {
        dir: None,
        fd: root.as_fd(),
        ignored_by: None,
        same_rules: false,
    };
    for name in ["", "/", "a/b", "link/b", "a/../a/b", "/etc/passwd"] {
        for kind in [
            FileType::RegularFile,
            FileType::Directory,
            FileType::Unknown,
        ] {
            let node = walk.name(place, (name.as_bytes(), kind), None).unwrap();
            assert_eq!(node, Some(Node::Skipped(SkipReason::NoName)), "{name:?}");
        }
    }
    assert_eq!((walk.unread, walk.opened), (Vec::new(), 0));
}

#[test]
fn an_ignored_environment_is_not_walked() {
    let mut tree = Fixture::new(&["a.py", "pkg/b.py"]);
    for i in 0..200 {
        tree.write(&format!(".venv/lib/p{i}/m.py"), "");
    }
    for _ in 0..2 {
        let scan = tree.full();
        assert_eq!(scan.opened, 2);
        assert_eq!(scan.ignored_count, 1);
        assert_eq!(scan.directories, [rel("pkg")]);
    }
    tree.partial(&[".venv/lib/p3/m.py"]);
    assert_eq!(tree.scanner.ignored().len(), 1);
}

#[test]
fn a_kept_file_of_an_ignored_directory_is_carried_alone() {
    let files = [
        "dbt/dbt_project.yml",
        "dbt/target/manifest.json",
        "dbt/target/x.json",
    ];
    let mut tree = Fixture::new(&files);
    tree.write("dbt/target/deep/y", "");
    tree.write(".gitignore", "target/\n");
    let kept = [
        ".gitignore",
        "dbt/dbt_project.yml",
        "dbt/target/manifest.json",
    ];
    assert_eq!(paths(&tree.full()), kept);
    fs::remove_file(tree.at("dbt/target/manifest.json")).unwrap();
    assert_eq!(
        paths(&tree.partial(&["dbt/target/manifest.json"])),
        &kept[..2]
    );
}

#[test]
fn a_changed_ignore_file_is_noticed() {
    let mut tree = Fixture::new(&["a.log", "sub/b.log", "sub/c"]);
    assert_eq!(tree.full().manifest.files(), 3);
    tree.write("sub/.gitignore", "*.log\n");
    let scan = tree.partial(&["sub/.gitignore"]);
    assert_eq!(paths(&scan), ["a.log", "sub/.gitignore", "sub/c"]);
    tree.write(".codevolignore", "/a.log\n!sub/b.log\n");
    let scan = tree.full();
    assert_eq!(paths(&scan), ["sub/.gitignore", "sub/b.log", "sub/c"]);
    assert!(
        String::from_utf8(scan.rules_blob)
            .unwrap()
            .contains("/sub/**/*.log")
    );
    fs::remove_dir_all(tree.at("sub")).unwrap();
    let scan = tree.partial(&["sub"]);
    assert!(
        !String::from_utf8(scan.rules_blob)
            .unwrap()
            .contains("/sub/**/*.log")
    );
}

#[test]
fn an_ignore_file_that_is_no_regular_file_stops_the_scan() {
    let mut tree = Fixture::new(&["a"]);
    let good = tree.full().manifest;
    mkfifo(&tree.at(".gitignore"));
    let error = tree.scanner.full().unwrap_err();
    assert!(
        matches!(error, ScanError::Rules(RulesError::Unreadable { .. })),
        "{error}"
    );
    fs::remove_file(tree.at(".gitignore")).unwrap();
    let scan = tree.partial(&["b"]);
    assert!(scan.whole, "a scan after a failed one looks at everything");
    assert_eq!(scan.manifest, good);
}

#[test]
fn rules_that_a_failed_scan_took_in_hold_in_the_next() {
    let mut tree = Fixture::new(&["x.log", "z/y"]);
    tree.full();
    tree.write(".gitignore", "*.log\n");
    mkfifo(&tree.at("z/.gitignore"));
    drop(tree.scanner.full().unwrap_err());
    fs::remove_file(tree.at("z/.gitignore")).unwrap();
    assert_eq!(paths(&tree.full()), [".gitignore", "z/y"]);
}

#[test]
fn a_second_run_reads_only_what_changed_and_a_damaged_cache_is_no_harm() {
    let mut tree = Fixture::new(&["a", "b", "d/c"]);
    let state = tempfile::tempdir().unwrap();
    let cache = state.path().join("stat");
    let run = |scanner: &mut Scanner| scanner.full_at(now_ns() + HOUR_NS).unwrap();
    let open = || Scanner::open(tree.dir.path(), &[], Some(&cache)).unwrap();
    let first = run(&mut open());
    assert_eq!(first.read, 3);
    let second = run(&mut open());
    assert_eq!((second.read, &second.manifest), (0, &first.manifest));
    let mut bytes = fs::read(&cache).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        bytes[at] ^= 1;
        File::create(&cache).unwrap().write_all(&bytes).unwrap();
        let scan = run(&mut open());
        assert_eq!((scan.read, &scan.manifest), (3, &first.manifest));
        bytes = fs::read(&cache).unwrap();
    }
    File::create(&cache)
        .unwrap()
        .write_all(&bytes[..40])
        .unwrap();
    assert_eq!(run(&mut open()).read, 3);
    tree.write("b", "changed");
    assert_eq!(tree.full().read, 3);
}

#[derive(Debug, Clone)]
enum Edit {
    Write(String, u8),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Mode(String),
}

fn edits() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "x.log",
        "build",
        ".gitignore",
        "dbt_project.yml",
    ]);
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::sample::select(vec!["a", "../a", "../../a", "b/..", "/etc", "a/b/../.."]);
    let edit = prop_oneof![
        6 => (path.clone(), any::<u8>()).prop_map(|(path, seed)| Edit::Write(path, seed)),
        2 => path.clone().prop_map(Edit::Remove),
        2 => (path.clone(), path.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (path.clone(), target).prop_map(|(path, to)| Edit::Link(path, to.to_owned())),
        1 => path.prop_map(Edit::Mode),
    ];
    prop::collection::vec(prop::collection::vec(edit, 1..6), 1..6)
}

/// Makes an edit where it can be made, and returns the paths that a watcher would name.
fn apply(root: &Path, edit: &Edit) -> Vec<String> {
    let rules = [
        "*.log\n",
        "build/\n",
        "!build/a\nbuild/\n!/build/b\n",
        "a\n",
        "",
    ];
    // What is done through a link happens elsewhere, where a watcher would name it.
    let linked = |path: &str| {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.any(|dir| root.join(dir).is_symlink())
    };
    let ready =
        |path: &str| !linked(path) && fs::create_dir_all(root.join(path).parent().unwrap()).is_ok();
    // Every directory on the way may be new.
    let up = |path: &str| {
        let ends = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        ends.chain([path.to_owned()]).collect::<Vec<String>>()
    };
    match edit {
        Edit::Write(path, seed) => {
            let text = if path.ends_with(".gitignore") {
                rules[usize::from(*seed) % rules.len()].to_owned()
            } else {
                seed.to_string()
            };
            if ready(path)
                && !root.join(path).is_symlink()
                && let Ok(mut file) = File::create(root.join(path))
            {
                file.write_all(text.as_bytes()).unwrap();
            }
            up(path)
        }
        Edit::Remove(path) => {
            let path_on_disk = root.join(path);
            if linked(path) {
                return Vec::new();
            }
            drop(fs::remove_file(&path_on_disk).or_else(|_| fs::remove_dir_all(path_on_disk)));
            vec![path.clone()]
        }
        Edit::Rename(from, to) => {
            if !linked(from) && ready(to) {
                drop(fs::rename(root.join(from), root.join(to)));
            }
            [up(from), up(to)].concat()
        }
        Edit::Link(path, target) => {
            // Not in place of an ignore file: that is an error, and has a test of its own.
            if !path.ends_with(".gitignore") && ready(path) {
                drop(symlink(target, root.join(path)));
            }
            up(path)
        }
        Edit::Mode(path) => {
            if !linked(path) && !root.join(path).is_symlink() {
                drop(fs::set_permissions(
                    root.join(path),
                    fs::Permissions::from_mode(0o755),
                ));
            }
            vec![path.clone()]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_partial_scan_of_what_changed_equals_a_full_scan(rounds in edits()) {
        let dir = tempfile::tempdir().unwrap();
        let mut scanner = Scanner::open(dir.path(), &[], None).unwrap();
        drop(scanner.full());
        for round in rounds {
            let mut dirty = BTreeSet::new();
            for edit in &round {
                dirty.extend(apply(dir.path(), edit).iter().map(|path| rel(path)));
            }
            let partial = scanner.partial(&dirty);
            let mut fresh = Scanner::open(dir.path(), &[], None).unwrap();
            match (partial, fresh.full()) {
                (Ok(partial), Ok(full)) => {
                    prop_assert_eq!(&partial.manifest, &full.manifest);
                    prop_assert_eq!(partial.skipped, full.skipped);
                    prop_assert_eq!(partial.ignored_count, full.ignored_count);
                    prop_assert_eq!(partial.directories, full.directories);
                    prop_assert_eq!(partial.rules_blob, full.rules_blob);
                    prop_assert_eq!(&scanner.full().unwrap().manifest, &full.manifest);
                }
                // An ignore file became a directory, say.
                (partial, full) => {
                    prop_assert!(partial.is_err() && full.is_err(), "{partial:?} {full:?}");
                }
            }
        }
    }
}
