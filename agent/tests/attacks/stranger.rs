//! Another user of the agent's host, the one that Dagster runs as among them.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use codevol_protocol::call::Call;
use codevol_protocol::codec;
use codevol_tests::{let_stranger_try, stranger};

use crate::scene::{Scene, files_at};
use codevol_peer::frame;

fn is_denied<T: std::fmt::Debug>(what: &str, tried: std::io::Result<T>) {
    let kind = tried.as_ref().map_err(std::io::Error::kind);
    assert_eq!(
        kind.err(),
        Some(ErrorKind::PermissionDenied),
        "{what}: {tried:?}"
    );
}

/// All that would change what Dagster loads, or show what is not for it.
fn tries_to_change(root: &Path) {
    let release = fs::canonicalize(root.join("current")).unwrap();
    // That it can read at all shows that nothing else keeps it out.
    assert_eq!(fs::read(release.join("sub/kept.py")).unwrap(), b"kept");
    let defs = release.join("defs.py");
    is_denied("write", File::options().write(true).open(&defs));
    is_denied(
        "chmod",
        fs::set_permissions(&defs, Permissions::from_mode(0o666)),
    );
    is_denied("make", File::create(release.join("planted.py")));
    is_denied(
        "make a directory",
        fs::create_dir(release.join("__pycache__")),
    );
    is_denied("remove", fs::remove_file(&defs));
    is_denied("rename", fs::rename(&defs, release.join("other.py")));
    is_denied(
        "rename a release",
        fs::rename(&release, release.with_extension("x")),
    );
    is_denied(
        "plant a release",
        fs::create_dir(root.join("releases/000009-12345678")),
    );
    is_denied("flip", symlink("/tmp", root.join("current.new")));
    is_denied("remove `current`", fs::remove_file(root.join("current")));
    is_denied("look behind", fs::read_dir(root.join(".codevol")));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_reads_a_release_and_changes_nothing() {
    if let Some(root) = stranger() {
        return tries_to_change(&root);
    }
    let mut scene = Scene::begin().await;
    scene.node.opens_the_way();
    let_stranger_try(&scene.node.root());
    scene.is_unharmed("another user").await;
    let next = files_at(2, "after it");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "after it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_cannot_connect_to_the_control_socket() {
    if let Some(socket) = stranger() {
        return is_denied("connect", UnixStream::connect(socket));
    }
    let scene = Scene::begin().await;
    scene.node.opens_the_way();
    let_stranger_try(&scene.node.socket());
    scene.is_unharmed("another user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_who_can_connect_is_not_answered() {
    if let Some(socket) = stranger() {
        let mut socket = UnixStream::connect(socket).unwrap();
        // It may be closed already.
        drop(socket.write_all(&frame(&codec::encode(&Call::Status))));
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        assert!(answer.is_empty(), "{} bytes", answer.len());
        return;
    }
    let scene = Scene::begin().await;
    scene.node.opens_the_way();
    // Somebody has opened it, or an old kernel does not mind its mode.
    fs::set_permissions(scene.node.socket(), Permissions::from_mode(0o666)).unwrap();
    let_stranger_try(&scene.node.socket());
    scene.is_unharmed("another user").await;
}
