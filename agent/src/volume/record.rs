//! The recovery record: the one durable word about what `current` is to mean. It is written before
//! the flip; whether the flip was made, `current` itself says.

use codevol_protocol::chain::Chain;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_store::dir::Dir;
use codevol_store::register::Register;
use codevol_store::state::StateError;
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "codevol.recovery/1";
/// How many activations are remembered, for garbage collection.
const ACTIVATIONS_MAX: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The newest release that was ever activated here.
    pub(super) high_water: Option<(Seq, ReleaseId)>,
    /// What `current` is to name.
    pub(super) intend: Option<ReleaseId>,
    /// What it named before.
    pub(super) was: Option<ReleaseId>,
    /// What was activated when, oldest first.
    pub(super) activations: Vec<(ReleaseId, UnixMillis)>,
}

impl Record {
    /// Returns the record that must be durable before `current` names `next`.
    pub(super) fn before(
        &self,
        (seq, next): (Seq, ReleaseId),
        was: Option<ReleaseId>,
        now: UnixMillis,
    ) -> Self {
        let mut activations = self.activations.clone();
        activations.push((next, now));
        let surplus = activations.len().saturating_sub(ACTIVATIONS_MAX);
        activations.drain(..surplus);
        Self {
            high_water: self.high_water.max(Some((seq, next))),
            intend: Some(next),
            was,
            activations,
        }
    }

    /// Whether a release was durable when this was written.
    pub(super) fn proves(&self, release: ReleaseId) -> bool {
        let activated = self.activations.iter().map(|(id, _)| *id);
        activated
            .chain(self.intend)
            .chain(self.was)
            .any(|proven| proven == release)
    }

    /// Opens the record. One that cannot be read is lost: what the disk holds and what `current`
    /// names is then all there is.
    pub(super) fn open(state: &Dir, volume: &VolumeName) -> Result<Register<Self>, StateError> {
        let name = format!("recovery-{volume}");
        match Register::open(state, &name, SCHEMA) {
            Ok(Some(record)) => return Ok(record),
            Ok(None) => {}
            Err(error @ StateError::Dir(_)) => return Err(error),
            Err(error) => {
                tracing::error!(%volume, error = %Chain(&error), "recovery record is lost");
            }
        }
        Register::create(state, &name, SCHEMA, Self::default())
    }
}
