//! Every bound of the wire and of the tree, in one place. A decoder checks them before it allocates.

use std::time::Duration;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Longest component of a path, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Deepest path, in components.
pub const PATH_DEPTH_MAX: usize = 128;
/// Most entries of a manifest.
pub const ENTRIES_MAX: usize = 1_000_000;
/// Largest manifest, in canonical bytes.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 30;
/// Largest release: the sum of its file sizes, in bytes.
pub const RELEASE_BYTES_MAX: u64 = 64 << 30;
/// Largest frame on a control stream or a control socket, in bytes.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;
/// Most bytes of release records that an agent hands out at once.
pub const RECORDS_BYTES_MAX: usize = 512 << 10;
/// Longest part of a file that a caller sends at once, in bytes.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Most files that one [`crate::call::delivery::Lacks`] names.
pub const LACKS_MAX: usize = 10_000;
/// Longest free text (message, author, error, traceback), in bytes.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Longest name of a volume or node, in bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Most enrolled nodes of a fleet.
pub const NODES_MAX: usize = 20_000;
/// Most dependency files a release names.
pub const FINGERPRINTS_MAX: usize = 64;
/// Most releases an agent may claim to hold.
pub const HELD_MAX: usize = 1_024;
/// Most volumes one agent may hold.
pub const VOLUMES_MAX: usize = 64;
/// Most keys a trust record lists in one of its lists.
pub const TRUST_KEYS_MAX: usize = 20_000;
/// A file larger than this travels in segments of this size, in bytes.
pub const SEGMENT_BYTES: u64 = 32 << 20;
/// How much of the old file, on both sides of a segment's range, is its prefix, in bytes.
pub const SEGMENT_MARGIN_BYTES: u64 = 16 << 20;
/// Largest frame on a push stream: a segment that did not compress, and its head, in bytes.
pub const PUSH_FRAME_BYTES_MAX: usize = (33 << 20) + 1024;
/// Largest ignore rules, in bytes.
pub const IGNORE_RULES_BYTES_MAX: u64 = 1 << 20;
/// Base-2 logarithm of the largest window a decompressor grants.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Most blobs that one `Missing` names.
pub const MISSING_MAX: usize = 10_000;
/// Most paths that one report of drift names; the rest is counted.
pub const DRIFT_MAX: usize = 200;
/// Longest paths of one report of drift, in bytes together.
pub const DRIFT_BYTES_MAX: usize = 128 << 10;
/// Most bytes of drifted files that travel for one comparison: it must fit into a frame.
pub const DRIFT_CONTENT_BYTES_MAX: usize = 512 << 10;
/// Longest ignore rules that travel to an agent: they must fit into a frame.
pub const RULES_SENT_BYTES_MAX: usize = 1_000_000;
/// Most code servers of one volume that one answer tells of.
pub const CODE_SERVERS_MAX: usize = 256;
/// Most pings to one agent that wait for their answer.
pub const PINGS_MAX: usize = 16;
/// Most wrong tries of a join token before it is burnt.
pub const TOKEN_TRIES_MAX: u32 = 5;
/// How far above the newest known release a received one may be numbered.
pub const SEQ_AHEAD_MAX: u64 = 1_000_000;
/// A member that makes no progress in a step for so long leaves the rollout.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that moves no byte of a frame for so long is closed.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// Slowest transfer of a frame that still counts as progress, in bytes a second.
pub const PROGRESS_BYTES_PER_SECOND_MIN: u64 = 4 << 10;
/// Most Python environments that a node tells of for one volume.
pub const ENVIRONMENTS_MAX: usize = 8;
/// Most installed packages that a node tells of for one volume, in all its environments.
pub const PACKAGES_MAX: usize = 4_000;
/// Longest name of a Python package, in bytes.
pub const PACKAGE_NAME_BYTES_MAX: usize = 128;
/// Most packages, imports or unjudged requirements that a node lists of one release.
pub const DRIFTS_MAX: usize = 20;
/// Most commands that a node names to mend its environments.
pub const MENDS_MAX: usize = ENVIRONMENTS_MAX;
/// Most things that are listed as different between the servers of a fleet.
pub const SKEW_MAX: usize = 64;
/// Most nodes that are named for one version of such a thing.
pub const SKEW_NODES_MAX: usize = 8;
/// How many bytes of files one frame of a control socket carries.
pub const PIECE_BYTES: usize = 256 << 10;
/// Longest reason for which a node is held, and longest name of who asked, in bytes.
pub const HOLD_TEXT_BYTES_MAX: usize = 1_024;
/// Most orders of persons to one node that wait for their answer.
pub const HOLD_ORDERS_MAX: usize = 16;
