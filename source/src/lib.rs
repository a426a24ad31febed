//! The source daemon: watches the tree, publishes releases, leads their rollout.
//!
//! ```text
//!   tree -> scan -> publish -> history -> encode -> push == QUIC ==> agents
//!     ^ hints                      |                                   |
//!   watch                        fleet (rollout machine) <-- session <-+
//! ```

pub mod bus;
pub mod callers;
pub mod chronicle;
pub mod config;
pub mod control;
pub mod daemon;
mod diff;
pub mod encode;
pub mod fingerprint;
pub mod fleet;
pub mod git;
pub mod history;
pub mod identity;
pub mod join;
pub mod journal;
mod lines;
pub mod metrics;
pub mod publish;
pub mod push;
pub mod restore;
pub mod roster;
pub mod rules;
pub mod scan;
pub mod session;
mod stored;
mod strangers;
pub mod volume;
pub mod watch;
