//! What an image says of the release in it: labels of its configuration, and the same as annotations.

use std::collections::BTreeMap;

use codevol_protocol::id::FleetId;
use codevol_protocol::marker::Marker;

use super::prefix::Prefix;

/// Our labels begin so: image labels are named by domain, backwards.
const OURS: &str = "io.github.codevol";
const STANDARD: &str = "org.opencontainers.image";
/// The standard's name of the image that another is built on.
pub(crate) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// The standard's name of what a tool may call an image of a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Returns the labels of a release.
pub(crate) fn of(marker: &Marker, fleet: &FleetId, prefix: &Prefix) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut ours = |key: &str, value: String| labels.insert(format!("{OURS}.{key}"), value);
    ours("fleet", fleet.to_string());
    ours("volume", marker.volume.to_string());
    ours("release.seq", marker.seq.0.to_string());
    ours("release.id", marker.id.to_string());
    ours("release.manifest", marker.manifest.to_string());
    ours("prefix", prefix.to_string());
    if let Some(git) = &marker.git {
        ours("git.commit", git.commit.to_string());
        ours("git.dirty", git.dirty.to_string());
        if let Some(branch) = &git.branch {
            ours("git.branch", branch.to_string());
        }
    }
    let mut standard = |key: &str, value: String| labels.insert(format!("{STANDARD}.{key}"), value);
    standard("title", marker.volume.to_string());
    standard("version", marker.seq.to_string());
    standard("created", marker.created_at.to_string());
    if let Some(git) = &marker.git {
        standard("revision", git.commit.to_string());
    }
    labels
}
