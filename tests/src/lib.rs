//! The harness of the whole-process tests: real daemons, a real source tree, real Dagster code
//! servers, each in a temporary folder of its own, all of them gone when the test is.
//!
//! Everything here panics where it cannot go on: it is a test's own ground that then gave way.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's ground: what fails here fails the test"
)]

mod agent;
mod apart;
mod binary;
mod code_server;
mod dagster;
mod definitions;
mod docker;
mod ended;
mod fleet;
mod git;
mod held;
mod host;
mod image;
mod machine;
mod network;
mod noise;
mod place;
mod process;
mod project;
mod relay;
mod running;
mod say;
mod scrape;
mod sidecar;
mod slot;
mod source;
mod status;
mod stranger;
mod transcript;
mod user;
mod venv;
mod wait;
mod watchdog;

pub use self::agent::Agent;
pub use self::apart::{Failing, apart, mount, not_run};
pub use self::code_server::{CodeServer, Start};
pub use self::dagster::Dagster;
pub use self::definitions::{Address, Unserved, served};
pub use self::ended::Ended;
pub use self::fleet::Fleet;
pub use self::git::git;
pub use self::held::HeldTree;
pub use self::host::Host;
pub use self::machine::Machine;
pub use self::network::{Network, Uplink};
pub use self::noise::noise;
pub use self::place::{Place, save};
pub use self::process::Process;
pub use self::project::{Defines, project};
pub use self::relay::Relay;
pub use self::running::Running;
pub use self::say::say;
pub use self::scrape::{Page, Scrape};
pub use self::sidecar::Sidecar;
pub use self::slot::Slot;
pub use self::source::Source;
pub use self::status::FleetStatus;
pub use self::stranger::{let_stranger_try, stranger};
pub use self::transcript::Transcript;
pub use self::venv::Venv;
pub use self::wait::{wait_for, wait_until};
