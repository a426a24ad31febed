//! The disk side of one volume: what this node holds, how a release is staged, activated and
//! collected, and what stands after a crash. It speaks to no peer and knows no code server. All of
//! it blocks: call it where that is fine.
//!
//! ```text
//! ROOT/current -> releases/000042-3f9ac1d2   replaced by rename
//! ROOT/releases/000042-3f9ac1d2/             one release; never changes once it has this name
//! ROOT/.codevol/records/<id>                 record and manifest of what is held or on its way
//!              /incoming/<id>/{blobs,tree}   a release on its way
//!              /incoming/spare               the active release's tree once more
//!              /rules/<hash>                 ignore rules: what may stand beside a release's files
//!              /mending/                     a file that is about to take the place of a wrong one
//!              /trash/                       what is being removed
//! STATE/recovery-<volume>                    what `current` is to mean; durable before the flip
//! ```
//!
//! A step is safe to be cut short anywhere: the next [`Root::open`] finds the old or the new state.

mod activate;
mod adopt;
mod check;
mod collect;
mod cursor;
mod drift;
mod fill;
mod finish;
mod held;
mod incoming;
mod land;
mod lease;
mod lend;
mod marker;
mod mend;
mod named;
mod opened;
mod pace;
mod places;
mod processes;
mod record;
mod recover;
mod restore;
mod rules;
mod spare;
mod stage;
#[cfg(test)]
mod tests;
mod weigh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use codevol_protocol::delta::Cut;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::Seq;
use codevol_store::dir::{Dir, DirError, Kind};
use codevol_store::lock::{Lock, LockError};
use codevol_store::register::Register;
use codevol_store::state::StateError;
use rustix::io::Errno;
use tokio::task::block_in_place;

pub use self::activate::{ActivateError, Activated};
pub use self::adopt::{AdoptError, Adopted, Baseline};
use self::check::Stamps;
pub use self::collect::{Collected, Trash};
pub use self::drift::{Drift, DriftKind, Found, Look, Seen, Stands};
pub use self::held::Held;
use self::land::Landed;
pub use self::lend::Lent;
pub use self::marker::MARKER;
pub use self::named::{Named, NotDurable, Verdict};
pub use self::opened::Opened;
pub use self::pace::{Pace, Progress};
use self::places::{CURRENT, Places, RELEASES};
pub(crate) use self::processes::in_use_by_processes;
use self::record::Record;
pub use self::recover::Recovered;
pub use self::restore::{Restore, Restored};
use self::rules::Rules;
pub use self::spare::{Spare, SpareJob};
pub use self::stage::{StageError, Staging};

const LOCK: &str = "lock";

/// A volume root of this node, open and locked.
#[derive(Debug)]
pub struct Root {
    places: Arc<Places>,
    keep: usize,
    cut: Cut,
    held: BTreeMap<ReleaseId, Arc<Held>>,
    active: Option<ReleaseId>,
    /// What `current` names, where there is no record of it.
    unknown: Option<Seq>,
    record: Register<Record>,
    spare: Option<Spare>,
    /// The release that has got its name last, and whether it is durable.
    naming: Option<(ReleaseId, Verdict)>,
    stamps: BTreeMap<ReleaseId, Arc<Stamps>>,
    /// Ignore rules that are at hand.
    rules: Vec<(BlobId, Arc<Rules>)>,
    _lock: Lock,
}

/// Why a root cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// This user may not write there.
    #[error(
        "`{path}` cannot be written: it is owned by uid {owner}, mode {mode:04o}, this is uid {uid}"
    )]
    NotWritable {
        /// The root.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// Who this process is.
        uid: u32,
        /// What was refused.
        source: DirError,
    },
    /// Another agent holds the root.
    #[error("another agent holds `{path}`")]
    InUse {
        /// The root.
        path: PathBuf,
        /// Who holds it.
        source: LockError,
    },
    /// `current` is no symbolic link.
    #[error("`{0}` is not a symbolic link; codevol does not replace it")]
    Occupied(PathBuf),
    /// The recovery record.
    #[error("cannot open the recovery record")]
    Record(#[source] StateError),
    /// The disk.
    #[error("cannot open `{path}`")]
    Dir {
        /// The root, or the state directory.
        path: PathBuf,
        /// What failed.
        source: DirError,
    },
}

/// Returns the folders of a root in which the releases lie, and what is on its way to one.
pub(crate) fn store_of(root: &Path) -> [PathBuf; 2] {
    [root.join(RELEASES), root.join(places::OWN)]
}

impl RootError {
    /// Whether the same may succeed when it is tried again, perhaps after its cause is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::InUse { .. } => true,
            Self::Record(error) => error.is_retryable(),
            Self::Dir { source, .. } => source.is_retryable(),
            Self::NotWritable { .. } | Self::Occupied(_) => false,
        }
    }
}

