//! Who is not whom the agent joined.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use codevol_agent::daemon::StartError;
use quinn::VarInt;

use crate::craft::{SOURCE, STRANGER, key};
use crate::scene::{Scene, files_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_another_key_is_told_nothing() {
    let mut scene = Scene::begin().await;
    // An impostor, or a source whose key was replaced without a word: the same to the agent.
    scene.source.turns_into(&key(STRANGER));
    scene.link.connection.close(VarInt::from_u32(1), b"");
    for _ in 0..2 {
        let handshake = scene.source.handshake().await;
        assert!(handshake.is_err(), "{handshake:?}");
    }
    scene.is_unharmed("impostor").await;
    scene.source.turns_into(&key(SOURCE));
    scene.link = scene.source.accept().await;
    scene.link.greet().await;
    let next = files_at(2, "from the source itself");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "the source itself").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_key_others_can_read_does_not_start() {
    let mut scene = Scene::begin().await;
    scene.node.stop().await;
    let file = scene.node.state().join("node.key");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let error = scene.node.run().unwrap_err();
    assert!(matches!(error, StartError::Identity(_)), "{error:?}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    scene.node.run().unwrap();
    scene.link = scene.source.accept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_joined_does_not_start() {
    let mut scene = Scene::begin().await;
    scene.node.stop().await;
    fs::remove_file(scene.node.state().join("enrolment.json")).unwrap();
    let error = scene.node.run().unwrap_err();
    assert!(matches!(error, StartError::Identity(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_state_does_not_start() {
    let mut scene = Scene::begin().await;
    let error = scene.node.run().unwrap_err();
    assert!(
        matches!(&error, StartError::StateDir(error) if error.is_locked()),
        "{error:?}"
    );
    scene.is_unharmed("a second agent").await;
}
