//! What is written, read back by others' eyes: the tar by the `tar` crate, the image by its documents.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use codevol_protocol::id::{BlobId, FleetId};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::marker::{MARKER, Marker};
use codevol_protocol::name::Text;
use codevol_protocol::release::{Git, Origin, Release, Seq, UnixMillis};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::base::Image;
use super::digest::Digest;
use super::layout::{About, Layout};
use super::prefix::Prefix;
use super::tree::Tree;
use super::workshop::Workshop;
use super::{SealError, labels};

/// An entry, and the bytes of it where it is a file.
type Given = (Entry, Vec<u8>);

/// A release, and the bytes of its files as they are handed over.
pub(super) struct Sample {
    pub(super) marker: Marker,
    pub(super) manifest: Manifest,
    pub(super) bytes: Vec<u8>,
    pub(super) prefix: Prefix,
}

pub(super) fn file(bytes: &[u8]) -> Given {
    let (blob, size, executable) = (BlobId::of(bytes), bytes.len() as u64, false);
    let entry = Entry::File {
        blob,
        size,
        executable,
    };
    (entry, bytes.to_vec())
}

pub(super) fn link(target: &str) -> Given {
    let target = target.parse().unwrap();
    (Entry::Symlink { target }, Vec::new())
}

impl Sample {
    pub(super) fn of(entries: Vec<(&str, Given)>) -> Self {
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|(path, what)| (path.parse().unwrap(), what))
            .collect();
        entries.sort_by(|(a, _): &(codevol_protocol::path::RelPath, _), (b, _)| a.cmp(b));
        let bytes = entries.iter().flat_map(|(_, (_, bytes))| bytes.clone());
        let bytes = bytes.collect();
        let entries = entries.into_iter().map(|(path, (entry, _))| (path, entry));
        let manifest = Manifest::new(entries.collect()).unwrap();
        let release = Release {
            fleet: fleet(),
            volume: "pipes".parse().unwrap(),
            epoch: 1,
            seq: Seq(1),
            parent: None,
            manifest: manifest.id(),
            manifest_bytes: manifest.encode().len() as u64,
            entries: manifest.entries().len() as u64,
            total_bytes: manifest.total_bytes(),
            ignore_rules: BlobId::of(b""),
            created_at: UnixMillis(1_700_000_000_123),
            origin: Origin::Push,
            author: Text::cut("alice"),
            host: Text::default(),
            message: Text::cut("null customer ids"),
            git: Some(Git {
                commit: Text::cut("9c1d0aa"),
                branch: Some(Text::cut("main")),
                dirty: false,
            }),
            fingerprints: Vec::new(),
        };
        let id = codevol_protocol::id::ReleaseId::of(&release.encode());
        Self {
            marker: Marker::new(id, &release, &manifest),
            manifest,
            bytes,
            prefix: Prefix::of_a_tar(),
        }
    }

    fn tree(&self, hides_below: bool) -> Tree<'_> {
        Tree {
            marker: &self.marker,
            manifest: &self.manifest,
            prefix: &self.prefix,
            hides_below,
        }
    }

    pub(super) fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        let tree = self.tree(false);
        tree.write(&mut tar, &mut &*self.bytes).unwrap();
        tar
    }

    pub(super) fn seal(&self, folder: &Path, base: Option<&Image>) -> Digest {
        let layout = Layout::create(folder.to_owned()).unwrap();
        if let Some(base) = base {
            layout.copy(base, &mut || Ok(())).unwrap();
        }
        let about = About {
            base,
            labels: labels::of(&self.marker, &fleet(), &self.prefix),
            architecture: "amd64",
        };
        let tree = self.tree(base.is_some());
        layout.write(&tree, &mut &*self.bytes, &about).unwrap().0
    }
}

fn fleet() -> FleetId {
    FleetId::of(b"fleet")
}

fn sample() -> Sample {
    let mut tool = file(b"#!/bin/sh\n");
    if let Entry::File { executable, .. } = &mut tool.0 {
        *executable = true;
    }
    Sample::of(vec![
        ("assets/orders.py", file(b"ORDERS = 1\n")),
        ("assets/empty.py", file(b"")),
        ("assets-old", link("./assets//orders.py")),
        ("bin/tool", tool),
        ("nothing/here", (Entry::Dir, Vec::new())),
    ])
}

