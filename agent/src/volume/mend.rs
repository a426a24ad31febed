//! Replacing damaged files: what was fetched again goes to every held release that shares it.

use codevol_protocol::id::BlobId;
use codevol_store::dir::{Dir, DirError};

use super::Root;
use super::check::hash;
use super::cursor::Cursor;
use super::held::Held;
use super::land::{Landed, Spot, mode};
use super::stage::Staging;

const MENDED: &str = "mended";

/// Goes through every held release but the new one, whose files are the good ones.
/// What cannot be mended stays damaged, and is found again by the next that looks.
pub(super) fn mend(root: &Root, staging: &Staging, landed: &Landed) {
    let releases = &staging.places.releases;
    for held in root
        .held
        .values()
        .filter(|held| held.id() != staging.next.id())
    {
        let mended = releases.open_dir(&held.dir_name()).and_then(|dir| {
            let good = releases.open_dir(&staging.next.dir_name())?;
            mend_release((held, &dir), (staging, &good), landed)
        });
        if let Err(error) = mended {
            tracing::warn!(release = %held.id(), error = %error, "damaged files stay");
        }
    }
}

fn mend_release(
    (held, dir): (&Held, &Dir),
    (staging, good): (&Staging, &Dir),
    landed: &Landed,
) -> Result<(), DirError> {
    let mut cursor = Cursor::new(dir);
    for (path, entry) in held.manifest().entries() {
        let Some(blob) = entry.blob().filter(|blob| staging.resent().contains(blob)) else {
            continue;
        };
        let (parent, name) = cursor.make(path)?;
        if hash(parent, name, entry.size())? == Some(blob) {
            continue;
        }
        let Some(from) = path_of(&staging.next, blob) else {
            continue;
        };
        staging.dir.remove_file(MENDED)?;
        let to = Spot {
            dir: &staging.dir,
            name: MENDED,
        };
        let from = Spot {
            dir: good,
            name: from,
        };
        landed.bring(from, to, path, (mode(entry), true))?;
        staging.dir.rename(MENDED, parent, name)?;
        parent.sync()?;
        tracing::warn!(release = %held.id(), %path, "damaged file replaced");
    }
    Ok(())
}

fn path_of(held: &Held, blob: BlobId) -> Option<&str> {
    let mut entries = held.manifest().entries().iter();
    let (path, _) = entries.find(|(_, entry)| entry.blob() == Some(blob))?;
    Some(path.as_str())
}
