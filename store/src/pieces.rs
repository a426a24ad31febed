//! A tree handed over piece by piece: the canonical bytes of its manifest, then those of each file in the
//! manifest's order. What they are is checked by whoever takes them: against the manifest.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::iter;

use codevol_protocol::id::BlobId;
use codevol_protocol::limits::PIECE_BYTES;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::path::RelPath;

/// Why a tree cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// A file cannot be opened.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: RelPath,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// A file is shorter than its entry says.
    #[error("`{0}` is shorter on this disk than the release says")]
    Short(RelPath),
}

/// Reads a tree piece by piece; all but the last are of one length.
#[derive(Debug)]
pub struct Pieces<'m, Open> {
    encoded: io::Cursor<Vec<u8>>,
    files: iter::Peekable<std::slice::Iter<'m, (RelPath, Entry)>>,
    /// The file that is being read, and how much of it is left.
    reading: Option<(&'m RelPath, File, u64)>,
    open: Open,
}

impl<'m, Open, E> Pieces<'m, Open>
where
    Open: FnMut(&RelPath, BlobId) -> Result<File, E>,
    E: Error + Send + Sync + 'static,
{
    /// Begins to hand over a tree whose files are opened by `open`.
    pub fn new(manifest: &'m Manifest, open: Open) -> Self {
        Self {
            encoded: io::Cursor::new(manifest.encode()),
            files: manifest.entries().iter().peekable(),
            reading: None,
            open,
        }
    }

    /// Returns the next piece; nothing after the last.
    ///
    /// # Errors
    /// When a file cannot be read, or is shorter than it should be.
    pub fn read_next(&mut self) -> Result<Option<Vec<u8>>, PieceError> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            let room = (PIECE_BYTES - piece.len()) as u64;
            if fill(&mut self.encoded, room, &mut piece).unwrap_or(0) > 0 {
                continue;
            }
            let Some((path, file, left)) = &mut self.reading else {
                if self.begin_next()? {
                    continue;
                }
                break;
            };
            let filled = fill(file, room.min(*left), &mut piece);
            let filled = filled.map_err(|source| PieceError::Read {
                path: path.clone(),
                source,
            })?;
            *left -= filled;
            if filled == 0 && *left > 0 {
                return Err(PieceError::Short(path.clone()));
            }
            if *left == 0 {
                self.reading = None;
            }
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Opens the next file; says no where there is none.
    fn begin_next(&mut self) -> Result<bool, PieceError> {
        for (path, entry) in self.files.by_ref() {
            let Some(blob) = entry.blob().filter(|_| entry.size() > 0) else {
                continue;
            };
            let opened = (self.open)(path, blob);
            let file = opened.map_err(|error| PieceError::Open {
                path: path.clone(),
                source: Box::new(error),
            })?;
            self.reading = Some((path, file, entry.size()));
            return Ok(true);
        }
        Ok(false)
    }
}

fn fill(from: impl io::Read, room: u64, piece: &mut Vec<u8>) -> io::Result<u64> {
    Ok(from.take(room).read_to_end(piece)? as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    fn tree(dir: &Path, files: &[(&str, Vec<u8>)]) -> Manifest {
        let entries = files.iter().map(|(name, bytes)| {
            let mut file = File::create(dir.join(name)).unwrap();
            file.write_all(bytes).unwrap();
            let entry = Entry::File {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                executable: false,
            };
            (name.parse().unwrap(), entry)
        });
        Manifest::new(entries.collect()).unwrap()
    }

    #[test]
    fn the_pieces_are_the_manifest_and_then_each_files_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let files = [
            ("a", vec![1; PIECE_BYTES + 7]),
            ("b", Vec::new()),
            ("c", vec![3; 5]),
        ];
        let manifest = tree(temp.path(), &files);
        let mut pieces = Pieces::new(&manifest, |path, _| {
            File::open(temp.path().join(path.as_str()))
        });
        let mut all = Vec::new();
        while let Some(piece) = pieces.read_next().unwrap() {
            assert!(piece.len() <= PIECE_BYTES);
            all.extend(piece);
        }
        let mut expected = manifest.encode();
        expected.extend(files.iter().flat_map(|(_, bytes)| bytes.clone()));
        assert!(all == expected, "{} and {}", all.len(), expected.len());
    }

    #[test]
    fn a_file_that_became_shorter_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let manifest = tree(temp.path(), &[("a", vec![1; 9])]);
        File::create(temp.path().join("a")).unwrap();
        let mut pieces = Pieces::new(&manifest, |path, _| {
            File::open(temp.path().join(path.as_str()))
        });
        let error = pieces.read_next().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a` is shorter on this disk than the release says"
        );
    }
}
