//! The looks themselves, on threads of their own: at paths, at a release, at all that somebody asks
//! for; and putting back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use codevol_protocol::chain::Chain;
use codevol_protocol::drift::{Content, Depth, Drifted, Looked};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::limits::{DRIFT_BYTES_MAX, DRIFT_CONTENT_BYTES_MAX, DRIFT_MAX};
use codevol_protocol::message::Failure;
use codevol_protocol::name::Text;
use codevol_protocol::release::Seq;
use codevol_store::dir::DirError;

use super::standing::{Standing, told};
use crate::volume::{Drift, Found, Look, Pace, Restored, Root, Seen};

/// A longer file does not travel, in bytes.
const CONTENT_BYTES_MAX: u64 = 256 << 10;

/// What was found in one release: at which path, and below it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) of: (ReleaseId, Seq),
    pub(super) parts: Vec<(String, Found)>,
}

/// Looks at single paths of a release; nothing where it was stopped.
pub(super) fn at(
    look: &Look,
    paths: &BTreeSet<String>,
    pace: &mut Pace,
) -> Result<Option<Parts>, DirError> {
    let mut parts: Vec<(String, Found)> = Vec::new();
    for path in paths {
        match look.at(path, pace)? {
            Some(part) => parts.push(part),
            None => return Ok(None),
        }
    }
    let of = (look.release(), look.seq());
    Ok(Some(Parts { of, parts }))
}

/// What was put back in one release.
#[derive(Debug)]
pub(super) struct PutBack {
    pub(super) release: ReleaseId,
    pub(super) restored: Restored,
}

/// Puts back what drifts in these releases; less where it was stopped.
pub(super) fn put_back(
    root: &Arc<Mutex<Root>>,
    wanted: Vec<(Look, Found)>,
    pace: &mut Pace,
) -> Result<Vec<PutBack>, DirError> {
    let restoring = lock(root).restoring()?;
    let mut all = Vec::new();
    for (look, found) in wanted {
        let release = look.release();
        match restoring.run(&look, &found, pace)? {
            Some(restored) => all.push(PutBack { release, restored }),
            None => break,
        }
    }
    Ok(all)
}

/// What a look that somebody asked for found.
#[derive(Debug)]
pub(super) struct Asked {
    /// Whether `current` was flipped, where that was looked at.
    pub(super) flipped: Option<bool>,
    /// Each release that was looked at whole.
    pub(super) releases: Vec<((ReleaseId, Seq), Found)>,
    /// The answer; what the code servers loaded is not in it yet.
    pub(super) looked: Looked,
}

/// Looks as far as somebody asks.
pub(super) fn asked(
    root: &Arc<Mutex<Root>>,
    (looks, depth): (&[Look], Depth),
    pace: &mut Pace,
) -> Asked {
    let began = Instant::now();
    let mut asked = Asked {
        flipped: None,
        releases: Vec::new(),
        looked: Looked {
            active: None,
            drifted: Drifted::default(),
            contents: Vec::new(),
            verification: None,
            releases: 0,
            files: 0,
            bytes: 0,
            elapsed_ms: 0,
            failure: None,
        },
    };
    let mut standing = Standing::default();
    let (active, flipped) = {
        let root = lock(root);
        (active(&root), root.is_flipped())
    };
    let looked = flipped.and_then(|flipped| {
        asked.flipped = Some(flipped);
        standing.current(flipped);
        let mut seen = Seen::default();
        for look in looks {
            let Some(found) = look.whole(pace, &mut seen)? else {
                return Ok(false);
            };
            // One that was collected under the look is no drift.
            if !lock(root).held().contains_key(&look.release()) {
                continue;
            }
            let of = (look.release(), look.seq());
            standing.part(of, "", &found);
            asked.looked.releases += 1;
            if depth == Depth::Contents {
                asked.looked.contents = contents(look, &found);
            }
            asked.releases.push((of, found));
        }
        Ok(true)
    });
    let failure = match looked {
        Ok(true) => None,
        Ok(false) => Some(Failure::new("stopped", "the look was given up")),
        Err(error) => Some(Failure::new("io", Chain(&error).to_string())),
    };
    let (list, more) = standing.list(active);
    asked.looked.active = active.map(|(id, seq)| (seq, id));
    asked.looked.drifted = Drifted::cut(list, more);
    asked.looked.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    asked.looked.failure = failure;
    asked
}

/// Returns the active release and its place in the history.
pub(super) fn active(root: &Root) -> Option<(ReleaseId, Seq)> {
    let id = root.active()?;
    Some((id, root.held().get(&id)?.release().seq))
}

/// Returns what lies at the paths that differ, as much as one message carries.
fn contents(look: &Look, found: &Found) -> Vec<Content> {
    let (mut bytes_left, mut paths_left) = (DRIFT_CONTENT_BYTES_MAX as u64, DRIFT_BYTES_MAX);
    let mut contents = Vec::new();
    for drift in found.drift.iter().take(DRIFT_MAX) {
        let Some(left) = paths_left.checked_sub(drift.path.len()) else {
            break;
        };
        paths_left = left;
        let content = look.content(&drift.path, bytes_left.min(CONTENT_BYTES_MAX));
        // What cannot be read is shown by its path and kind alone.
        let (shape, bytes) = content.unwrap_or_default();
        bytes_left -= bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        contents.push(Content {
            path: told(look.seq(), drift).path,
            kind: drift.kind,
            shape,
            bytes,
        });
    }
    contents
}

/// Returns what could not be put back, in words, and the blobs to ask for.
pub(super) fn left(restored: &Restored) -> (Vec<(&Drift, Text)>, &BTreeSet<BlobId>) {
    let failed = restored.failed.iter().map(|(drift, error)| {
        let why = error.as_ref().map_or_else(
            || "it is not as released yet".to_owned(),
            |error| Chain(error).to_string(),
        );
        (drift, Text::cut(why))
    });
    (failed.collect(), &restored.lacking)
}

pub(super) fn lock(root: &Arc<Mutex<Root>>) -> std::sync::MutexGuard<'_, Root> {
    root.lock().unwrap_or_else(PoisonError::into_inner)
}
