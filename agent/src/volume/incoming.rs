//! The blobs of a release that is on its way. Each is kept under its own hash, so that a restart can
//! tell whole ones from torn ones; of a large file each segment's hash is kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use codevol_protocol::delta::{Cut, Piece, Plan, Position, Step};
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;
use codevol_store::blanks::Blanks;
use codevol_store::dir::{Dir, DirError};

use super::check;
use super::stage::StageError;

#[derive(Debug)]
pub(super) struct Incoming {
    dir: Dir,
    received: BTreeSet<BlobId>,
    part: Option<Part>,
}

/// A large file of which the first segments are there.
#[derive(Debug)]
struct Part {
    blob: BlobId,
    segments: u64,
    hasher: blake3::Hasher,
    file: File,
    hashes: File,
}

/// A file of the new tree, as its entry says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) blob: BlobId,
    pub(super) size: u64,
}

impl Incoming {
    /// Takes up what an earlier attempt left: what re-hashes is kept, all else removed.
    pub(super) fn resume(dir: Dir, manifest: &Manifest, cut: Cut) -> Result<Self, DirError> {
        let sizes: BTreeMap<BlobId, u64> = manifest
            .entries()
            .iter()
            .filter_map(|(_, entry)| Some((entry.blob()?, entry.size())))
            .collect();
        let mut incoming = Self::none(dir);
        for (name, _) in incoming.dir.entries()? {
            let Some(name) = name.to_str() else { continue };
            if !incoming.keep(name, &sizes, cut)? {
                incoming.dir.remove_tree(name)?;
            }
        }
        Ok(incoming)
    }

    /// Takes one file up, where it is one of ours and what it says it is.
    fn keep(
        &mut self,
        name: &str,
        sizes: &BTreeMap<BlobId, u64>,
        cut: Cut,
    ) -> Result<bool, DirError> {
        let (id, extension) = name.split_once('.').unwrap_or((name, ""));
        let Ok(blob) = id.parse::<BlobId>() else {
            return Ok(false);
        };
        let Some(&size) = sizes.get(&blob) else {
            return Ok(false);
        };
        match extension {
            "" if check::hash(&self.dir, name, size)? == Some(blob) => {
                self.received.insert(blob);
                Ok(true)
            }
            "part" if self.part.is_none() => {
                self.part = self.resume_part(Target { blob, size }, cut)?;
                Ok(self.part.is_some())
            }
            "segments" => Ok(self.part.as_ref().is_some_and(|part| part.blob == blob)),
            _ => Ok(false),
        }
    }

    /// Copies the segments that still are what was recorded, so that what follows them is gone.
    fn resume_part(&self, target: Target, cut: Cut) -> Result<Option<Part>, DirError> {
        let blob = target.blob;
        let bytes_max = cut.segments(target.size) * blake3::OUT_LEN as u64;
        let Ok(recorded) = self.dir.read(&hashes_name(blob), bytes_max) else {
            return Ok(None);
        };
        let before = match self.dir.open_file(&part_name(blob)) {
            Ok(file) => file,
            Err(error) => return check::no_file(error),
        };
        let mut part = Part::create(&self.dir, blob)?;
        for hash in recorded.chunks_exact(blake3::OUT_LEN) {
            let mut bytes = Vec::new();
            (&before)
                .take(cut.segment_bytes)
                .read_to_end(&mut bytes)
                .map_err(|source| io_error("read", blob, source))?;
            let whole = bytes.len() as u64 == cut.segment_bytes;
            if !whole || blake3::hash(&bytes).as_bytes() != hash {
                break;
            }
            part.append(&bytes, cut)?;
        }
        Ok(Some(part))
    }

    /// Returns what holds nothing.
    pub(super) const fn none(dir: Dir) -> Self {
        Self {
            dir,
            received: BTreeSet::new(),
            part: None,
        }
    }

    /// Whether a blob is here, whole and verified.
    pub(super) fn has(&self, blob: BlobId) -> bool {
        self.received.contains(&blob)
    }

    /// Returns the first segment of a blob that is not here.
    fn next_segment(&self, blob: BlobId) -> u64 {
        let part = self.part.as_ref().filter(|part| part.blob == blob);
        part.map_or(0, |part| part.segments)
    }

