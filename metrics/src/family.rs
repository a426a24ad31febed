//! The metrics that there are, all of them, with what each says. Their names are a contract.

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// What it is called.
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

/// Sorts of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, and begins at zero when the daemon does.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations, counted by how long they are.
    Histogram,
}

impl Kind {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// How long a release may take from the last write to live, in seconds.
pub const PROPAGATION_BOUNDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];
/// How long a phase of it may take, in seconds.
pub const PHASE_BOUNDS: &[f64] = &[
    0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0,
];

macro_rules! families {
    ($($constant:ident $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                kind: Kind::$kind,
                help: $help,
            };
        )*
        /// All of them.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD_INFO Gauge "codevol_build_info"
        "Always 1: the version that runs, and its role.";
    RELEASE_INFO Gauge "codevol_release_info"
        "Always 1: the release that is live in the volume; of an agent, the release that it has activated.";
    NODES Gauge "codevol_nodes"
        "Enrolled nodes by their state.";
    RELEASE_LAG Gauge "codevol_release_lag"
        "How many releases a node is behind the live one.";
    FROZEN Gauge "codevol_frozen"
        "1 while the volume is frozen, else 0.";
    ROLLOUTS Counter "codevol_rollouts_total"
        "Rollouts that ended: done is live, failed is not.";
    PROPAGATION Histogram "codevol_propagation_seconds"
        "From the last change seen in the tree to the moment when its release is live.";
    PHASE_DURATION Histogram "codevol_phase_duration_seconds"
        "How long a release takes for each part of its way.";
    WATCH_OVERFLOWS Counter "codevol_watch_overflows_total"
        "How often hints of changes were lost because a queue was full.";
    RESCANS Counter "codevol_rescans_total"
        "Looks at the whole tree.";
    RELOAD_FAILURES Counter "codevol_reload_failures_total"
        "Code servers that were found not to serve the active release, by what was found.";
    DRIFTED_FILES Gauge "codevol_drifted_files"
        "Paths on the disk that are not as the active release says.";
    STORE_BYTES Gauge "codevol_store_bytes"
        "What the releases of a volume take on the disk; measured now and then.";
    SENT_BYTES Counter "codevol_sent_bytes_total"
        "Bytes of UDP payload sent over the links to other nodes.";
    RECEIVED_BYTES Counter "codevol_received_bytes_total"
        "Bytes of UDP payload received over the links to other nodes.";
    QUIC_RTT Gauge "codevol_quic_rtt_seconds"
        "The round trip to a connected peer, as QUIC estimates it.";
    PROCESS_CPU Counter "process_cpu_seconds_total"
        "User and system time that the process has spent.";
    PROCESS_START Gauge "process_start_time_seconds"
        "When the process was started, since the epoch.";
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes"
        "Memory of the process that is resident.";
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes"
        "Memory that the process has mapped.";
    PROCESS_OPEN_FDS Gauge "process_open_fds"
        "File descriptors that are open.";
    PROCESS_MAX_FDS Gauge "process_max_fds"
        "File descriptors that may be open at most.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_kind_and_base_unit() {
        for family in ALL {
            let Family { name, kind, help } = family;
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let ours = name.starts_with("codevol_") || name.starts_with("process_");
            assert!(ours && help.ends_with('.'), "{name}");
            for unit in ["_ms", "_us", "_millis", "_kb", "_mb", "_minutes"] {
                assert!(!name.contains(unit), "{name}");
            }
        }
    }

    #[test]
    fn each_is_told_of_in_the_documentation() {
        let told = include_str!("../../docs/metrics.md");
        for family in ALL {
            assert!(
                told.contains(&format!("`{}", family.name)),
                "{}",
                family.name
            );
        }
    }
}
