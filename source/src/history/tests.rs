use std::fs;
use std::path::{Path, PathBuf};

use codevol_protocol::id::FleetId;
use codevol_protocol::key::SecretKey;
use codevol_protocol::manifest::Entry;
use codevol_protocol::name::Text;
use codevol_protocol::release::{Origin, UnixMillis};
use codevol_tests::save;

use super::*;

/// What a power cut may leave of a file that was not durable.
const CUTS: [fn(&Path); 3] = [
    |path| fs::remove_file(path).unwrap(),
    |path| save(path, b""),
    |path| save(path, &vec![0; fs::read(path).unwrap().len()]),
];

/// A release of a tree, signed.
pub(crate) fn signed(seq: u64, parent: Option<ReleaseId>, manifest: &Manifest) -> SignedRelease {
    let release = Release {
        fleet: FleetId::of(b"fleet"),
        volume: "pipes".parse().unwrap(),
        epoch: 1,
        seq: Seq(seq),
        parent,
        manifest: manifest.id(),
        manifest_bytes: manifest.encode().len() as u64,
        entries: manifest.entries().len() as u64,
        total_bytes: manifest.total_bytes(),
        ignore_rules: BlobId::of(b""),
        created_at: UnixMillis(0),
        origin: Origin::Push,
        author: Text::default(),
        host: Text::default(),
        message: Text::default(),
        git: None,
        fingerprints: Vec::new(),
    };
    release.sign(&SecretKey::from_seed(&[7; 32]))
}

struct Scene {
    temp: tempfile::TempDir,
    history: History,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let history = History::open(&Dir::open(temp.path()).unwrap()).unwrap();
        Self { temp, history }
    }

    /// Appends a release of one file that holds this text.
    fn append(&self, text: &str) -> Result<Arc<Published>, HistoryError> {
        let mut batch = self.history.blobs().batch();
        let stored = batch.put(&mut text.as_bytes()).unwrap();
        let mut landing = Landing::default();
        batch.land(&mut landing);
        let file = Entry::File {
            blob: stored.id,
            size: stored.size,
            executable: false,
        };
        let manifest = Arc::new(Manifest::new(vec![("a.py".parse().unwrap(), file)]).unwrap());
        let head = self.history.head();
        let seq = head.as_ref().map_or(1, |head| head.seq().0 + 1);
        let signed = signed(seq, head.map(|head| head.id()), &manifest);
        self.history.append(&signed, &manifest, b"", landing)
    }

    fn reopen(&mut self) {
        self.history = History::open(&Dir::open(self.temp.path()).unwrap()).unwrap();
    }

    /// Returns the text of every release's file.
    fn texts(&self) -> Vec<String> {
        let text = |release: &Arc<Published>| {
            let manifest = self.history.manifest(release.release().manifest).unwrap();
            let blob = manifest.entries()[0].1.blob().unwrap();
            String::from_utf8(self.history.blobs().read(blob, 1 << 20).unwrap()).unwrap()
        };
        self.history.releases().iter().map(text).collect()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    /// Returns where the files of a release stand: its record, its manifest, its blob.
    fn files(&self, release: &Published) -> [PathBuf; 3] {
        let record = release.release();
        let manifest = self.history.manifest(record.manifest).unwrap();
        let blob = manifest.entries()[0].1.blob().unwrap().to_string();
        [
            self.path(&format!("log/{:06}", record.seq.0)),
            self.path(&format!("manifests/{}", record.manifest)),
            self.path(&format!("blobs/{}/{}", &blob[..2], &blob[2..])),
        ]
    }
}

#[test]
fn an_acknowledged_release_survives_a_power_cut_whatever_that_takes_of_its_files() {
    for which in 0..3 {
        for cut in CUTS {
            let mut scene = Scene::new();
            for text in ["one", "two", "three"] {
                let release = scene.append(text).unwrap();
                if text != "one" {
                    cut(&scene.files(&release)[which]);
                }
            }
            scene.reopen();
            assert_eq!(scene.texts(), ["one", "two", "three"]);
            scene.append("four").unwrap();
            scene.reopen();
            assert_eq!(scene.texts(), ["one", "two", "three", "four"]);
        }
    }
}

#[test]
fn a_release_that_was_not_appended_is_not_there_after_a_restart_either() {
    let mut scene = Scene::new();
    scene.append("one").unwrap();
    // Its files have nowhere to go, when it is written ahead already.
    let blobs = scene.path("blobs");
    let fans: Vec<PathBuf> = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for fan in &fans {
        fs::rename(fan, fan.with_extension("aside")).unwrap();
    }
    scene.append("two").unwrap_err();
    for fan in &fans {
        fs::rename(fan.with_extension("aside"), fan).unwrap();
    }
    scene.reopen();
    assert_eq!(scene.texts(), ["one"]);
    scene.append("three").unwrap();
    assert_eq!(scene.texts(), ["one", "three"]);
}

#[test]
fn a_release_that_is_too_large_to_be_written_ahead_is_appended_all_the_same() {
    let mut scene = Scene::new();
    let large = "large ".repeat(100_000);
    for text in ["one", &large, "three"] {
        scene.append(text).unwrap();
    }
    scene.reopen();
    assert_eq!(scene.texts(), ["one", &large, "three"]);
}

#[test]
fn what_stands_in_the_log_already_is_not_replaced_by_what_was_written_ahead() {
    let mut scene = Scene::new();
    let one = scene.append("one").unwrap();
    let other = Scene::new();
    let theirs = other.append("theirs").unwrap();
    for (mine, theirs) in scene.files(&one).iter().zip(other.files(&theirs)) {
        let place = if mine.parent() == Some(&scene.path("log")) {
            mine.clone()
        } else {
            scene
                .path("")
                .join(theirs.strip_prefix(other.path("")).unwrap())
        };
        fs::copy(theirs, place).unwrap();
    }
    scene.reopen();
    assert_eq!(scene.texts(), ["theirs"]);
}