    /// Returns the first place of the plan of which the piece is not here.
    pub(super) fn position(&self, plan: &Plan, manifest: &Manifest) -> Position {
        let steps = (0..).zip(plan.steps()).zip(manifest.entries());
        for ((entry, step), (_, file)) in steps {
            if let (Step::Receive { .. }, Some(blob)) = (step, file.blob())
                && !self.has(blob)
            {
                let segment = self.next_segment(blob);
                return Position { entry, segment };
            }
        }
        Position {
            entry: manifest.entries().len() as u64,
            segment: 0,
        }
    }

    /// Takes a piece. One that is here already is passed over.
    pub(super) fn write(
        &mut self,
        target: Target,
        (piece, cut): (&Piece, Cut),
        bytes: &[u8],
        blanks: &Blanks,
    ) -> Result<(), StageError> {
        let Target { blob, size } = target;
        let segment = piece.position.segment;
        if self.has(blob) || segment < self.next_segment(blob) {
            return Ok(());
        }
        if bytes.len() as u64 != piece.length {
            return Err(StageError::WrongBytes(blob));
        }
        if cut.segments(size) == 1 {
            return self.write_whole(blob, bytes, blanks);
        }
        if segment == 0 {
            self.part = Some(Part::create(&self.dir, blob)?);
        }
        let Some(mut part) = self
            .part
            .take_if(|part| part.blob == blob && part.segments == segment)
        else {
            return Err(StageError::OutOfOrder(piece.position));
        };
        part.append(bytes, cut)?;
        if part.segments < cut.segments(size) {
            self.part = Some(part);
            return Ok(());
        }
        let hash = BlobId::from(part.hasher.finalize());
        self.dir.remove_file(&hashes_name(blob))?;
        if hash != blob {
            self.dir.remove_file(&part_name(blob))?;
            return Err(StageError::WrongBytes(blob));
        }
        self.dir
            .rename(&part_name(blob), &self.dir, &blob.to_string())?;
        self.received.insert(blob);
        Ok(())
    }

    fn write_whole(
        &mut self,
        blob: BlobId,
        bytes: &[u8],
        blanks: &Blanks,
    ) -> Result<(), StageError> {
        if BlobId::of(bytes) != blob {
            return Err(StageError::WrongBytes(blob));
        }
        let name = blob.to_string();
        self.dir.remove_file(&name)?;
        let mut file = blanks.create_file(&self.dir, &name, 0o600)?;
        file.write_all(bytes)
            .map_err(|source| io_error("write", blob, source))?;
        self.received.insert(blob);
        Ok(())
    }

    /// Moves a blob to its path in a tree.
    pub(super) fn place(&mut self, blob: BlobId, to: &Dir, name: &str) -> Result<(), DirError> {
        self.dir.rename(&blob.to_string(), to, name)?;
        self.received.remove(&blob);
        Ok(())
    }
}

impl Part {
    fn create(dir: &Dir, blob: BlobId) -> Result<Self, DirError> {
        let create = |name: String| {
            dir.remove_file(&name)?;
            dir.create_file(&name, 0o600)
        };
        Ok(Self {
            blob,
            segments: 0,
            hasher: blake3::Hasher::new(),
            hashes: create(hashes_name(blob))?,
            file: create(part_name(blob))?,
        })
    }

    /// The bytes go before their hash: a hash that is there has its bytes, or does not match.
    fn append(&mut self, bytes: &[u8], cut: Cut) -> Result<(), DirError> {
        let io = |source| io_error("write", self.blob, source);
        let offset = self.segments * cut.segment_bytes;
        self.file.write_all_at(bytes, offset).map_err(io)?;
        self.hashes
            .write_all(blake3::hash(bytes).as_bytes())
            .map_err(io)?;
        self.hasher.update(bytes);
        self.segments += 1;
        Ok(())
    }
}

fn part_name(blob: BlobId) -> String {
    format!("{blob}.part")
}

fn hashes_name(blob: BlobId) -> String {
    format!("{blob}.segments")
}

fn io_error(action: &'static str, blob: BlobId, source: io::Error) -> DirError {
    let path = blob.to_string();
    DirError::Io {
        action,
        path,
        source,
    }
}
