//! A real agent daemon against a source that breaks every rule there is. Each case ends with the
//! same checks ([`scene::Scene::survives`]): the agent answers, the live release and all that lies
//! outside the root are as they were, the journal says what was refused, and the next good release
//! goes live.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

mod craft;
mod node;
mod scene;
mod wire;

mod bytes;
mod dependencies;
mod disk;
mod drift;
mod identity;
mod paths;
mod protocol;
mod replay;
mod resume;
mod signatures;
mod sizes;
mod stranger;
