//! What a full disk and a bind mount do, in a mount namespace of the test's own that goes with it.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::Text;
use codevol_store::blobs::{BlobError, Blobs};
use codevol_store::dir::{Dir, DirError};
use codevol_store::journal::{Event, Journal, JournalError};
use codevol_store::landing::Landing;
use codevol_store::manifests::{Manifests, ManifestsError};
use codevol_store::persist;
use jiff::Timestamp;

const MARK: &str = "CODEVOL_TEST_NAMESPACE_DIR";

/// Runs one test of this file once more, in a namespace where `mount` has made a directory.
#[expect(clippy::print_stderr, reason = "a test that could not be run says so")]
fn in_namespace(test: &str, mount: &str) {
    let temp = tempfile::tempdir().unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-ec",
                script,
                "sh",
            ])
            .arg(temp.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(MARK, temp.path());
        command.output()
    };
    let probe = "cd \"$1\"; mount -t tmpfs tmpfs .";
    if !unshare(probe).is_ok_and(|output| output.status.success()) {
        eprintln!("NOT RUN: {test}: this host lets nobody make a mount namespace");
        return;
    }
    let output = unshare(&format!("cd \"$1\"; {mount}; shift; exec \"$@\"")).unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{error}");
    assert!(shown.contains("1 passed"), "{shown}\n{error}");
}

fn fill(dir: &Dir) {
    let mut file = dir.create_file("filler", 0o600).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
}

fn event(detail: &str) -> Event {
    Event {
        actor: Text::cut("codevol"),
        action: "push".into(),
        volume: None,
        release: None,
        node: None,
        evidence: None,
        outcome: "good".into(),
        detail: Some(Text::cut(detail)),
    }
}

#[test]
fn a_full_disk_is_a_typed_error_and_leaves_what_was_there() {
    let Some(root) = std::env::var_os(MARK) else {
        return in_namespace(
            "a_full_disk_is_a_typed_error_and_leaves_what_was_there",
            "mount -t tmpfs -o size=256k tmpfs .",
        );
    };
    let root = Dir::open(Path::new(&root)).unwrap();
    let at = |name| root.ensure_dir(name, 0o700).unwrap();
    let blobs = Blobs::open(&at("blobs")).unwrap();
    let manifests = Manifests::open(&at("manifests")).unwrap();
    let mut journal = Journal::open(&root).unwrap();
    let manifest = Manifest::new(vec![("a".parse().unwrap(), Entry::Dir)]).unwrap();
    journal
        .append(Timestamp::UNIX_EPOCH, event("first"))
        .unwrap();
    persist::write(&root, "file", 0o600, b"old").unwrap();

    fill(&root);
    let long = [7; 100_000];
    let no_space = |error: &DirError| error.is_no_space() && error.is_retryable();
    let full = persist::write(&root, "file", 0o600, &long).unwrap_err();
    assert!(no_space(&full), "{full:?}");
    let full = persist::create(&root, "made", 0o600, &long).unwrap_err();
    assert!(no_space(&full), "{full:?}");
    let full = blobs.put(&long).unwrap_err();
    assert!(
        matches!(&full, BlobError::Dir(error) if no_space(error)),
        "{full:?}"
    );
    let put = || {
        let mut landing = Landing::default();
        manifests.land(&manifest, &mut landing)?;
        landing.commit(None).map_err(ManifestsError::from)
    };
    let full = put().unwrap_err();
    assert!(
        matches!(&full, ManifestsError::Dir(error) if no_space(error)),
        "{full:?}"
    );
    let detail = "x".repeat(60_000);
    let full = journal
        .append(Timestamp::UNIX_EPOCH, event(&detail))
        .unwrap_err();
    assert!(
        matches!(&full, JournalError::Dir(error) if no_space(error)),
        "{full:?}"
    );

    assert_eq!(root.read("file", 9).unwrap(), b"old");
    assert!(root.stat("made").unwrap().is_none());
    assert!(blobs.ids().unwrap().is_empty());
    for dir in [&root, &at("blobs"), &at("manifests")] {
        assert_eq!(persist::sweep(dir).unwrap(), 0, "a temporary file was left");
    }

    root.remove_file("filler").unwrap();
    persist::write(&root, "file", 0o600, b"new").unwrap();
    let id = blobs.put(&long).unwrap();
    assert_eq!(blobs.read(id, 100_000).unwrap(), long);
    let _landed = put().unwrap();
    assert_eq!(
        journal
            .append(Timestamp::UNIX_EPOCH, event("second"))
            .unwrap(),
        2
    );
    assert_eq!(journal.verify().unwrap(), 2);
}

#[test]
fn a_bind_mount_of_the_same_file_system_is_not_crossed() {
    let Some(root) = std::env::var_os(MARK) else {
        return in_namespace(
            "a_bind_mount_of_the_same_file_system_is_not_crossed",
            "mkdir outside mounted top; mount --bind outside mounted; \
             touch target file; mount --bind target file; \
             mkdir top/mounted; mount --bind outside top/mounted",
        );
    };
    let root = Dir::open(Path::new(&root)).unwrap();
    let refused = |error: DirError| {
        assert!(matches!(error, DirError::NotBeneath { .. }), "{error:?}");
    };
    refused(root.open_dir("mounted").unwrap_err());
    refused(root.ensure_dir("mounted/new", 0o755).unwrap_err());
    refused(root.create_file("mounted/new", 0o644).unwrap_err());
    refused(root.open_file("file").unwrap_err());
    let canary: File = root.create_file("outside/canary", 0o644).unwrap();
    canary.write_all_at(b"alive", 0).unwrap();
    // A mount in a tree that is to be removed stops the removal; nothing behind it goes.
    root.remove_tree("top").unwrap_err();
    root.remove_tree("mounted").unwrap_err();
    assert_eq!(root.read("outside/canary", 9).unwrap(), b"alive");
}
