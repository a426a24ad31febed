//! Fetching once: whether a daemon that was started for that alone has what is live, and may end.

use codevol_protocol::call::CallFailure;
use codevol_protocol::hold::Hold;
use codevol_protocol::message::Failure;
use codevol_protocol::name::VolumeName;
use codevol_protocol::status::{LinkState, NodeState, VolumeStatus};

use super::{Desk, inspect};

/// How far a daemon is that fetches once.
#[derive(Debug)]
pub enum Fetching {
    /// What is live is not here yet, and why that may be.
    Waiting(Waiting),
    /// It has ended, well or not.
    Ended(Vec<Fetched>),
    /// The source does not know this node.
    Refused,
    /// A person holds this node on another release of this volume: nothing will come.
    Held(VolumeName, Hold),
}

/// What a daemon that fetches waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The source.
    Source,
    /// A first release of this volume.
    Release(VolumeName),
    /// The release of this volume is on its way, or is verified.
    Steps(VolumeName),
}

/// One volume, fetched or not.
#[derive(Debug)]
pub struct Fetched {
    /// How it stands.
    pub status: VolumeStatus,
    /// What went wrong with what is live.
    pub failure: Option<(&'static str, Failure)>,
}

impl Fetched {
    /// Returns how this node stands with it.
    #[must_use]
    pub fn state(&self) -> NodeState {
        let node = self.status.nodes.first();
        node.map_or(NodeState::Failed, |node| node.state)
    }
}

impl Desk {
    /// Returns how far it is with fetching what is live.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn fetching(&self) -> Result<Fetching, CallFailure> {
        let link = self.link.borrow().state;
        match link {
            LinkState::Refused => return Ok(Fetching::Refused),
            LinkState::Connecting => return Ok(Fetching::Waiting(Waiting::Source)),
            LinkState::Connected => {}
        }
        let mut fetched = Vec::new();
        for (name, linked) in self.volumes.iter() {
            let standing = inspect(linked).await?;
            let Some((_, live)) = standing.live else {
                return Ok(Fetching::Waiting(Waiting::Release(name.clone())));
            };
            let failure = standing.error.as_ref().filter(|(id, ..)| *id == live);
            let stands = standing.active == Some(live);
            if let Some(hold) = standing.hold.as_ref().filter(|_| !stands) {
                return Ok(Fetching::Held(name.clone(), hold.clone()));
            }
            let is_verified = stands && standing.verification.is_some();
            if !is_verified && (stands || failure.is_none()) {
                return Ok(Fetching::Waiting(Waiting::Steps(name.clone())));
            }
            let failure = failure.map(|(_, step, failure)| (*step, failure.clone()));
            fetched.push(Fetched {
                status: self.volume(linked, &standing, link),
                failure,
            });
        }
        Ok(Fetching::Ended(fetched))
    }
}
