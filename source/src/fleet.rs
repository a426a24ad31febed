//! The fleet of one volume: feeds the rollout machine with what the agents report, and carries out
//! what it asks. One task owns the machine; everyone else holds a [`FleetHandle`].

mod act;
mod behind;
mod dependencies;
mod drift;
mod handle;
mod hold;
mod kept;
mod known;
mod ping;
mod report;
mod status;
mod task;

pub use drift::Heard;
pub use handle::{FleetHandle, FleetView, Lost, Pinged, SessionCommand, SessionId};
pub use kept::Kept;
pub(crate) use kept::{ROLLOUT, ROLLOUT_SCHEMA};
pub use task::{FleetParts, FleetTask};

#[cfg(test)]
mod tests;
