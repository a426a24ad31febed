//! Deliveries that are not what they were announced to be: nothing of them is published, and the source
//! goes on.

use codevol_peer::{key, within};
use codevol_protocol::call::delivery::{Delivery, Lacks, chunk_bytes};
use codevol_protocol::call::{Call, CallFailure, Opening, Push, Reply};
use codevol_protocol::id::BlobId;
use codevol_protocol::limits::{CHUNK_BYTES, MANIFEST_BYTES_MAX};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::message::MINOR;
use codevol_protocol::name::Text;
use codevol_protocol::role::Role;
use codevol_transport::{Alpn, Link, LinkReader, LinkWriter};

use crate::callers::enrol;
use crate::host::Host;

const BAD: u8 = 7;

fn tree(files: &[(&str, &[u8])]) -> Manifest {
    let mut entries: Vec<_> = files
        .iter()
        .map(|(path, bytes)| {
            let entry = Entry::File {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                executable: false,
            };
            (path.parse().unwrap(), entry)
        })
        .collect();
    entries.sort_by(|(a, _): &(codevol_protocol::path::RelPath, _), (b, _)| a.cmp(b));
    Manifest::new(entries).unwrap()
}

fn delivery(manifest_bytes: u64) -> Delivery {
    Delivery {
        push: Push {
            volume: None,
            paths: Vec::new(),
            message: Text::default(),
            dry_run: false,
            thaw: false,
            yes: true,
            wait: false,
        },
        whole: true,
        force: false,
        host: Text::cut("ci"),
        git: None,
        manifest_bytes,
        rules_bytes: 0,
    }
}

/// A publisher and its connection.
struct Publisher {
    host: Host,
    link: Link,
}

impl Publisher {
    async fn begin() -> Self {
        let host = Host::begin().await;
        enrol(&host, Role::Publisher, BAD).await;
        let link = host.dial(&key(BAD), Alpn::Node).await;
        Self { host, link }
    }

    async fn call(&self, delivery: Delivery) -> (LinkWriter, LinkReader) {
        let (mut writer, reader) = self.link.open_control().await.unwrap();
        writer.write(&Opening { minor: MINOR }).await.unwrap();
        let call = Call::Deliver(Box::new(delivery));
        writer.write(&call).await.unwrap();
        (writer, reader)
    }

    /// Announces a tree, and returns what the source lacks of it.
    async fn announce(&self, tree: &Manifest) -> (LinkWriter, LinkReader, Vec<u32>) {
        let encoded = tree.encode();
        let (mut writer, mut reader) = self.call(delivery(encoded.len() as u64)).await;
        let mut rest = &encoded[..];
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(chunk_bytes(rest.len() as u64));
            writer.write_bytes(chunk).await.unwrap();
            rest = more;
        }
        let reply = heard(&mut reader).await;
        let Reply::Lacks(Lacks { files, more: false }) = reply else {
            panic!("{reply:?}");
        };
        (writer, reader, files)
    }

    /// Each case leaves the history as it was.
    async fn survives(&mut self, what: &str) {
        let log = Call::Log {
            volume: None,
            count: 100,
        };
        let Reply::Log(before) = self.host.call(&log).await else {
            panic!("no log");
        };
        assert!(
            before
                .iter()
                .all(|entry| entry.release.author.as_str() != "publisher"),
            "{what}: something was published"
        );
        self.host.survives(what).await;
    }
}

async fn heard(reader: &mut LinkReader) -> Reply {
    within("reply", reader.read::<Reply>())
        .await
        .unwrap()
        .unwrap()
}

