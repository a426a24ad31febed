//! The disk side on real directories.

mod adopt;
mod crash;
mod damage;
mod drift;
pub(super) mod faults;
mod flow;
mod gc;
mod hostile;
mod kit;
mod lock;
mod named;
mod resume;
