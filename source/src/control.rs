//! What operators ask of the source, over its control socket or over a connection of their own.

mod answer;
mod collect;
mod deliver;
mod freeze;
mod hold;
mod members;
mod page;
mod ping;
mod seal;
mod tell;
mod verify;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use codevol_protocol::id::FleetId;
use codevol_protocol::name::{Text, VolumeName};
use codevol_transport::{Changes, Traffic};
use tokio_util::sync::CancellationToken;

pub use self::deliver::Turns;
use crate::callers::Places;
use crate::chronicle::Chronicle;
use crate::join::Door;
use crate::metrics::Phases;
use crate::session::Sessions;
use crate::volume::Volume;

/// What calls are answered from.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The volumes.
    pub volumes: Arc<BTreeMap<VolumeName, Volume>>,
    /// What the journal tells.
    pub chronicle: Chronicle,
    /// The members.
    pub door: Door,
    /// Who is connected.
    pub sessions: Arc<Mutex<Sessions>>,
    /// What bounds the calls of members.
    pub places: Places,
    /// What bounds the deliveries.
    pub turns: Turns,
    /// The fleet.
    pub fleet: FleetId,
    /// Where the source is bound.
    pub listen: Text,
    /// What the links to members carry.
    pub traffic: Traffic,
    /// How long each part of a release's way takes.
    pub phases: Arc<Phases>,
    /// What tells that something has changed.
    pub changes: Changes,
    /// Our build, for people.
    pub build: Text,
    /// What ends the answers.
    pub shutdown: CancellationToken,
}
