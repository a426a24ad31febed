//! The publisher's task by itself.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use codevol_protocol::id::FleetId;
use codevol_protocol::key::SecretKey;
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::rollout::Policy;
use codevol_store::register::Register;
use codevol_store::state_dir::StateDir;
use tokio_util::sync::CancellationToken;

use super::{PublisherParts, PublisherTask, Signer};
use crate::config::{PublishMode, VolumeConfig, WatchConfig, WatchMode};
use crate::fleet::{FleetParts, FleetTask};
use crate::history::History;

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_watch_its_tree_stops() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let volume: VolumeName = "pipes".parse().unwrap();
    let state = StateDir::open(temp.path()).unwrap();
    let dir = state.volume(&volume).unwrap();
    let history = Arc::new(History::open(&dir).unwrap());
    let shutdown = CancellationToken::new();
    let (_fleet_task, fleet) = FleetTask::new(FleetParts {
        volume: volume.clone(),
        history: history.clone(),
        kept: Register::create(&dir, "rollout", "codevol.rollout/1", Default::default()).unwrap(),
        journal: state.journal().clone(),
        enrolled: BTreeSet::new(),
        policy: Policy::default(),
        failed: shutdown.clone(),
    });
    let (task, _handle) = PublisherTask::new(PublisherParts {
        config: VolumeConfig {
            name: volume,
            path: tree.clone(),
            publish: PublishMode::Auto,
            ignore: Vec::new(),
            keep: 3,
            watch: WatchConfig {
                mode: WatchMode::Inotify,
                ..WatchConfig::default()
            },
            rollout: Policy::default(),
        },
        cache_file: temp.path().join("scan-cache"),
        history,
        fleet,
        signer: Signer {
            fleet: FleetId::of(b"fleet"),
            epoch: 1,
            key: SecretKey::from_seed(&[1; 32]),
            host: Text::cut("host"),
        },
        journal: state.journal().clone(),
    })
    .unwrap();
    fs::remove_dir(&tree).unwrap();
    task.run(shutdown.clone()).await;
    assert!(shutdown.is_cancelled());
}
