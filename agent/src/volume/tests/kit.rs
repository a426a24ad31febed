//! A volume root of its own for each test, and releases to put there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use codevol_protocol::delta::{Cut, Position};
use codevol_protocol::id::{BlobId, FleetId, ReleaseId};
use codevol_protocol::key::SecretKey;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::path::RelPath;
use codevol_protocol::release::{Origin, Release, Seq, UnixMillis, VerifiedRelease};
use codevol_protocol::trust::{Publisher, Trust};

use crate::volume::{Found, Pace, Recovered, Root, RootError, Seen, StageError, Staging};

pub(super) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// Segments so small that tests can have several.
pub(super) const CUT: Cut = Cut {
    segment_bytes: 64,
    margin_bytes: 16,
};

/// One thing of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    File(Vec<u8>),
    Tool(Vec<u8>),
    Link(String),
    Dir,
}

pub(super) fn file(text: impl AsRef<[u8]>) -> Thing {
    Thing::File(text.as_ref().to_vec())
}

pub(super) fn tool(text: &str) -> Thing {
    Thing::Tool(text.as_bytes().to_vec())
}

pub(super) fn link(target: &str) -> Thing {
    Thing::Link(target.to_owned())
}

pub(super) type Tree = BTreeMap<String, Thing>;

pub(super) fn tree(things: &[(&str, Thing)]) -> Tree {
    let things = things.iter().cloned();
    things
        .map(|(path, thing)| (path.to_owned(), thing))
        .collect()
}

/// A release as a source would publish it, and its bytes.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) verified: VerifiedRelease,
    pub(super) manifest: Manifest,
    pub(super) blobs: BTreeMap<BlobId, Vec<u8>>,
    pub(super) tree: Tree,
}

impl Published {
    pub(super) fn id(&self) -> ReleaseId {
        self.verified.id()
    }
}

fn entry(thing: &Thing) -> Entry {
    let file = |bytes: &[u8], executable| Entry::File {
        blob: BlobId::of(bytes),
        size: bytes.len() as u64,
        executable,
    };
    match thing {
        Thing::File(bytes) => file(bytes, false),
        Thing::Tool(bytes) => file(bytes, true),
        Thing::Link(target) => Entry::Symlink {
            target: target.parse().unwrap(),
        },
        Thing::Dir => Entry::Dir,
    }
}

pub(super) fn publish(seq: u64, tree: &Tree) -> Published {
    publish_with(seq, tree, b"")
}

/// The same, with these ignore rules.
pub(super) fn publish_with(seq: u64, tree: &Tree, rules: &[u8]) -> Published {
    let things = tree.iter().map(|(path, thing)| {
        let path: RelPath = path.parse().unwrap();
        (path, entry(thing))
    });
    let sorted: BTreeMap<RelPath, Entry> = things.collect();
    let manifest = Manifest::new(sorted.into_iter().collect()).unwrap();
    let key = SecretKey::from_seed(&[7; 32]);
    let fleet = FleetId::of(b"fleet");
    let volume: VolumeName = "pipes".parse().unwrap();
    let release = Release {
        fleet,
        volume: volume.clone(),
        epoch: 1,
        seq: Seq(seq),
        parent: (seq > 1).then(|| ReleaseId::of(b"parent")),
        manifest: manifest.id(),
        manifest_bytes: manifest.encode().len() as u64,
        entries: manifest.entries().len() as u64,
        total_bytes: manifest.total_bytes(),
        ignore_rules: BlobId::of(rules),
        created_at: UnixMillis(1_700_000_000_123),
        origin: Origin::Push,
        author: Text::cut("alice"),
        host: Text::cut("src01"),
        message: Text::cut("null \"customer\" ids"),
        git: None,
        fingerprints: Vec::new(),
    };
    let trust = Trust {
        fleet,
        epoch: 1,
        sources: Vec::new(),
        publishers: vec![Publisher {
            key: key.public(),
            volumes: None,
        }],
        revoked: Vec::new(),
    };
    let blobs = tree.values().filter_map(|thing| match thing {
        Thing::File(bytes) | Thing::Tool(bytes) => Some((BlobId::of(bytes), bytes.clone())),
        Thing::Link(_) | Thing::Dir => None,
    });
    Published {
        verified: trust.verify_release(&release.sign(&key), &volume).unwrap(),
        manifest,
        blobs: blobs.collect(),
        tree: tree.clone(),
    }
}

/// Directories of a test's own.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) temp: tempfile::TempDir,
}

