use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn opened() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

/// The same directory, resolved by each of the two ways.
fn both_ways(temp: &tempfile::TempDir) -> [Dir; 2] {
    [Resolve::Kernel, Resolve::Walk].map(|resolve| Dir {
        resolve,
        ..Dir::open(temp.path()).unwrap()
    })
}

fn put(dir: &Dir, path: &str, bytes: &[u8]) {
    let mut file = dir.create_file(path, 0o644).unwrap();
    file.write_all(bytes).unwrap();
}

fn fifo(temp: &tempfile::TempDir, name: &str) {
    let path = temp.path().join(name);
    fs::mknodat(fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn this_kernel_resolves_paths_itself() {
    // Otherwise the tests of the two ways below test one way twice.
    assert_eq!(opened().1.resolve, Resolve::Kernel);
}

#[test]
fn a_path_that_is_not_plainly_down_is_refused() {
    let (temp, _) = opened();
    for dir in both_ways(&temp) {
        for path in [
            "", ".", "..", "a/..", "../a", "/a", "a//b", "a/", "./a", "a\0b",
        ] {
            let refused = [
                dir.open_dir(path).err(),
                dir.ensure_dir(path, 0o755).err(),
                dir.open_file(path).err(),
                dir.create_file(path, 0o644).err(),
                dir.append_file(path, 0o644).err(),
                dir.stat(path).err(),
                dir.read_link(path).err(),
                dir.symlink("a", path).err(),
                dir.rename(path, &dir, "b").err(),
                dir.rename("a", &dir, path).err(),
                dir.link(path, &dir, "b").err(),
                dir.remove_file(path).err(),
                dir.remove_tree(path).err(),
            ];
            for error in refused {
                assert!(
                    matches!(error, Some(DirError::NotBeneath { .. })),
                    "{path:?}: {error:?}"
                );
            }
        }
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_link_on_the_way_or_at_the_end_is_never_followed() {
    let (temp, _) = opened();
    let canary = tempfile::tempdir().unwrap();
    std::fs::create_dir(canary.path().join("sub")).unwrap();
    File::create(canary.path().join("secret")).unwrap();
    symlink(canary.path(), temp.path().join("out")).unwrap();
    std::fs::create_dir(temp.path().join("in")).unwrap();
    symlink("in", temp.path().join("inside")).unwrap();
    symlink(canary.path().join("secret"), temp.path().join("secret")).unwrap();
    for dir in both_ways(&temp) {
        for path in ["out", "inside", "out/sub", "inside/x"] {
            let error = dir.open_dir(path).unwrap_err();
            assert!(
                matches!(error, DirError::NotBeneath { .. }),
                "{path}: {error:?}"
            );
            let error = dir.ensure_dir(path, 0o755).unwrap_err();
            assert!(
                matches!(error, DirError::NotBeneath { .. }),
                "{path}: {error:?}"
            );
        }
        for path in ["secret", "out/secret"] {
            let error = dir.open_file(path).unwrap_err();
            assert!(
                matches!(error, DirError::NotBeneath { .. }),
                "{path}: {error:?}"
            );
            dir.append_file(path, 0o644).unwrap_err();
            dir.create_file(path, 0o644).unwrap_err();
        }
        for path in ["out/new", "inside/new"] {
            dir.create_file(path, 0o644).unwrap_err();
            dir.symlink("x", path).unwrap_err();
            dir.rename("in", &dir, path).unwrap_err();
            dir.remove_tree("out/sub").unwrap_err();
            dir.remove_file("out/secret").unwrap_err();
        }
        assert_eq!(dir.stat("secret").unwrap().unwrap().kind, Kind::Symlink);
    }
    assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 2);
    assert_eq!(
        std::fs::read_dir(temp.path().join("in")).unwrap().count(),
        0
    );
}

#[test]
fn a_mount_is_not_crossed() {
    // Each Linux host has these, and nothing has to be mounted for the test.
    for resolve in [Resolve::Kernel, Resolve::Walk] {
        let root = Dir {
            resolve,
            ..Dir::open(Path::new("/")).unwrap()
        };
        let error = root.open_dir("proc").unwrap_err();
        assert!(matches!(error, DirError::NotBeneath { .. }), "{error:?}");
        let error = root.open_dir("proc/self").unwrap_err();
        assert!(matches!(error, DirError::NotBeneath { .. }), "{error:?}");
        let error = root.open_file("proc/version").unwrap_err();
        assert!(matches!(error, DirError::NotBeneath { .. }), "{error:?}");
    }
}

#[test]
fn a_fifo_or_a_socket_is_refused_and_holds_nobody() {
    let (temp, _) = opened();
    fifo(&temp, "fifo");
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
    for dir in both_ways(&temp) {
        for path in ["fifo", "socket"] {
            for error in [
                dir.open_file(path).err(),
                dir.append_file(path, 0o644).err(),
                dir.read(path, 1).err(),
                dir.open_dir(path).err(),
            ] {
                assert!(
                    matches!(error, Some(DirError::WrongKind { .. })),
                    "{path}: {error:?}"
                );
            }
            assert_eq!(dir.stat(path).unwrap().unwrap().kind, Kind::Other);
        }
        dir.ensure_dir("dir", 0o755).unwrap();
        let error = dir.open_file("dir").unwrap_err();
        assert!(matches!(error, DirError::WrongKind { .. }), "{error:?}");
    }
}

#[test]
fn a_link_swapped_in_at_any_moment_leads_nothing_outside() {
    for way in 0..2 {
        let (temp, _) = opened();
        let canary = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir(root.join("dir")).unwrap();
        symlink(canary.path(), root.join("link")).unwrap();
        let stop = AtomicBool::new(false);
        let (mut landed, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The name is a directory, then a link out of the tree, and so on.
                while !stop.load(Ordering::Relaxed) {
                    fs::renameat_with(
                        fs::CWD,
                        root.join("dir"),
                        fs::CWD,
                        root.join("link"),
                        RenameFlags::EXCHANGE,
                    )
                    .unwrap();
                }
            });
            let dir = &both_ways(&temp)[way];
            for n in 0..20_000 {
                let (a, b) = (format!("dir/{n}"), format!("dir/sub-{n}"));
                let done = [
                    dir.create_file(&a, 0o644).is_ok(),
                    dir.ensure_dir(&b, 0o755).is_ok(),
                    dir.remove_tree(&b).is_ok(),
                    dir.remove_file(&a).is_ok(),
                ];
                landed += done.iter().filter(|done| **done).count();
                refused += done.iter().filter(|done| !**done).count();
                if n > 1_000 && landed > 100 && refused > 100 {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(
            landed > 0 && refused > 0,
            "no race: {landed} landed, {refused} refused"
        );
        assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_tree_that_is_removed_takes_nothing_along_from_behind_a_link() {
    let (temp, _) = opened();
    let canary = tempfile::tempdir().unwrap();
    std::fs::create_dir(canary.path().join("kept")).unwrap();
    for dir in both_ways(&temp) {
        let deep = dir.ensure_dir("top/a/b/c", 0o755).unwrap();
        put(&deep, "file", b"x");
        deep.symlink(canary.path().to_str().unwrap(), "out")
            .unwrap();
        dir.ensure_dir("top/a/.removed-1", 0o755).unwrap();
        put(&dir, "top/.removed-2", b"in the way");
        dir.ensure_dir("top/.removed-3/full", 0o755).unwrap();
        dir.remove_tree("top").unwrap();
        assert_eq!(dir.stat("top").unwrap(), None);
        dir.remove_tree("top").unwrap();
        dir.symlink(canary.path().to_str().unwrap(), "link")
            .unwrap();
        dir.remove_tree("link").unwrap();
        assert!(dir.entries().unwrap().is_empty());
    }
    assert!(canary.path().join("kept").exists());
}

#[test]
fn a_tree_deeper_than_any_bound_is_removed() {
    let (temp, dir) = opened();
    let mut at = dir.ensure_dir("top", 0o755).unwrap();
    for _ in 0..5_000 {
        at = at.ensure_dir("d", 0o755).unwrap();
    }
    put(&at, "file", b"x");
    dir.remove_tree("top").unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_tree_of_read_only_directories_is_removed_by_its_owner() {
    let (_temp, dir) = opened();
    let inner = dir.ensure_dir("top/a/b", 0o755).unwrap();
    put(&inner, "file", b"x");
    for path in ["top/a/b", "top/a", "top"] {
        let opened = dir.open_dir(path).unwrap();
        fs::fchmod(&opened.fd, Mode::from_raw_mode(0o555)).unwrap();
    }
    dir.remove_tree("top").unwrap();
    assert_eq!(dir.stat("top").unwrap(), None);
}

#[test]
fn modes_are_exact_under_any_umask() {
    // The umask belongs to the process: a child of its own runs this very test with another one.
    const MARK: &str = "CODEVOL_TEST_UMASK_DIR";
    if let Some(path) = std::env::var_os(MARK) {
        let dir = Dir::open(Path::new(&path)).unwrap();
        dir.ensure_dir("a/b", 0o755).unwrap();
        dir.create_file("a/plain", 0o644).unwrap();
        dir.create_file("a/run", 0o755).unwrap();
        dir.append_file("a/log", 0o600).unwrap();
        crate::persist::write(&dir, "written", 0o644, b"x").unwrap();
        return;
    }
    for umask in ["0000", "0077", "0177"] {
        let temp = tempfile::tempdir().unwrap();
        let status = Command::new("sh")
            .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "dir::tests::modes_are_exact_under_any_umask"])
            .env(MARK, temp.path())
            .output()
            .unwrap();
        assert!(status.status.success(), "{umask}: {status:?}");
        for (path, mode) in [
            ("a", 0o755),
            ("a/b", 0o755),
            ("a/plain", 0o644),
            ("a/run", 0o755),
            ("a/log", 0o600),
            ("written", 0o644),
        ] {
            let found = std::fs::metadata(temp.path().join(path)).unwrap();
            assert_eq!(
                found.permissions().mode() & 0o7777,
                mode,
                "{path} under {umask}"
            );
        }
    }
}

#[test]
fn a_stat_says_what_the_file_system_says() {
    let (temp, dir) = opened();
    put(&dir, "file", b"four");
    dir.link("file", &dir, "second").unwrap();
    let stat = dir.stat("file").unwrap().unwrap();
    let std = std::fs::metadata(temp.path().join("file")).unwrap();
    assert_eq!((stat.kind, stat.size, stat.mode), (Kind::File, 4, 0o644));
    assert_eq!((stat.ino, stat.dev, stat.nlink), (std.ino(), std.dev(), 2));
    assert_eq!(stat.uid, std.uid());
    let mtime = i128::from(std.mtime()) * 1_000_000_000 + i128::from(std.mtime_nsec());
    assert_eq!(stat.mtime_ns, mtime);
    assert_eq!(dir.stat("none").unwrap(), None);
    assert_eq!(dir.stat_self().unwrap().kind, Kind::Dir);
    assert!(dir.free_bytes().unwrap() > 0);
}

#[test]
fn entries_are_sorted_and_keep_names_that_are_no_text() {
    let (temp, dir) = opened();
    let odd = OsString::from_vec(vec![b'a', 0xff]);
    File::create(temp.path().join(&odd)).unwrap();
    dir.symlink("nowhere", "b").unwrap();
    dir.ensure_dir("A", 0o755).unwrap();
    fifo(&temp, "c");
    let expected = [
        (OsString::from("A"), Kind::Dir),
        (odd, Kind::File),
        (OsString::from("b"), Kind::Symlink),
        (OsString::from("c"), Kind::Other),
    ];
    assert_eq!(dir.entries().unwrap(), expected);
    assert_eq!(dir.read_link("b").unwrap(), "nowhere");
    dir.ensure_dir("tree", 0o755).unwrap();
    dir.rename("A", &dir, "tree/A").unwrap();
    std::fs::rename(
        temp.path().join(&expected[1].0),
        temp.path().join("tree/A").join(&expected[1].0),
    )
    .unwrap();
    dir.remove_tree("tree").unwrap();
    assert_eq!(dir.entries().unwrap().len(), 2);
}

#[test]
fn a_read_stops_at_its_bound() {
    let (_temp, dir) = opened();
    put(&dir, "file", b"four");
    assert_eq!(dir.read("file", 4).unwrap(), b"four");
    let error = dir.read("file", 3).unwrap_err();
    assert_eq!(error.to_string(), "`file` is larger than 3 bytes");
    assert!(dir.read("none", 3).unwrap_err().is_not_found());
}

#[test]
fn nothing_is_replaced_unless_that_was_asked_for() {
    let (_temp, dir) = opened();
    put(&dir, "a", b"a");
    put(&dir, "b", b"b");
    assert!(
        dir.rename_noreplace("a", &dir, "b")
            .unwrap_err()
            .is_already_exists()
    );
    assert!(dir.link("a", &dir, "b").unwrap_err().is_already_exists());
    assert!(dir.symlink("a", "b").unwrap_err().is_already_exists());
    assert!(dir.create_file("b", 0o644).unwrap_err().is_already_exists());
    assert_eq!(dir.read("b", 1).unwrap(), b"b");
    dir.rename("a", &dir, "b").unwrap();
    assert_eq!(dir.read("b", 1).unwrap(), b"a");
    dir.rename_noreplace("b", &dir, "c").unwrap();
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that could not be run says so")]
fn another_file_system_refuses_a_hard_link_in_a_way_that_a_copy_answers() {
    let (_temp, dir) = opened();
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let other = Dir::open(shm.path()).unwrap();
    if other.stat_self().unwrap().dev == dir.stat_self().unwrap().dev {
        eprintln!("NOT RUN: the temporary directory is on the same file system as /dev/shm");
        return;
    }
    put(&dir, "a", b"a");
    assert!(dir.link("a", &other, "a").unwrap_err().is_link_refused());
}
