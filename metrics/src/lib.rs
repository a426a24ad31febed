//! What a daemon counts of itself, and the small HTTP listener by which a monitoring system reads it.
//! Both daemons use it; what the numbers mean they know, and where they are counted is theirs.
//!
//! ```text
//!   counter, histogram, usage <-- counted where things happen
//!        \------- exposition (text) --> listener: /metrics /healthz /readyz
//! ```

pub mod exposition;
pub mod family;
pub mod listener;
pub mod number;
pub mod process;
pub mod usage;

pub use exposition::Exposition;
pub use family::{Family, Kind};
pub use listener::{BindError, MetricsListener, Pages};
pub use number::{Counter, Histogram};
pub use usage::Usage;
