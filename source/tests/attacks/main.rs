//! A real source daemon against agents, joiners and strangers that break every rule there is. Each
//! case ends with the same checks ([`host::Host::survives`]): the source answers, another member's
//! connection was not touched and gets the next release, the journal says what an enrolled node
//! did, the tree is as it was.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which may panic"
)]

mod host;
mod member;

mod callers;
mod deliveries;
mod disk;
mod drift;
mod follow;
mod half;
mod identity;
mod join;
mod protocol;
mod replay;
mod resume;
mod root;
mod rotate;
mod unsaved;