/// Locks a root, or what else is locked while files are read, in a task. Where another has it, perhaps for
/// as long as a disk takes, the runtime's thread goes on with other tasks meanwhile: an agent has one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
        Err(TryLockError::WouldBlock) => {
            block_in_place(|| mutex.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}

impl Root {
    /// Opens a volume root, takes its lock and puts in order what a crash may have left.
    ///
    /// # Errors
    /// When the root cannot be written, another agent holds it, or the disk fails.
    pub fn open(
        root: &Path,
        state: &Path,
        volume: &VolumeName,
        keep: usize,
    ) -> Result<(Self, Recovered), RootError> {
        Self::open_cut(root, state, (volume, keep), Cut::default())
    }

    fn open_cut(
        path: &Path,
        state: &Path,
        (volume, keep): (&VolumeName, usize),
        cut: Cut,
    ) -> Result<(Self, Recovered), RootError> {
        let failed = |source| failed(path, source);
        let root = Dir::open(path).map_err(failed)?;
        let own = root.ensure_dir(places::OWN, 0o700).map_err(failed)?;
        let lock = Lock::acquire(&own, LOCK).map_err(|error| match error {
            LockError::Dir(source) => failed(source),
            held @ LockError::Held { .. } => RootError::InUse {
                path: path.to_owned(),
                source: held,
            },
        })?;
        let current = root.stat(CURRENT).map_err(failed)?;
        if current.is_some_and(|stat| stat.kind != Kind::Symlink) {
            return Err(RootError::Occupied(path.join(CURRENT)));
        }
        let state = Dir::open(state).map_err(|source| RootError::Dir {
            path: state.to_owned(),
            source,
        })?;
        let record = Record::open(&state, volume).map_err(RootError::Record)?;
        let places = Arc::new(Places::open(root).map_err(failed)?);
        let mut root = Self {
            held: recover::held(&places).map_err(failed)?,
            record,
            places,
            keep,
            cut,
            active: None,
            unknown: None,
            spare: None,
            naming: None,
            stamps: BTreeMap::new(),
            rules: Vec::new(),
            _lock: lock,
        };
        let recovered = root.recover().map_err(failed)?;
        Ok((root, recovered))
    }

    /// Returns what this node holds, verified when it came.
    #[must_use]
    pub const fn held(&self) -> &BTreeMap<ReleaseId, Arc<Held>> {
        &self.held
    }

    /// Returns the release that `current` names.
    #[must_use]
    pub const fn active(&self) -> Option<ReleaseId> {
        self.active
    }

    /// Returns the release that was active before the one that is.
    #[must_use]
    pub fn previous(&self) -> Option<ReleaseId> {
        self.record.get().was.filter(|id| Some(*id) != self.active)
    }

    /// Returns the releases before the active one that were active here and still are held, the one that
    /// was active last first.
    #[must_use]
    pub fn earlier(&self) -> Vec<(Seq, ReleaseId)> {
        let place = |id: &ReleaseId| Some((self.held.get(id)?.release().seq, *id));
        let active = self.active.as_ref().and_then(place);
        let activated = self.record.get().activations.iter().rev();
        let mut earlier: Vec<(Seq, ReleaseId)> = Vec::new();
        for found in activated.filter_map(|(id, _)| place(id)) {
            if active.is_none_or(|(seq, _)| found.0 < seq) && !earlier.contains(&found) {
                earlier.push(found);
            }
        }
        earlier
    }

    /// Returns the newest release known here: what is received at or below it must be known already.
    /// Where the record of it was lost, what `current` and `releases/` name still counts.
    #[must_use]
    pub fn high_water(&self) -> (Seq, Option<ReleaseId>) {
        let held = self.held.values();
        let newest = held.map(|held| (held.release().seq, held.id())).max();
        let newest = newest.max(self.record.get().high_water);
        match (newest, self.unknown) {
            (Some((seq, id)), unknown) if unknown <= Some(seq) => (seq, Some(id)),
            (_, Some(unknown)) => (unknown, None),
            (_, None) => (Seq::default(), None),
        }
    }

    fn stamps_of(&self, id: ReleaseId) -> Arc<Stamps> {
        self.stamps.get(&id).cloned().unwrap_or_default()
    }

    /// Opens every held release, to know when its files landed.
    fn landed(&self) -> Result<Landed, DirError> {
        let mut releases = Vec::new();
        for held in self.held.values() {
            match self.places.releases.open_dir(&held.dir_name()) {
                Ok(dir) => releases.push(dir),
                Err(error) => {
                    check::no_file::<()>(error)?;
                }
            }
        }
        Ok(Landed::new(releases))
    }
}

/// Returns the name of the directory that `current` names, where it is one of `releases/`.
fn current_name(places: &Places) -> Result<Option<String>, DirError> {
    let target = match places.root.read_link(CURRENT) {
        Ok(target) => target,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let name = target.strip_prefix(RELEASES);
    let name = name.and_then(|rest| rest.strip_prefix('/'));
    Ok(name.filter(|name| !name.contains('/')).map(str::to_owned))
}

/// Returns the seq that the name of a release's directory says; nothing where it is no such name.
fn seq_of(name: &str) -> Option<Seq> {
    let (seq, id) = name.split_once('-')?;
    let digits = seq.len() >= 6 && seq.bytes().all(|b| b.is_ascii_digit());
    let hex = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
    (digits && hex).then(|| seq.parse().ok().map(Seq))?
}

fn failed(path: &Path, source: DirError) -> RootError {
    let refused = source.is_permission_denied() || source.errno() == Some(Errno::ROFS);
    let stat = Dir::open(path).and_then(|dir| dir.stat_self());
    match stat {
        Ok(stat) if refused => RootError::NotWritable {
            path: path.to_owned(),
            owner: stat.uid,
            mode: stat.mode,
            uid: rustix::process::geteuid().as_raw(),
            source,
        },
        Ok(_) | Err(_) => RootError::Dir {
            path: path.to_owned(),
            source,
        },
    }
}
