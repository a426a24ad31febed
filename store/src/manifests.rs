//! Manifests by id: the canonical bytes, each in a file that is named by their hash.

use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::id::ManifestId;
use codevol_protocol::limits::MANIFEST_BYTES_MAX;
use codevol_protocol::manifest::{Manifest, ManifestError};

use crate::dir::{Dir, DirError};
use crate::landing::{Arrival, Content, Landing};
use crate::persist;
use crate::wal::Place;

const MODE: u32 = 0o600;

/// The manifests that are kept in one directory.
#[derive(Debug)]
pub struct Manifests {
    dir: Arc<Dir>,
}

/// A manifest cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// The file cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The file holds other bytes than its name says.
    #[error("manifest `{0}` is damaged on disk")]
    Damaged(ManifestId),
    /// The bytes are those of the name, and no manifest.
    #[error("manifest `{id}` breaks a rule of the tree")]
    Invalid {
        /// The manifest.
        id: ManifestId,
        /// Which rule.
        source: ManifestError,
    },
}

impl ManifestsError {
    /// Whether there is no such manifest here.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Dir(error) => error.is_not_found(),
            Self::Damaged(_) | Self::Invalid { .. } => false,
        }
    }
}

impl Manifests {
    /// Takes a directory that holds nothing else, and removes what was never finished. What stands
    /// under its name is durable when this returns.
    ///
    /// # Errors
    /// When the directory cannot be read or made durable.
    pub fn open(dir: &Dir) -> Result<Self, ManifestsError> {
        persist::take_over(dir)?;
        let dir = Arc::new(dir.try_clone()?);
        Ok(Self { dir })
    }

    /// Puts a manifest that was written ahead in its place. Before the manifests are opened.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(dir: &Dir, name: &str, bytes: &[u8]) -> Result<(), DirError> {
        persist::restore(dir, name, MODE, bytes)
    }

    /// Has a manifest land together with other files. A damaged one of that id is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn land(
        &self,
        manifest: &Manifest,
        landing: &mut Landing,
    ) -> Result<ManifestId, ManifestsError> {
        let bytes = manifest.encode();
        let id = ManifestId::of(&bytes);
        let name = id.to_string();
        let held = self.dir.read(&name, MANIFEST_BYTES_MAX);
        if !held.is_ok_and(|held| held == bytes) {
            landing.add(Arrival {
                place: Place::Manifests,
                dir: self.dir.clone(),
                path: name,
                mode: MODE,
                content: Content::Bytes(bytes),
            });
        }
        Ok(id)
    }

    /// Whether a manifest of that id is kept; its bytes are not looked at.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn has(&self, id: ManifestId) -> Result<bool, ManifestsError> {
        Ok(self.dir.stat(&id.to_string())?.is_some())
    }

    /// Reads a manifest and checks that it is the one of that id.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn read(&self, id: ManifestId) -> Result<Manifest, ManifestsError> {
        let bytes = self.read_bytes(id)?;
        Manifest::decode(&bytes).map_err(|source| ManifestsError::Invalid { id, source })
    }

    /// Reads the canonical bytes of a manifest and checks that they are those of that id.
    ///
    /// # Errors
    /// When they are not there or damaged.
    pub fn read_bytes(&self, id: ManifestId) -> Result<Vec<u8>, ManifestsError> {
        let bytes = self.dir.read(&id.to_string(), MANIFEST_BYTES_MAX)?;
        if ManifestId::of(&bytes) == id {
            Ok(bytes)
        } else {
            Err(ManifestsError::Damaged(id))
        }
    }

    /// Returns every manifest but these, and its length.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn surplus(
        &self,
        keep: &BTreeSet<ManifestId>,
    ) -> Result<Vec<(ManifestId, u64)>, ManifestsError> {
        let mut surplus = Vec::new();
        for (name, _) in self.dir.entries()? {
            let id = name.to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|id: &ManifestId| !keep.contains(id)) {
                let stat = self.dir.stat(&id.to_string())?;
                surplus.extend(stat.map(|stat| (id, stat.size)));
            }
        }
        Ok(surplus)
    }

    /// Removes a manifest. Where it is not there, that is fine.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, id: ManifestId) -> Result<(), ManifestsError> {
        Ok(self.dir.remove_file(&id.to_string())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use codevol_protocol::manifest::Entry;

    use super::*;

    fn put(manifests: &Manifests, manifest: &Manifest) -> ManifestId {
        let mut landing = Landing::default();
        let id = manifests.land(manifest, &mut landing).unwrap();
        let _created = landing.commit(None).unwrap();
        id
    }

    fn manifest(name: &str) -> Manifest {
        Manifest::new(vec![(name.parse().unwrap(), Entry::Dir)]).unwrap()
    }

    #[test]
    fn a_manifest_reads_back_by_its_id_until_it_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let manifests = Manifests::open(&Dir::open(temp.path()).unwrap()).unwrap();
        let (a, b) = (manifest("a"), manifest("b"));
        let (id_a, id_b) = (put(&manifests, &a), put(&manifests, &b));
        assert_eq!(id_a, a.id());
        assert_eq!(manifests.read(id_a).unwrap(), a);
        let surplus = manifests.surplus(&BTreeSet::from([id_b])).unwrap();
        assert_eq!(surplus, [(id_a, a.encode().len() as u64)]);
        manifests.remove(id_a).unwrap();
        assert!(!manifests.has(id_a).unwrap());
        assert!(manifests.read(id_a).unwrap_err().is_not_found());
        assert_eq!(manifests.read(id_b).unwrap(), b);
    }

    #[test]
    fn a_damaged_manifest_is_never_returned_and_is_replaced_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let manifests = Manifests::open(&Dir::open(temp.path()).unwrap()).unwrap();
        let a = manifest("a");
        let id = put(&manifests, &a);
        let path = temp.path().join(id.to_string());
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
        assert!(matches!(manifests.read(id), Err(ManifestsError::Damaged(found)) if found == id));
        put(&manifests, &a);
        assert_eq!(manifests.read(id).unwrap(), a);
    }
}
