//! The frames of a push as they come in, and how long they may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use codevol_protocol::delta;
use codevol_protocol::limits::{
    MANIFEST_BYTES_MAX, PROGRESS_BYTES_PER_SECOND_MIN, PROGRESS_TIMEOUT,
};
use codevol_protocol::manifest::Manifest;
use codevol_protocol::patch;
use codevol_protocol::release::VerifiedRelease;
use codevol_protocol::violation::Violation;
use codevol_transport::{FrameError, LinkReader};
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::error::ReceiveError;

/// The frames of a push. A sender that stops between two of them, or trickles, is too slow: it
/// would keep all that comes after it waiting.
#[derive(Debug)]
pub(super) struct Inflow {
    stream: LinkReader,
    /// Bytes that travelled.
    pub(super) bytes: u64,
    /// Bytes of content that came of them.
    pub(super) restored: Arc<AtomicU64>,
    /// How long the sender was waited for.
    waited: Duration,
}

impl Inflow {
    pub(super) fn new(stream: LinkReader) -> Self {
        Self {
            stream,
            bytes: 0,
            restored: Arc::default(),
            waited: Duration::ZERO,
        }
    }

    pub(super) async fn frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let restored = self.restored.load(Ordering::Relaxed).max(self.bytes);
        let earned = Duration::from_secs(restored / PROGRESS_BYTES_PER_SECOND_MIN);
        let left = (PROGRESS_TIMEOUT + earned).saturating_sub(self.waited);
        let began = Instant::now();
        let read = timeout(left.min(PROGRESS_TIMEOUT), self.stream.read_bytes()).await;
        self.waited += began.elapsed();
        let frame = read.or(Err(FrameError::Slow))??;
        self.bytes += frame.as_ref().map_or(0, Vec::len) as u64;
        Ok(frame)
    }

    /// Reads the release's manifest, which comes first, as a patch of `old`.
    pub(super) async fn manifest(
        &mut self,
        release: &VerifiedRelease,
        old: &[u8],
    ) -> Result<Manifest, ReceiveError> {
        // The record's own limit was checked when it was decoded.
        let length = usize::try_from(release.release().manifest_bytes.min(MANIFEST_BYTES_MAX));
        let length = length.unwrap_or(usize::MAX);
        let mut plain = Vec::new();
        for (range, prefix) in delta::byte_segments(length, old.len()) {
            let frame = self.frame().await?.ok_or(Violation::PushLength("less"))?;
            let prefix = old.get(prefix).unwrap_or_default();
            plain.extend(block_in_place(|| {
                patch::restore(&frame, prefix, range.len())
            })?);
        }
        Ok(block_in_place(|| Manifest::decode(&plain))?)
    }
}
