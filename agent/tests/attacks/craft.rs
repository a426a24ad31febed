//! Releases and pushes, good ones and others.

use std::collections::BTreeMap;

use codevol_peer::frame;
pub(crate) use codevol_peer::key;
use codevol_protocol::codec;
use codevol_protocol::delta::{Plan, Position, byte_segments, plan_without};
use codevol_protocol::id::{BlobId, FleetId, ManifestId, ReleaseId};
use codevol_protocol::key::{PublicKey, Signature};
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::message::PushHead;
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::patch;
use codevol_protocol::release::{Origin, Release, Seq, SignedRelease, UnixMillis};
use codevol_protocol::trust::{Publisher, Trust};
use serde::Serialize;

/// Who is who, by the seeds of their keys.
pub(crate) const SOURCE: u8 = 1;
pub(crate) const OPERATOR: u8 = 2;
pub(crate) const PUBLISHER: u8 = 3;
/// Publishes `lake`, not `pipes`.
pub(crate) const LAKE_PUBLISHER: u8 = 4;
pub(crate) const REVOKED: u8 = 5;
pub(crate) const STRANGER: u8 = 6;

pub(crate) fn pipes() -> VolumeName {
    "pipes".parse().unwrap()
}

pub(crate) fn lake() -> VolumeName {
    "lake".parse().unwrap()
}

pub(crate) fn fleet() -> FleetId {
    FleetId::of(b"fleet")
}

pub(crate) fn trust() -> Trust {
    let publisher = |seed, volumes| Publisher {
        key: key(seed).public(),
        volumes,
    };
    Trust {
        fleet: fleet(),
        epoch: 1,
        sources: vec![key(SOURCE).public()],
        publishers: vec![
            publisher(PUBLISHER, None),
            publisher(LAKE_PUBLISHER, Some(vec![lake()])),
            publisher(REVOKED, None),
        ],
        revoked: vec![key(REVOKED).public()],
    }
}

/// A release with all its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Crafted {
    pub(crate) record: Release,
    pub(crate) manifest: Manifest,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// Makes a release of these files.
pub(crate) fn craft(seq: u64, files: &[(&str, &[u8])]) -> Crafted {
    let files: BTreeMap<String, Vec<u8>> = files
        .iter()
        .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
        .collect();
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
    let manifest = Manifest::new(entries).unwrap();
    Crafted {
        record: record(seq, &manifest.encode(), &manifest),
        manifest,
        files,
    }
}

/// Makes the record of a manifest, given as bytes and with the totals of another.
pub(crate) fn record(seq: u64, bytes: &[u8], totals: &Manifest) -> Release {
    Release {
        fleet: fleet(),
        volume: pipes(),
        epoch: 1,
        seq: Seq(seq),
        parent: (seq > 1).then(|| ReleaseId::of(&seq.to_le_bytes())),
        manifest: ManifestId::of(bytes),
        manifest_bytes: bytes.len() as u64,
        entries: totals.entries().len() as u64,
        total_bytes: totals.total_bytes(),
        ignore_rules: BlobId::of(b""),
        created_at: UnixMillis(0),
        origin: Origin::Watch,
        author: Text::cut("alice"),
        host: Text::cut("src01"),
        message: Text::default(),
        git: None,
        fingerprints: Vec::new(),
    }
}

/// Puts a signed record together out of any parts.
pub(crate) fn signed(record: &[u8], key: &PublicKey, signature: &Signature) -> SignedRelease {
    codec::decode(&codec::encode(&(record, key, signature))).unwrap()
}

impl Crafted {
    pub(crate) fn signed(&self) -> SignedRelease {
        self.record.sign(&key(PUBLISHER))
    }

    pub(crate) fn id(&self) -> ReleaseId {
        self.signed().id()
    }

    pub(crate) fn dir_name(&self) -> String {
        codevol_protocol::release::dir_name(self.record.seq, &self.id())
    }

