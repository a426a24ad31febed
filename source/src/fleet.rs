//! The fleet of one volume: feeds the rollout machine with what the agents report, and carries out
//! what it asks. One task owns the machine; everyone else holds a [`FleetHandle`].

mod act;
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
pub use handle::{FleetHandle, FleetView, Pinged, SessionCommand, SessionId};
pub use kept::Kept;
pub use task::{FleetParts, FleetTask};

#[cfg(test)]
mod tests;
