//! Reading the source's own store through: whether every blob is there, and is what its name says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codevol_protocol::chain::Chain;
use codevol_protocol::drift::{Pass, SourceVerified};
use codevol_protocol::id::BlobId;
use codevol_protocol::name::Text;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::history::{History, HistoryError};

/// How far it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    read: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl Progress {
    pub(crate) fn pass(&self) -> Pass {
        Pass {
            files: self.read.load(Ordering::Relaxed),
            files_all: self.all.load(Ordering::Relaxed),
        }
    }
}

/// Reads every blob; less where it is stopped. Damage is no failure.
pub(crate) fn check(
    history: &History,
    progress: &Progress,
    stop: &CancellationToken,
) -> SourceVerified {
    let mut damaged = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let checked = read_all(history, (progress, stop), &mut damaged)
        .and_then(|()| find_missing(history, &mut missing));
    let blobs = progress.pass().files;
    let mut verified = SourceVerified::new(blobs, &damaged, &missing);
    verified.failure = match checked {
        Ok(()) if stop.is_cancelled() => Some(Text::cut("it was given up")),
        Ok(()) => None,
        Err(error) => Some(Text::cut(Chain(&error).to_string())),
    };
    verified
}

fn read_all(
    history: &History,
    (progress, stop): (&Progress, &CancellationToken),
    damaged: &mut BTreeSet<BlobId>,
) -> Result<(), HistoryError> {
    let blobs = history.blobs();
    let ids = blobs.ids()?;
    progress.all.store(ids.len() as u64, Ordering::Relaxed);
    for id in ids {
        if stop.is_cancelled() {
            return Ok(());
        }
        match blobs.check(id) {
            Ok(()) => {}
            // Swept meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                warn!(blob = %id, error = %Chain(&error), "a stored blob is damaged");
                damaged.insert(id);
            }
        }
        progress.read.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Finds blobs of kept releases that are gone.
fn find_missing(history: &History, missing: &mut BTreeSet<BlobId>) -> Result<(), HistoryError> {
    for release in history.releases() {
        let id = release.release().manifest;
        let gone = match history.manifest(id) {
            Ok(manifest) => {
                let blobs: BTreeSet<BlobId> = manifest
                    .entries()
                    .iter()
                    .filter_map(|(_, entry)| entry.blob())
                    .collect();
                absent(history, blobs)?
            }
            // Its files are not kept any more.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        // One that is being collected loses its manifest first.
        if !gone.is_empty() && history.manifest(id).is_ok() {
            missing.extend(gone);
        }
    }
    Ok(())
}

fn absent(history: &History, blobs: BTreeSet<BlobId>) -> Result<Vec<BlobId>, HistoryError> {
    let mut gone = Vec::new();
    for blob in blobs {
        if !history.blobs().has(blob)? {
            gone.push(blob);
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use codevol_protocol::manifest::{Entry, Manifest};
    use codevol_store::dir::Dir;
    use codevol_store::landing::Landing;

    use super::*;
    use crate::history::tests::signed;

    fn publish(history: &History, files: &[(&str, &[u8])]) {
        let entries = files.iter().map(|(path, bytes)| {
            let entry = Entry::File {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                executable: false,
            };
            (path.parse().unwrap(), entry)
        });
        let manifest = Manifest::new(entries.collect()).unwrap();
        for (_, bytes) in files {
            history.blobs().put(bytes).unwrap();
        }
        let signed = signed(1, None, &manifest);
        let manifest = Arc::new(manifest);
        history
            .append(&signed, &manifest, b"", Landing::default())
            .unwrap();
    }

    #[test]
    fn damaged_and_missing_blobs_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let history = History::open(&Dir::open(temp.path()).unwrap()).unwrap();
        publish(&history, &[("a.py", b"a"), ("b.py", b"b"), ("c.py", b"c")]);
        let check = || check(&history, &Progress::default(), &CancellationToken::new());
        let whole = check();
        assert!(whole.is_whole() && whole.failure.is_none(), "{whole:?}");
        // The three, and the rules.
        assert_eq!(whole.blobs, 4);
        let path = |bytes: &[u8]| {
            let id = BlobId::of(bytes).to_string();
            let (fan, name) = id.split_at(2);
            temp.path().join("blobs").join(fan).join(name)
        };
        fs::remove_file(path(b"a")).unwrap();
        fs::copy(path(b"c"), path(b"b")).unwrap();
        let found = check();
        assert_eq!(found.missing, [BlobId::of(b"a")]);
        assert_eq!(found.damaged, [BlobId::of(b"b")]);
        assert!(!found.is_whole());
    }

    #[test]
    fn what_is_given_up_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let history = History::open(&Dir::open(temp.path()).unwrap()).unwrap();
        publish(&history, &[("a.py", b"a")]);
        let stop = CancellationToken::new();
        stop.cancel();
        let found = check(&history, &Progress::default(), &stop);
        assert_eq!(found.blobs, 0);
        assert!(found.failure.is_some());
    }
}
