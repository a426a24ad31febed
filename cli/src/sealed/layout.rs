//! A release as an OCI image in a layout: the layers of its base, if it has one, and its tree on top.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};

use super::SealError;
use super::base::{BLOBS, CONFIG_TYPE, INDEX_FILE, Image, LAYOUT_FILE, MANIFEST_TYPE};
use super::digest::{Digest, Hashed};
use super::labels::{BASE_DIGEST, REF_NAME};
use super::tree::Tree;
use super::workshop::failed;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// How much of a base's layer is copied at a time.
const CHUNK_BYTES: u64 = 4 << 20;

/// The layout that is being written.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
    blobs: PathBuf,
}

/// What an image is to be besides its tree.
#[derive(Debug)]
pub(crate) struct About<'a> {
    pub(crate) base: Option<&'a Image>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The processor that an image without a base is said to be for.
    pub(crate) architecture: &'a str,
}

/// A layer that was written.
struct Layer {
    digest: Digest,
    bytes: u64,
    /// The digest of what it holds before it was compressed.
    diff: Digest,
}

impl Layout {
    /// Begins one in a folder that is not there yet.
    pub(crate) fn create(folder: PathBuf) -> Result<Self, SealError> {
        let blobs = folder.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(failed("make", &blobs))?;
        Ok(Self { folder, blobs })
    }

    /// Takes over the layers of a base. `go_on` is asked now and then.
    pub(crate) fn copy(
        &self,
        base: &Image,
        go_on: &mut dyn FnMut() -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        for (layer, _) in &base.layers {
            let (from, expected) = base.layer(layer)?;
            let path = self.blobs.join(expected.hex());
            let mut to = File::create(&path).map_err(failed("make", &path))?;
            // One byte more shows that there is more.
            let mut from = Hashed::new(from.take(layer.size.saturating_add(1)));
            loop {
                go_on()?;
                let copied = io::copy(&mut (&mut from).take(CHUNK_BYTES), &mut to);
                if copied.map_err(failed("write", &path))? == 0 {
                    break;
                }
            }
            let (_, found, bytes) = from.finish();
            if found != expected || bytes != layer.size {
                return Err(base.wrong(format!("the bytes of {expected} are others")));
            }
            to.sync_all().map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Writes the tree's layer and the image's documents; durable when this returns, but for the
    /// folder's own name. Returns the digest of the image, and how many bytes its layer has.
    pub(crate) fn write(
        &self,
        tree: &Tree<'_>,
        files: &mut dyn Read,
        about: &About<'_>,
    ) -> Result<(Digest, u64), SealError> {
        let layer = self.layer(tree, files)?;
        let created = tree.marker.created_at.to_string();
        let config = self.document(&config(
            about,
            &layer,
            (&created, &tree.marker.seq.to_string()),
        ))?;
        let mut annotations = about.labels.clone();
        let mut layers: Vec<Value> = Vec::new();
        if let Some(base) = about.base {
            annotations.insert(BASE_DIGEST.to_owned(), base.digest.to_string());
            layers.extend(base.layers.iter().map(|(_, layer)| layer.clone()));
        }
        layers.push(descriptor(LAYER_TYPE, (layer.digest, layer.bytes)));
        let manifest = self.document(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": layers,
            "annotations": annotations,
        }))?;
        let mut listed = descriptor(MANIFEST_TYPE, manifest);
        if let Some(listed) = listed.as_object_mut() {
            let name = json!({ REF_NAME: tree.marker.seq.to_string() });
            listed.insert("annotations".to_owned(), name);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [listed],
        });
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        put(&self.folder.join(INDEX_FILE), &serde_json::to_vec(&index)?)?;
        put(
            &self.folder.join(LAYOUT_FILE),
            &serde_json::to_vec(&version)?,
        )?;
        for folder in [
            self.blobs.as_path(),
            &self.folder.join("blobs"),
            &self.folder,
        ] {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(failed("write", folder))?;
        }
        Ok((manifest.0, layer.bytes))
    }

    fn layer(&self, tree: &Tree<'_>, files: &mut dyn Read) -> Result<Layer, SealError> {
        let unnamed = self.blobs.join("layer");
        let file = File::create(&unnamed).map_err(failed("make", &unnamed))?;
        // No time, no name, no system: nothing that another host would write otherwise.
        let zip = GzBuilder::new()
            .operating_system(255)
            .write(Hashed::new(BufWriter::new(file)), Compression::default());
        let mut tar = Hashed::new(zip);
        tree.write(&mut tar, files)?;
        let (zip, diff, _) = tar.finish();
        let (file, digest, bytes) = zip.finish()?.finish();
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let named = self.blobs.join(digest.hex());
        fs::rename(&unnamed, &named).map_err(failed("name", &named))?;
        Ok(Layer {
            digest,
            bytes,
            diff,
        })
    }

    fn document(&self, document: &Value) -> Result<(Digest, u64), SealError> {
        let bytes = serde_json::to_vec(document)?;
        let digest = Digest::of(&bytes);
        put(&self.blobs.join(digest.hex()), &bytes)?;
        Ok((digest, bytes.len() as u64))
    }
}

/// Returns the image's configuration: the base's with a layer and labels more.
fn config(about: &About<'_>, layer: &Layer, (created, seq): (&str, &str)) -> Value {
    let mut config = match about.base.map(|base| base.config.clone()) {
        Some(Value::Object(config)) => config,
        Some(_) | None => Map::from_iter([
            ("architecture".to_owned(), json!(about.architecture)),
            ("os".to_owned(), json!("linux")),
        ]),
    };
    config.insert("created".to_owned(), json!(created));
    let labels = within(&mut config, "config");
    let labels = within(labels, "Labels");
    let ours = about.labels.iter();
    labels.extend(ours.map(|(key, value)| (key.clone(), json!(value))));
    let rootfs = within(&mut config, "rootfs");
    rootfs.insert("type".to_owned(), json!("layers"));
    list(rootfs, "diff_ids").push(json!(layer.diff.to_string()));
    list(&mut config, "history").push(json!({
        "created": created,
        "created_by": format!("codevol seal {seq}"),
    }));
    Value::Object(config)
}

/// Returns the object of a name, made where none is there.
fn within<'v>(object: &'v mut Map<String, Value>, name: &str) -> &'v mut Map<String, Value> {
    let value = object.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    #[expect(clippy::expect_used, reason = "it was made one just now")]
    value.as_object_mut().expect("it is an object")
}

/// Returns the list of a name, made where none is there.
fn list<'v>(object: &'v mut Map<String, Value>, name: &str) -> &'v mut Vec<Value> {
    let value = object.entry(name).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    #[expect(clippy::expect_used, reason = "it was made one just now")]
    value.as_array_mut().expect("it is a list")
}

fn descriptor(kind: &str, (digest, size): (Digest, u64)) -> Value {
    json!({ "mediaType": kind, "digest": digest.to_string(), "size": size })
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed("write", path))
}
