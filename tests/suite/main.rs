//! Whole processes: a source, agents, real code servers. What is claimed here is that the parts are
//! wired together as the design says; each part's own faults are shown by tests below this one.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod adopting;
mod away;
mod collecting;
mod control;
mod demo;
mod dependencies;
mod drift;
mod fetching;
mod history;
mod joining;
mod large;
mod lost;
mod metrics;
mod on_call;
mod operators;
mod partition;
mod publishing;
mod recovery;
mod reloading;
mod restoring;
mod rollout;
mod rotating;
mod screens;
mod sealing;
mod secrets;
mod served;
mod serving;
mod sidecar;
mod stopping;
mod supervised;
mod trees;
mod watching;