impl Disk {
    pub(super) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("root")).unwrap();
        fs::create_dir(temp.path().join("state")).unwrap();
        Self { temp }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    pub(super) fn release(&self, published: &Published) -> PathBuf {
        self.root()
            .join("releases")
            .join(published.verified.dir_name())
    }

    pub(super) fn try_open(&self) -> Result<(Root, Recovered), RootError> {
        let volume = "pipes".parse().unwrap();
        let state = self.temp.path().join("state");
        Root::open_cut(&self.root(), &state, (&volume, 5), CUT)
    }

    pub(super) fn open(&self) -> Root {
        self.try_open().unwrap().0
    }

    /// Opens, stages and activates each release in turn, and closes.
    pub(super) fn with(releases: &[&Published]) -> (Self, Root) {
        let disk = Self::new();
        let mut root = disk.open();
        for release in releases {
            stage(&mut root, release).unwrap();
            root.activate(release.id(), NOW).unwrap();
        }
        (disk, root)
    }
}

pub(super) fn begin(root: &mut Root, published: &Published) -> Result<Staging, StageError> {
    let base = root.active();
    root.begin(&published.verified, published.manifest.clone(), base)
}

/// Sends what the staging lacks, from its position on.
pub(super) fn send(staging: &mut Staging, published: &Published) -> Result<(), StageError> {
    let pieces: Vec<_> = staging.plan().pieces_from(staging.position()).collect();
    for piece in pieces {
        if let Some(range) = &piece.prefix {
            staging.base_range(range)?;
        }
        let bytes = bytes_at(published, piece.position).to_vec();
        staging.write(piece.position, &bytes)?;
    }
    Ok(())
}

pub(super) fn bytes_at(published: &Published, position: Position) -> &[u8] {
    let index = usize::try_from(position.entry).unwrap();
    let blob = published.manifest.entries()[index].1.blob().unwrap();
    let bytes = &published.blobs[&blob];
    let segment = usize::try_from(CUT.segment_bytes).unwrap();
    let start = usize::try_from(position.segment).unwrap() * segment;
    &bytes[start..bytes.len().min(start + segment)]
}

pub(super) fn stage(root: &mut Root, published: &Published) -> Result<ReleaseId, StageError> {
    let mut staging = begin(root, published)?;
    send(&mut staging, published)?;
    land(&mut staging, root)
}

/// Gives a release that was sent its name, and makes it durable.
pub(super) fn land(staging: &mut Staging, root: &mut Root) -> Result<ReleaseId, StageError> {
    let durable = staging.finish(root)?.make_durable();
    durable.map_err(|lost| root.let_go(lost))
}

/// Prepares the spare as the daemon does.
pub(super) fn prepare_spare(root: &mut Root) {
    if let Some(job) = root.prepare_spare().unwrap() {
        let spare = job.build().unwrap().unwrap();
        root.keep_spare(spare);
    }
}

/// Compares all of a release with what stands on the disk.
pub(super) fn look(root: &mut Root, published: &Published) -> Found {
    let look = root.look(published.id()).unwrap();
    let found = look.whole(&mut Pace::free(), &mut Seen::default());
    found.unwrap().unwrap()
}

/// Writes into a file where it stands, with its length and its mtime as before.
pub(super) fn damage(path: &Path) {
    use std::io::Write as _;
    let before = fs::metadata(path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"X").unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

/// Reads a directory back as a tree, and checks the modes on the way.
pub(super) fn read_tree(top: &Path) -> Tree {
    let mut found = Tree::new();
    read_below(top, top, &mut found);
    assert!(found.remove(".codevol-release.json").is_some());
    found
}

fn read_below(top: &Path, at: &Path, found: &mut Tree) {
    assert_eq!(fs::metadata(at).unwrap().mode() & 0o7777, 0o755, "{at:?}");
    let mut is_empty = true;
    for entry in fs::read_dir(at).unwrap() {
        is_empty = false;
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.insert(name, link(target.to_str().unwrap()));
        } else if meta.is_dir() {
            read_below(top, &path, found);
        } else {
            let bytes = fs::read(&path).unwrap();
            let thing = match meta.mode() & 0o7777 {
                0o644 => Thing::File(bytes),
                0o755 => Thing::Tool(bytes),
                mode => panic!("{path:?} has mode {mode:o}"),
            };
            found.insert(name, thing);
        }
    }
    if is_empty && at != top {
        let name = at.strip_prefix(top).unwrap().to_str().unwrap();
        found.insert(name.to_owned(), Thing::Dir);
    }
}

/// Asserts that `current` names this release and that it is whole.
pub(super) fn assert_live(disk: &Disk, published: &Published) {
    let target = fs::read_link(disk.root().join("current")).unwrap();
    let name = published.verified.dir_name();
    assert_eq!(target, Path::new("releases").join(name));
    assert_eq!(read_tree(&disk.root().join("current")), published.tree);
}
