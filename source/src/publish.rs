//! The publisher of one volume: settles, scans, and appends signed releases. One task owns the
//! scanner; operators reach it through a [`PublisherHandle`].
//!
//! ```text
//!   hints --> settle --> scan --> compare with the head --> blobs, manifest, record --> fleet
//! ```

mod append;
mod collect;
mod deliver;
mod diff;
mod fixes;
mod guard;
mod handle;
mod ignored;
mod intent;
mod look;
mod mend;
mod plan;
mod release;
mod request;
mod rollback;
mod task;
mod watched;
mod write_through;

#[cfg(test)]
mod tests;

pub use append::{PublishError, Signer};
pub use deliver::Delivered;
pub use handle::{PublisherHandle, SourceView};
pub use mend::Mended;
pub(crate) use plan::changes;
pub use request::ROLLOUT_TIMEOUT_MS;
pub use task::{PublisherParts, PublisherTask};
