//! Another key for this node, without a new token. The steps, each durable before the next:
//!
//! ```text
//!   agent                                        source
//!   node.key.next is written
//!     | Rotate{key} over the old key's link ->     | both keys are the node's
//!     |                     <- Rotating{key}       |
//!     | dials by the new key ->                    | the old key is nobody's
//!   node.key.next becomes node.key    <- Hello     |
//! ```
//! Killed anywhere, it goes on where it was: while there is a `node.key.next`, that one is tried first,
//! and where the source does not know it, it is announced once more.

use codevol_protocol::call::{CallFailure, FailureSort};
use codevol_protocol::chain::Chain;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::message::{FromAgent, ROTATE_MINOR};
use codevol_protocol::name::Text;
use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use crate::identity::{Identity, IdentityError};

/// How many callers may wait for the end of a rotation.
pub(crate) const ASKERS_MAX: usize = 16;

/// Who wants to know how a rotation ended: the old key and the new one.
pub(crate) type RotateAsker = oneshot::Sender<Result<(PublicKey, PublicKey), CallFailure>>;

/// The source that this node is linked with is of an earlier version.
fn too_old() -> CallFailure {
    let message = "the source is too old to take another key";
    CallFailure::new(FailureSort::Refused, "version", message).hint("upgrade the source first")
}

/// How far a rotation is.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// Whether the source was seen not to know the next key: it is to be announced.
    is_unknown: bool,
    askers: Vec<RotateAsker>,
}

impl Rotation {
    /// Returns the key to dial by: the next one, unless the source does not know it.
    pub(crate) fn key<'i>(&self, identity: &'i Identity) -> &'i SecretKey {
        let next = identity.next.as_ref().filter(|_| !self.is_unknown);
        next.unwrap_or(&identity.node)
    }

    /// Takes in that somebody asks for another key, and returns what is to be said.
    /// Nothing to a source of an earlier version.
    pub(crate) fn asked(
        &mut self,
        asker: RotateAsker,
        minor: u16,
        identity: &mut Identity,
    ) -> Option<FromAgent> {
        if minor < ROTATE_MINOR {
            // Whoever asked may have gone.
            drop(asker.send(Err(too_old())));
            return None;
        }
        self.askers.retain(|asker| !asker.is_closed());
        if self.askers.len() < ASKERS_MAX {
            self.askers.push(asker);
        }
        match block_in_place(|| identity.next_key()) {
            Ok(key) => Some(FromAgent::Rotate { key }),
            Err(cause) => {
                self.failed(&cause);
                None
            }
        }
    }

    /// Takes in that the source has said hello, and returns what is to be said.
    pub(crate) fn greeted(&mut self, identity: &mut Identity) -> Option<FromAgent> {
        let key = identity.next.as_ref()?.public();
        if self.is_unknown {
            return Some(FromAgent::Rotate { key });
        }
        let old = identity.node.public();
        if let Err(cause) = block_in_place(|| identity.rotate()) {
            self.failed(&cause);
            return None;
        }
        info!(
            key = key.short(),
            revoked = old.short(),
            "this node has another key"
        );
        self.answer(&Ok((old, key)));
        None
    }

    /// Takes in what the source says of an announced key, and returns whether to dial by it now.
    pub(crate) fn answered(
        &mut self,
        key: PublicKey,
        refused: Option<&Text>,
        identity: &mut Identity,
    ) -> bool {
        if identity.next.as_ref().map(SecretKey::public) != Some(key) {
            return false;
        }
        let Some(why) = refused else {
            self.is_unknown = false;
            return true;
        };
        warn!(%why, "the source does not take another key of this node");
        self.is_unknown = false;
        if let Err(cause) = block_in_place(|| identity.keep_key()) {
            self.failed(&cause);
        }
        let message = format!("the source does not take another key: {why}");
        let failure = CallFailure::new(FailureSort::Refused, "refused", message);
        self.answer(&Err(failure.hint("ask once more; the key is as it was")));
        false
    }

    /// Takes in that the source does not know the key that was dialled by, and returns whether there is
    /// another one to dial by.
    pub(crate) fn unknown(&mut self, identity: &Identity) -> bool {
        let tried_next = identity.next.is_some() && !self.is_unknown;
        self.is_unknown = tried_next;
        tried_next
    }

    fn failed(&mut self, cause: &IdentityError) {
        error!(error = %Chain(cause), "cannot keep another key");
        let message = "this node's key cannot be replaced";
        let failure = CallFailure::new(FailureSort::Failed, "io", message).caused_by(cause);
        self.answer(&Err(failure));
    }

    fn answer(&mut self, answer: &Result<(PublicKey, PublicKey), CallFailure>) {
        for asker in self.askers.drain(..) {
            // Whoever asked may have gone.
            drop(asker.send(answer.clone()));
        }
    }
}