/// Reads a tar: each name with its type, mode, time, and bytes or target.
fn listed(tar: impl io::Read) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(tar);
    let mut all = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), 1_700_000_000);
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mode = header.mode().unwrap();
        let what = match header.entry_type() {
            tar::EntryType::Directory => format!("{mode:o} folder"),
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap().into_owned();
                format!("{mode:o} -> {}", String::from_utf8(target).unwrap())
            }
            tar::EntryType::Regular => {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                if name.ends_with(MARKER) {
                    text = "the marker".to_owned();
                }
                format!("{mode:o} {text:?}")
            }
            other => panic!("{other:?}"),
        };
        all.push((name, what));
    }
    all
}

fn lines(tar: impl io::Read) -> String {
    let lines = listed(tar).into_iter();
    let lines: Vec<String> = lines.map(|(name, what)| format!("{name} {what}")).collect();
    lines.join("\n")
}

#[test]
fn a_tar_holds_the_marker_and_then_the_tree() {
    insta::assert_snapshot!(lines(&*sample().tar()), @r##"
    .codevol-release.json 644 "the marker"
    assets/ 755 folder
    assets/empty.py 644 ""
    assets/orders.py 644 "ORDERS = 1\n"
    assets-old 777 -> ./assets//orders.py
    bin/ 755 folder
    bin/tool 755 "#!/bin/sh\n"
    nothing/ 755 folder
    nothing/here/ 755 folder
    "##);
}

#[test]
fn names_of_any_length_and_script_are_written_as_they_are() {
    for length in [98, 99, 100, 101, 102, 155, 156, 255] {
        let (name, target) = ("n".repeat(length), "t".repeat(length));
        let below = format!("{}/{}", "d".repeat(length), "é".repeat(length / 2));
        let sample = Sample::of(vec![
            (name.as_str(), link(&target)),
            (below.as_str(), file(b"x")),
        ]);
        let found = listed(&*sample.tar());
        assert!(
            found.contains(&(name, format!("777 -> {target}"))),
            "{found:?}"
        );
        assert!(
            found.contains(&(below, "644 \"x\"".to_owned())),
            "{found:?}"
        );
    }
}

#[test]
fn other_bytes_than_the_release_names_are_not_sealed() {
    let mut sample = sample();
    sample.bytes[3] ^= 1;
    let sealed = sample
        .tree(false)
        .write(&mut io::sink(), &mut &*sample.bytes);
    assert!(matches!(sealed, Err(SealError::Damaged(path)) if path.as_str() == "assets/orders.py"));
    sample.bytes.truncate(3);
    let sealed = sample
        .tree(false)
        .write(&mut io::sink(), &mut &*sample.bytes);
    assert!(matches!(sealed, Err(SealError::Stream(_))));
}

#[test]
fn a_name_that_an_image_takes_for_a_removal_is_found() {
    let sample = Sample::of(vec![("a/.wh.b/c", file(b"")), ("b.wh.", file(b""))]);
    let tree = sample.tree(false);
    let found = tree.unfit_for_a_layer().map(|path| path.as_str());
    assert_eq!(found, Some("a/.wh.b/c"));
    assert_eq!(self::sample().tree(false).unfit_for_a_layer(), None);
}

#[test]
fn the_same_release_gives_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    assert_eq!(sample().seal(&a, None), sample().seal(&b, None));
    assert_eq!(all_of(&a), all_of(&b));
    // And so does the next build of this program, on another host: deflate may change, the tar does not.
    let digest = Digest::of(&sample().tar()).to_string();
    insta::assert_snapshot!(digest, @"sha256:08e76c2dc6c1c296cdc19f8c77762aa7c159e10ae4b323254b189b04ebf9d7d1");
}

fn all_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = all_of(&entry.path()).into_iter();
            all.extend(below.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    all
}

fn open_layer(folder: &Path, n: usize) -> GzDecoder<File> {
    let image = Image::open(folder).unwrap();
    let (file, _) = image.layer(&image.layers[n].0).unwrap();
    GzDecoder::new(file)
}