    pub(crate) fn plan(&self, base: Option<&Self>, missing: &[BlobId]) -> Plan {
        let missing = missing.iter().copied().collect();
        let old = base.map(|base| &base.manifest);
        plan_without(
            old,
            &self.manifest,
            &missing,
            codevol_protocol::delta::Cut::default(),
        )
    }

    /// The push as an honest source sends it.
    pub(crate) fn push(&self, base: Option<&Self>) -> Push {
        self.push_with(base, &[], Position::default())
    }

    pub(crate) fn push_with(
        &self,
        base: Option<&Self>,
        missing: &[BlobId],
        start: Position,
    ) -> Push {
        let manifest = self.manifest.encode();
        let old = base.map(|base| base.manifest.encode()).unwrap_or_default();
        let pieces = self.plan(base, missing);
        let pieces = pieces.pieces_from(start).map(|piece| {
            let index = usize::try_from(piece.position.entry).unwrap();
            let path = self.manifest.entries()[index].0.as_str();
            let plain = &self.files[path];
            let range = |offset: u64, length: u64| {
                usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()
            };
            let prefix = piece.prefix.as_ref().map_or(&[][..], |prefix| {
                &base.unwrap().files[prefix.path.as_str()][range(prefix.offset, prefix.length)]
            });
            patch::compress(&plain[range(piece.offset, piece.length)], prefix).unwrap()
        });
        Push {
            head: PushHead {
                volume: pipes(),
                release: self.signed(),
                base: base.map(Self::id),
                same_manifest: false,
                start,
                missing: missing.to_vec(),
            },
            manifest: manifest_frames(&manifest, &old),
            pieces: pieces.collect(),
        }
    }
}

pub(crate) fn manifest_frames(plain: &[u8], old: &[u8]) -> Vec<Vec<u8>> {
    byte_segments(plain.len(), old.len())
        .map(|(range, prefix)| patch::compress(&plain[range], &old[prefix]).unwrap())
        .collect()
}

/// What travels on a push stream.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub(crate) head: PushHead,
    pub(crate) manifest: Vec<Vec<u8>>,
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Push {
    /// A push of which nothing but the record and the manifest's bytes matters.
    pub(crate) fn raw(release: SignedRelease, manifest: &[u8]) -> Self {
        Self {
            head: PushHead {
                volume: pipes(),
                release,
                base: None,
                same_manifest: false,
                start: Position::default(),
                missing: Vec::new(),
            },
            manifest: manifest_frames(manifest, &[]),
            pieces: Vec::new(),
        }
    }

    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let head = codec::encode(&self.head);
        let rest = self.manifest.iter().chain(&self.pieces).cloned();
        std::iter::once(head).chain(rest).collect()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.frames()
            .iter()
            .flat_map(|bytes| frame(bytes))
            .collect()
    }
}

/// A frame, whatever it holds.
/// An entry on the wire that no constructor of ours would make.
#[derive(Debug, Clone, Serialize)]
pub(crate) enum RawEntry {
    File {
        blob: BlobId,
        size: u64,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    Dir,
}

pub(crate) fn raw_file(text: &str) -> RawEntry {
    RawEntry::File {
        blob: BlobId::of(text.as_bytes()),
        size: text.len() as u64,
        executable: false,
    }
}

pub(crate) fn raw_link(target: &str) -> RawEntry {
    RawEntry::Symlink {
        target: target.to_owned(),
    }
}

/// A well-signed push of a manifest that lists these entries, with totals that add up.
pub(crate) fn push_of_entries(seq: u64, entries: &[(&str, RawEntry)]) -> Push {
    let bytes = codec::encode_record(1, &entries);
    let mut record = record(seq, &bytes, &Manifest::default());
    record.entries = entries.len() as u64;
    record.total_bytes = entries
        .iter()
        .map(|(_, entry)| match entry {
            RawEntry::File { size, .. } => *size,
            RawEntry::Symlink { .. } | RawEntry::Dir => 0,
        })
        .sum();
    Push::raw(record.sign(&key(PUBLISHER)), &bytes)
}
