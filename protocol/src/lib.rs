//! The core of codevol: names, paths, manifests, release records, trust, the delta plan, messages,
//! and the machines that decide. It does no IO, starts no task and has no clock: `now` is an
//! argument, and the same inputs always give the same outputs.

pub mod audit;
pub mod call;
pub mod chain;
pub mod codec;
pub mod collection;
pub mod delta;
pub mod dependency;
pub mod diff;
pub mod drift;
pub mod evidence;
pub mod hold;
pub mod id;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod marker;
pub mod message;
pub mod name;
pub mod patch;
pub mod path;
pub mod release;
pub mod role;
pub mod rollout;
pub mod session;
pub mod settle;
pub mod status;
pub mod story;
pub mod token;
pub mod trust;
pub mod violation;