#[test]
fn an_image_says_what_is_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("x");
    let mut sample = sample();
    sample.prefix = Prefix::of_an_image().unwrap();
    sample.seal(&folder, None);
    let image = Image::open(&folder).unwrap();
    let mut layer = Vec::new();
    open_layer(&folder, 0).read_to_end(&mut layer).unwrap();
    assert_eq!(
        image.config["rootfs"]["diff_ids"],
        json!([Digest::of(&layer).to_string()])
    );
    insta::assert_json_snapshot!(image.config["config"]["Labels"], @r#"
    {
      "io.github.codevol.fleet": "ae6b9c37971d86e2897213f02730d37a50461eb18d2b5404817ee8e088bf0ede",
      "io.github.codevol.git.branch": "main",
      "io.github.codevol.git.commit": "9c1d0aa",
      "io.github.codevol.git.dirty": "false",
      "io.github.codevol.prefix": "/opt/dagster/app",
      "io.github.codevol.release.id": "4dac249af88235e635a1cc6ea6063c5e44786c3f96a2c21a495a407b77319965",
      "io.github.codevol.release.manifest": "2f45bfa64fab779d8c693fec258f33940feb99c670027b041fdc8b0cb0b9e6d3",
      "io.github.codevol.release.seq": "1",
      "io.github.codevol.volume": "pipes",
      "org.opencontainers.image.created": "2023-11-14T22:13:20.123Z",
      "org.opencontainers.image.revision": "9c1d0aa",
      "org.opencontainers.image.title": "pipes",
      "org.opencontainers.image.version": "r1"
    }
    "#);
    let index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let names = &index["manifests"][0]["annotations"];
    assert_eq!(names, &json!({ "org.opencontainers.image.ref.name": "r1" }));
    let found = listed(&*layer);
    let names: Vec<&str> = found
        .iter()
        .map(|(name, _)| name.as_str())
        .take(5)
        .collect();
    let prefix = "opt/dagster/app";
    let expected = [
        "opt/",
        "opt/dagster/",
        &format!("{prefix}/"),
        &format!("{prefix}/{MARKER}"),
        &format!("{prefix}/assets/"),
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_base_keeps_its_layers_and_what_it_has_in_the_folder_is_hidden() {
    let temp = tempfile::tempdir().unwrap();
    let [base, over] = ["base", "over"].map(|name| temp.path().join(name));
    let mut sample = sample();
    sample.prefix = "/app".parse().unwrap();
    let digest = sample.seal(&base, None);
    let mut document = json!({"Env": ["A=b"], "Labels": {"theirs": "kept"}});
    let config = change_config(&base, &mut document);
    let base = Image::open(&base).unwrap();
    assert_ne!(base.digest, digest);
    sample.seal(&over, Some(&base));
    let image = Image::open(&over).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[0].1, base.layers[0].1);
    assert_eq!(image.config["config"]["Env"], config["Env"]);
    let labels = &image.config["config"]["Labels"];
    assert_eq!(labels["theirs"], "kept");
    assert_eq!(labels["io.github.codevol.prefix"], "/app");
    assert_eq!(
        image.config["rootfs"]["diff_ids"].as_array().unwrap().len(),
        2
    );
    let found = listed(open_layer(&over, 1));
    assert_eq!(
        found[1],
        ("app/.wh..wh..opq".to_owned(), "644 \"\"".to_owned())
    );
    assert!(
        !listed(open_layer(&over, 0))
            .iter()
            .any(|(name, _)| name.contains(".wh."))
    );
}

/// Replaces the `config` of a layout's one image.
fn change_config(layout: &Path, config: &mut Value) -> Value {
    let blobs = layout.join("blobs/sha256");
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let named = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        blobs.join(digest.strip_prefix("sha256:").unwrap())
    };
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes);
        put(&blobs.join(digest.hex()), &bytes);
        (json!(digest.to_string()), json!(bytes.len()))
    };
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&named(&index["manifests"][0]));
    let mut document = read(&named(&manifest["config"]));
    document["config"] = config.clone();
    (manifest["config"]["digest"], manifest["config"]["size"]) = put(&document);
    (
        index["manifests"][0]["digest"],
        index["manifests"][0]["size"],
    ) = put(&manifest);
    put_value(&layout.join("index.json"), &index);
    config.take()
}