async fn refused(reader: &mut LinkReader, what: &str) -> CallFailure {
    match heard(reader).await {
        Reply::Failed(failure) => failure,
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_announced_is_not_published() {
    let mut publisher = Publisher::begin().await;
    // Longer than a manifest may be: refused before any of it is read.
    let (_writer, mut reader) = publisher.call(delivery(MANIFEST_BYTES_MAX + 1)).await;
    let failure = refused(&mut reader, "a manifest over the limit").await;
    assert_eq!(failure.kind.as_str(), "delivery", "{failure:?}");

    // No manifest at all, and one that a caller lies about.
    for (what, bytes) in [
        ("noise", &[0xa5; 64][..]),
        ("an empty tree", &Manifest::default().encode()),
    ] {
        let (mut writer, mut reader) = publisher.call(delivery(bytes.len() as u64)).await;
        writer.write_bytes(bytes).await.unwrap();
        let failure = refused(&mut reader, what).await;
        assert_eq!(failure.kind.as_str(), "delivery", "{what}: {failure:?}");
    }

    // Chunks are full: one that trickles is not waited for byte by byte.
    let (mut writer, mut reader) = publisher.call(delivery(1_000)).await;
    writer.write_bytes(&[1; 10]).await.unwrap();
    let failure = refused(&mut reader, "a short chunk").await;
    assert_eq!(failure.kind.as_str(), "delivery", "{failure:?}");
    let why = failure
        .causes
        .iter()
        .any(|why| why.as_str().contains("10 bytes"));
    assert!(why, "it was waited for: {failure:?}");

    // Other bytes than their hash, and more of them than their size.
    let tree = tree(&[("defs.py", b"mine"), ("kept.py", b"kept")]);
    let (mut writer, mut reader, lacked) = publisher.announce(&tree).await;
    assert_eq!(lacked, [0], "only what it does not hold is asked for");
    writer.write_bytes(b"evil").await.unwrap();
    let failure = refused(&mut reader, "other bytes").await;
    assert_eq!(failure.kind.as_str(), "changed", "{failure:?}");
    let (mut writer, mut reader, _) = publisher.announce(&tree).await;
    writer.write_bytes(b"mine and more").await.unwrap();
    let failure = refused(&mut reader, "too many bytes").await;
    assert_eq!(failure.kind.as_str(), "delivery", "{failure:?}");

    // Half of the files, and then an end; or no connection any more.
    let (mut writer, mut reader, _) = publisher.announce(&tree).await;
    writer.finish().await.unwrap();
    let failure = refused(&mut reader, "an end").await;
    assert_eq!(failure.kind.as_str(), "delivery", "{failure:?}");
    let (_writer, _reader, _) = publisher.announce(&tree).await;
    publisher.link.close(codevol_transport::CloseCode::Done, "");
    publisher.survives("broken deliveries").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_several_chunks_arrives_whole() {
    let publisher = Publisher::begin().await;
    let bytes: Vec<u8> = (0..=250).cycle().take(CHUNK_BYTES * 2 + 7).collect();
    let tree = tree(&[("data.bin", &bytes), ("empty.py", b"")]);
    let (mut writer, mut reader, lacked) = publisher.announce(&tree).await;
    assert_eq!(lacked, [0, 1]);
    for chunk in bytes.chunks(CHUNK_BYTES) {
        writer.write_bytes(chunk).await.unwrap();
    }
    let Reply::Plan(plan) = heard(&mut reader).await else {
        panic!("no plan");
    };
    let release = plan.release.unwrap();
    assert_eq!(release.author.as_str(), "publisher");
    assert_eq!(release.manifest, tree.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tree_from_elsewhere_does_not_take_the_place_of_a_watched_one() {
    let temp = tempfile::tempdir().unwrap();
    let auto = |volume: &mut codevol_source::config::VolumeConfig| {
        volume.publish = codevol_source::config::PublishMode::Auto;
    };
    let host = Host::begin_with(temp, auto).await;
    enrol(&host, Role::Publisher, BAD).await;
    let link = host.dial(&key(BAD), Alpn::Node).await;
    let publisher = Publisher { host, link };
    let (_writer, mut reader) = publisher.call(delivery(100)).await;
    let failure = refused(&mut reader, "a watched volume").await;
    assert_eq!(failure.kind.as_str(), "watched", "{failure:?}");
}
