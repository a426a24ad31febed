//! The agent daemon: receives releases, stages and activates them, makes the code server load them
//! and finds out whether it did.
//!
//! ```text
//!   == QUIC ==> link -> receive -> volume (stage) -> task -> volume (activate) -> code_server
//!                 <------------------------- reports -----------------------------+
//! ```

pub mod code_server;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dependencies;
pub mod drift;
pub mod evidence;
pub mod hold;
pub mod identity;
pub mod join;
pub mod link;
pub mod metrics;
pub mod receive;
mod rotate;
pub mod speaker;
pub mod task;
pub mod volume;
