//! A file that somebody has made and not finished.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use codevol_protocol::id::BlobId;
use codevol_source::config::{PublishMode, WatchMode};

use crate::host::Host;

/// Many times as long as a quiet tree waits until it is published, and less than an open writer is
/// waited for.
const MEANWHILE: Duration = Duration::from_millis(500);

fn records(host: &Host) -> usize {
    fs::read_dir(host.state().join("volumes/pipes/log"))
        .unwrap()
        .count()
}

fn is_stored(host: &Host, bytes: &[u8]) -> bool {
    let id = BlobId::of(bytes).to_string();
    let (fan, name) = id.split_at(2);
    host.state()
        .join("volumes/pipes/blobs")
        .join(fan)
        .join(name)
        .exists()
}

/// What is tested is that nothing comes of it: a state to wait for there is none.
async fn nothing_is_published(host: &Host) {
    let before = records(host);
    let began = Instant::now();
    while began.elapsed() < MEANWHILE {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(records(host), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_is_not_published_before_its_writer_closes_it() {
    let mut host = Host::begin_with(tempfile::tempdir().unwrap(), |volume| {
        volume.publish = PublishMode::Auto;
        volume.watch.mode = WatchMode::Inotify;
    })
    .await;
    // Made, with nothing in it so far; then half; then another file beside it is saved.
    let mut file = File::create(host.tree().join("new.py")).unwrap();
    nothing_is_published(&host).await;
    file.write_all(b"half ").unwrap();
    nothing_is_published(&host).await;
    drop(File::create(host.tree().join("beside.py")).unwrap());
    nothing_is_published(&host).await;
    file.write_all(b"and whole").unwrap();
    drop(file);
    host.good.stages().await;
    assert!(is_stored(&host, b"half and whole"));
    assert!(!is_stored(&host, b"half "));
}
