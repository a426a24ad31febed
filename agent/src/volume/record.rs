//! The recovery record: the one durable word about what `current` is to mean. It is written before
//! the flip; whether the flip was made, `current` itself says.

use codevol_protocol::codec;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_store::dir::{Dir, DirError};
use codevol_store::persist;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const BYTES_MAX: u64 = 64 << 10;
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

    /// Reads the record; nothing where there is none. One that does not decode is lost: what the
    /// disk holds and what `current` names is then all there is.
    pub(super) fn read(state: &Dir, volume: &VolumeName) -> Result<Option<Self>, DirError> {
        let bytes = match state.read(&name(volume), BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        match codec::decode_record(VERSION, &bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::error!(%volume, error = %error, "recovery record is lost");
                Ok(None)
            }
        }
    }

    pub(super) fn write(&self, state: &Dir, volume: &VolumeName) -> Result<(), DirError> {
        let bytes = codec::encode_record(VERSION, self);
        persist::write(state, &name(volume), 0o600, &bytes)
    }
}

fn name(volume: &VolumeName) -> String {
    format!("recovery-{volume}")
}