fn put_value(path: &Path, value: &Value) {
    put(path, &serde_json::to_vec(value).unwrap());
}

pub(super) fn put(path: &Path, bytes: &[u8]) {
    io::Write::write_all(&mut File::create(path).unwrap(), bytes).unwrap();
}

#[test]
fn a_base_that_is_none_or_damaged_says_which() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().join("base");
    let why = |path: &Path| match Image::open(path) {
        Err(SealError::Base { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(temp.path()), "it has no `oci-layout`");
    sample().seal(&base, None);
    let index = base.join("index.json");
    let whole = fs::read(&index).unwrap();
    let two = |value: &mut Value| {
        let first = value["manifests"][0].clone();
        value["manifests"].as_array_mut().unwrap().push(first);
    };
    let of_type = |value: &mut Value| {
        value["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    };
    let elsewhere = |value: &mut Value| {
        value["manifests"][0]["digest"] = json!("sha256:../../../../etc/passwd");
    };
    type Change<'c> = (&'c dyn Fn(&mut Value), &'c str);
    let changes: [Change<'_>; 3] = [
        (&two, "it holds 2 images, and one is meant"),
        (
            &of_type,
            "it holds a `application/vnd.oci.image.index.v1+json`, not one image",
        ),
        (
            &elsewhere,
            "`sha256:../../../../etc/passwd` is no `sha256:` and 64 hex digits",
        ),
    ];
    for (change, expected) in changes {
        let mut value = serde_json::from_slice(&whole).unwrap();
        change(&mut value);
        put_value(&index, &value);
        assert_eq!(why(&base), expected);
    }
    put(&index, &whole);
    let image = Image::open(&base).unwrap();
    let (_, digest) = image.layer(&image.layers[0].0).unwrap();
    put(&base.join("blobs/sha256").join(digest.hex()), b"other");
    let layout = Layout::create(temp.path().join("over")).unwrap();
    let copied = layout.copy(&image, &mut || Ok(()));
    assert!(matches!(copied, Err(SealError::Base { why, .. }) if why.contains("are others")));
}

#[test]
fn what_is_made_has_its_name_whole_or_not_at_all() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("x.tar");
    let workshop = Workshop::open(&target).unwrap();
    assert!(matches!(Workshop::open(&target), Err(SealError::Busy(_))));
    put(&workshop.path("made"), b"half");
    drop(workshop);
    assert_eq!(names(temp.path()), [""; 0]);
    // A process that was killed.
    let folder = temp.path().join(".x.tar.sealing");
    fs::create_dir(&folder).unwrap();
    put(&folder.join("made"), b"half");
    let workshop = Workshop::open(&target).unwrap();
    put(&workshop.path("made"), b"whole");
    workshop.finish("made").unwrap();
    assert_eq!(names(temp.path()), ["x.tar"]);
    assert!(matches!(Workshop::open(&target), Err(SealError::Exists(_))));
    // One that appears meanwhile stays.
    let other = temp.path().join("y.tar");
    let workshop = Workshop::open(&other).unwrap();
    put(&workshop.path("made"), b"ours");
    put(&other, b"theirs");
    assert!(matches!(workshop.finish("made"), Err(SealError::Exists(_))));
    assert_eq!(fs::read(&other).unwrap(), b"theirs");
    assert_eq!(names(temp.path()), ["x.tar", "y.tar"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_prefix_is_a_folder_of_the_image() {
    let shown = |text: &str| text.parse::<Prefix>().map(|prefix| prefix.to_string());
    assert_eq!(shown("/opt/app/"), Ok("/opt/app".to_owned()));
    assert_eq!(shown("app"), Ok("/app".to_owned()));
    assert_eq!(shown("/"), Ok("/".to_owned()));
    for bad in ["", "../x", "/a//b", "/a/./b", "/.codevol"] {
        assert!(shown(bad).is_err(), "{bad}");
    }
}
