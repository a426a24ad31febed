//! The image that a release is laid upon: one image in an OCI layout. What is taken from it is checked
//! against its digests.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::SealError;
use super::digest::Digest;

/// The media type of an image's manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an image's configuration.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// The file by which a folder is known to be a layout.
pub(crate) const LAYOUT_FILE: &str = "oci-layout";
/// The file that lists the images of a layout.
pub(crate) const INDEX_FILE: &str = "index.json";
/// Where the parts of images lie.
pub(crate) const BLOBS: &str = "blobs/sha256";
/// How long a document of an image may be.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// How many layers an image may have: more than any engine mounts.
const LAYERS_MAX: usize = 1_000;

/// One image of a layout, its documents read.
#[derive(Debug)]
pub(crate) struct Image {
    layout: PathBuf,
    /// The digest of its manifest.
    pub(crate) digest: Digest,
    pub(crate) config: Value,
    /// Its layers, lowest first, as its manifest lists them.
    pub(crate) layers: Vec<(Descriptor, Value)>,
}

/// What points at a part of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    digest: String,
    pub(crate) size: u64,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: Vec<Value>,
}

impl Image {
    /// Reads the one image of a layout.
    ///
    /// # Errors
    /// When it is no layout, holds another number of images, or its documents are not what their
    /// digests say.
    pub(crate) fn open(layout: &Path) -> Result<Self, SealError> {
        let wrong = |why: String| SealError::Base {
            path: layout.to_owned(),
            why,
        };
        if !layout.join(LAYOUT_FILE).is_file() {
            return Err(wrong(format!("it has no `{LAYOUT_FILE}`")));
        }
        let index: Index = parse(&read(&layout.join(INDEX_FILE)).map_err(wrong)?).map_err(wrong)?;
        let [only] = index.manifests.as_slice() else {
            let count = index.manifests.len();
            return Err(wrong(format!("it holds {count} images, and one is meant")));
        };
        let only: Descriptor = serde_json::from_value(only.clone())?;
        if only.media_type != MANIFEST_TYPE {
            let kind = only.media_type.escape_debug();
            return Err(wrong(format!("it holds a `{kind}`, not one image")));
        }
        let digest = only.digest().map_err(wrong)?;
        let manifest = document(layout, &only).map_err(wrong)?;
        let manifest: Manifest = parse(&manifest).map_err(wrong)?;
        if manifest.layers.len() > LAYERS_MAX {
            return Err(wrong(format!("it has more than {LAYERS_MAX} layers")));
        }
        let config = document(layout, &manifest.config).map_err(wrong)?;
        let layers = manifest.layers.into_iter().map(|layer| {
            let descriptor: Descriptor = serde_json::from_value(layer.clone())?;
            Ok((descriptor, layer))
        });
        Ok(Self {
            layout: layout.to_owned(),
            digest,
            config: parse(&config).map_err(wrong)?,
            layers: layers.collect::<Result<_, serde_json::Error>>()?,
        })
    }

    /// Opens a layer. Its bytes are not checked: whoever reads them does that.
    ///
    /// # Errors
    /// When it is not there, or is named by another digest than SHA-256.
    pub(crate) fn layer(&self, layer: &Descriptor) -> Result<(File, Digest), SealError> {
        let digest = layer.digest();
        let opened = digest.and_then(|digest| Ok((open(&self.layout, digest)?, digest)));
        opened.map_err(|why| self.wrong(why))
    }

    /// Says what is wrong with it.
    pub(crate) fn wrong(&self, why: String) -> SealError {
        SealError::Base {
            path: self.layout.clone(),
            why,
        }
    }
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, String> {
        self.digest
            .parse()
            .map_err(|error: super::digest::InvalidDigest| error.to_string())
    }
}

fn open(layout: &Path, digest: Digest) -> Result<File, String> {
    let path = layout.join(BLOBS).join(digest.hex());
    File::open(&path).map_err(|error| unreadable(&path, &error))
}

fn document(layout: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
    let digest = descriptor.digest()?;
    let bytes = read(&layout.join(BLOBS).join(digest.hex()))?;
    if Digest::of(&bytes) == digest {
        Ok(bytes)
    } else {
        Err(format!("the bytes of {digest} are others"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| {
        let mut file = file.take(DOCUMENT_BYTES_MAX + 1);
        file.read_to_end(&mut bytes)
    });
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        let path = path.display();
        return Err(format!("`{path}` is longer than a document may be"));
    }
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes)
        .map_err(|error| format!("a document of it does not parse: {error}"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let why = crate::error::in_words(&error.to_string());
    format!("cannot read `{}`: {why}", path.display())
}
