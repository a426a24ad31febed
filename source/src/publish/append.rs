//! From a scanned tree to a release of the log: files and manifest durable, then the record named.

use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::call::CallFailure;
use codevol_protocol::id::{BlobId, FleetId, ManifestId};
use codevol_protocol::key::SecretKey;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::release::{Fingerprint, Git, Origin, Release, Seq};
use codevol_store::blobs::BlobError;
use codevol_store::landing::Landing;
use codevol_store::state::StateError;

use crate::bus::now;
use crate::history::{History, HistoryError, Published};
use crate::scan::{ScanError, Scanner};
use crate::watch::WatchError;

/// Signs what a source publishes.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The fleet.
    pub fleet: FleetId,
    /// The epoch of the trust record.
    pub epoch: u64,
    /// The publisher key.
    pub key: SecretKey,
    /// This host, for people.
    pub host: Text,
}

/// A tree could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The tree cannot be looked at.
    #[error("cannot scan the tree")]
    Scan(#[from] ScanError),
    /// A file changed between scan and read: scan again.
    #[error("the tree keeps changing while it is read")]
    Moved,
    /// The history cannot be written.
    #[error("cannot write the release")]
    History(#[from] HistoryError),
    /// The tree cannot be watched.
    #[error("cannot watch the tree")]
    Watch(#[from] WatchError),
    /// A blob cannot be written.
    #[error("cannot store a file")]
    Blob(#[from] BlobError),
    /// What is about to be written to the tree cannot be kept.
    #[error("cannot keep what is about to be written to the tree")]
    Intent(#[from] StateError),
    /// The hot-fix does not fit into the release that it is laid over.
    #[error("the hot-fix does not fit into the live tree")]
    Overlay(#[source] Box<CallFailure>),
}

/// What is to be published, and why.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) manifest: Arc<Manifest>,
    pub(super) rules: Vec<u8>,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) origin: Origin,
    pub(super) author: Text,
    /// The host that the files come from, for people.
    pub(super) host: Text,
    pub(super) message: Text,
    pub(super) git: Option<Git>,
}

/// Appends the release, with the files that are to `land` with it.
pub(super) fn append(
    history: &History,
    volume: &VolumeName,
    signer: &Signer,
    draft: Draft,
    landing: Landing,
) -> Result<Arc<Published>, PublishError> {
    let encoded = draft.manifest.encode();
    let head = history.head();
    let release = Release {
        fleet: signer.fleet,
        volume: volume.clone(),
        epoch: signer.epoch,
        seq: Seq(head.as_ref().map_or(1, |head| head.seq().0 + 1)),
        parent: head.map(|head| head.id()),
        manifest: ManifestId::of(&encoded),
        manifest_bytes: encoded.len() as u64,
        entries: draft.manifest.entries().len() as u64,
        total_bytes: draft.manifest.total_bytes(),
        ignore_rules: BlobId::of(&draft.rules),
        created_at: now(),
        origin: draft.origin,
        author: draft.author,
        host: draft.host,
        message: draft.message,
        git: draft.git,
        fingerprints: draft.fingerprints,
    };
    let signed = release.sign(&signer.key);
    Ok(history.append(&signed, &draft.manifest, &draft.rules, landing)?)
}

/// Writes the files that the history does not hold yet; what is read must be what was scanned.
pub(super) fn store(
    history: &History,
    scanner: &Scanner,
    manifest: &Manifest,
    known: Option<&Manifest>,
) -> Result<Landing, PublishError> {
    let mut known = known.map_or(&[][..], Manifest::entries).iter().peekable();
    let mut batch = history.blobs().batch();
    let mut seen = BTreeSet::new();
    for (path, entry) in manifest.entries() {
        while known.next_if(|(before, _)| before < path).is_some() {}
        let before = known.next_if(|(same, _)| same == path);
        let Entry::File { blob, .. } = entry else {
            continue;
        };
        let is_known = before.is_some_and(|(_, before)| before.blob() == Some(*blob));
        if is_known || !seen.insert(*blob) || history.blobs().has(*blob)? {
            continue;
        }
        let mut file = match scanner.open_file(path) {
            Ok(file) => file,
            Err(error) if error.is_retryable() => return Err(PublishError::Moved),
            Err(error) => return Err(error.into()),
        };
        match batch.put_expected(&mut file, *blob) {
            Ok(_) => {}
            Err(BlobError::Other { .. }) => return Err(PublishError::Moved),
            Err(error) => return Err(error.into()),
        }
    }
    let mut landing = Landing::default();
    batch.land(&mut landing);
    Ok(landing)
}
