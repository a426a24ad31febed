use std::os::unix::fs::symlink;

use super::*;

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    File::create(path).unwrap().write_all(bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_created_key_loads_again_and_belongs_to_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let created = create(&path).unwrap();
    assert_eq!(load(&path).unwrap().public(), created.public());
    assert_eq!(mode_of(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("ed25519-secret:"));
    assert_eq!(text.lines().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let other = create(&dir.path().join("other.key")).unwrap();
    assert_ne!(other.public(), created.public());
}

#[test]
fn a_path_that_is_taken_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let first = create(&path).unwrap();
    match create(&path) {
        Err(KeyFileError::Io { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(load(&path).unwrap().public(), first.public());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_a_crashed_try_left_behind_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    write(
        &dir.path().join("node.key.unfinished"),
        b"ed25519-sec",
        0o600,
    );
    create(&path).unwrap();
    load(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_others_can_get_at_is_refused_with_its_mode_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let shown = load(&path).unwrap_err().to_string();
        assert!(shown.contains(&format!("mode {mode:04o}")), "{shown}");
        assert!(
            shown.contains(&format!("`chmod 600 {}`", path.display())),
            "{shown}"
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    load(&path).unwrap();
}

#[test]
fn a_link_to_a_key_loads_and_the_mode_that_counts_is_that_of_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mounted");
    create(&dir.path().join("node.key")).unwrap();
    symlink("node.key", &path).unwrap();
    load(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    load(&path).unwrap_err();
}

#[test]
fn a_file_that_holds_something_else_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    create(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let long = [good.clone(), vec![b'\n'; 200]].concat();
    let twice = [good.clone(), good.clone()].concat();
    let bad: [&[u8]; 8] = [
        b"",
        b"\n",
        b"ed25519-secret:",
        &good[..good.len() - 2],
        &good[1..],
        &good.to_ascii_uppercase(),
        &twice,
        &[0xff; 300],
    ];
    for bytes in bad {
        write(&path, bytes, 0o600);
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::NotAKey { .. }),
            "{bytes:?}: {error:?}"
        );
    }
    write(&path, &long, 0o600);
    load(&path).unwrap();
    let folder = load(dir.path()).unwrap_err();
    assert!(matches!(folder, KeyFileError::NotAKey { .. }), "{folder:?}");
}
