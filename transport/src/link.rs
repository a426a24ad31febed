//! One connection to one peer, whose key TLS has proven, and the streams of frames on it.
//!
//! The dialling side opens control streams, the accepting side accepts them; pushes go either way,
//! each on a stream of its own.

use std::net::SocketAddr;
use std::time::Duration;

use codevol_protocol::key::PublicKey;
use codevol_protocol::limits::{CONTROL_FRAME_BYTES_MAX, PUSH_FRAME_BYTES_MAX};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde::Serialize;
use tokio::time::timeout;

use crate::close::{CloseCode, CloseReason};
use crate::frame::{FrameError, FrameReader, FrameWriter};

/// Reads the frames of a stream of a link. Dropped before the end, it tells the sender to stop.
pub type LinkReader = FrameReader<RecvStream>;
/// Writes the frames of a control stream. Dropped, it ends the stream.
pub type LinkWriter = FrameWriter<SendStream>;

/// A connection to one peer. Clones are the same connection; when the last one is gone it closes
/// with [`CloseCode::Done`].
#[derive(Debug, Clone)]
pub struct Link {
    connection: Connection,
    remote_key: PublicKey,
    /// The socket of a dialled link, which serves nothing else.
    endpoint: Option<quinn::Endpoint>,
}

impl Link {
    pub(crate) const fn new(
        connection: Connection,
        remote_key: PublicKey,
        endpoint: Option<quinn::Endpoint>,
    ) -> Self {
        Self {
            connection,
            remote_key,
            endpoint,
        }
    }

    /// Returns the key that the peer proved to hold.
    #[must_use]
    pub const fn remote_key(&self) -> PublicKey {
        self.remote_key
    }

    /// Returns where the peer is now; it can change while the link lives.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Opens a control stream, on the dialling side; on the other it would wait for ever. The peer
    /// notices it with the first frame.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn open_control(&self) -> Result<(LinkWriter, LinkReader), CloseReason> {
        Ok(control(self.connection.open_bi().await?))
    }

    /// Waits for the next control stream that the dialling side opens. Cancel-safe.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn accept_control(&self) -> Result<(LinkWriter, LinkReader), CloseReason> {
        Ok(control(self.connection.accept_bi().await?))
    }

    /// Opens a stream for one push; waits while too many are unfinished. The peer notices it with
    /// the first frame.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn open_push(&self) -> Result<PushWriter, CloseReason> {
        let stream = self.connection.open_uni().await?;
        Ok(PushWriter {
            frames: FrameWriter::new(stream, PUSH_FRAME_BYTES_MAX),
            finished: false,
        })
    }

    /// Waits for the next push of the peer. Cancel-safe.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn accept_push(&self) -> Result<LinkReader, CloseReason> {
        let stream = self.connection.accept_uni().await?;
        Ok(FrameReader::new(stream, PUSH_FRAME_BYTES_MAX))
    }

    /// Closes the link, and all its streams, at once. What was written and has not arrived is lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// Waits until the link has ended, and returns how. Cancel-safe.
    pub async fn closed(&self) -> CloseReason {
        self.connection.closed().await.into()
    }

    /// Returns how the link ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.connection.close_reason().map(CloseReason::from)
    }

    /// Waits, after a close, until the peer was told; for a second at most. On the accepting side
    /// it returns at once: there [`crate::Listener::close`] does the waiting.
    pub async fn drained(&self) {
        if let Some(endpoint) = &self.endpoint {
            // A peer that does not answer is no reason to stay: its idle timeout tells it.
            timeout(DRAIN_MAX, endpoint.wait_idle())
                .await
                .unwrap_or_default();
        }
    }

    /// Returns how long QUIC thinks that a packet takes to the peer and back: by those that were
    /// answered last, which on a quiet link is a while ago.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Returns the bytes of UDP payload that this side has (sent, received) since the dial.
    #[must_use]
    pub fn udp_bytes(&self) -> (u64, u64) {
        let stats = self.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }
}

fn control((send, receive): (SendStream, RecvStream)) -> (LinkWriter, LinkReader) {
    // A short message does not queue behind the bulk of a push. This fails only on a stream that
    // has ended, and then the first write says so.
    send.set_priority(1).unwrap_or_default();
    (
        FrameWriter::new(send, CONTROL_FRAME_BYTES_MAX),
        FrameReader::new(receive, CONTROL_FRAME_BYTES_MAX),
    )
}

/// Writes the frames of one push. Dropped before [`Self::finish`], it resets the stream: the
/// receiver never takes a part for the whole.
#[derive(Debug)]
pub struct PushWriter {
    frames: FrameWriter<SendStream>,
    finished: bool,
}

impl PushWriter {
    /// Writes one message as a frame. Not cancel-safe.
    ///
    /// # Errors
    /// When the message is too long, or the peer does not take it.
    pub async fn write<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.frames.write(message).await
    }

    /// Writes bytes as one frame. Not cancel-safe.
    ///
    /// # Errors
    /// When there are none or too many, or the peer does not take them.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.frames.write_bytes(bytes).await
    }

    /// Ends the push as a whole; what is on its way still arrives.
    ///
    /// # Errors
    /// When the stream is gone, or a frame was not written whole.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.frames.finish().await?;
        self.finished = true;
        Ok(())
    }

    /// Gives the push up: what has not arrived is not sent any more.
    pub fn reset(self) {
        drop(self);
    }
}

impl Drop for PushWriter {
    fn drop(&mut self) {
        // A reset after the end would take back what is still on its way. It fails where the
        // receiver stopped the stream, which is as good.
        if !self.finished {
            let stream = self.frames.stream();
            stream.reset(VarInt::from_u32(0)).unwrap_or_default();
        }
    }
}

/// How long a close may wait for the peer to be told.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(1);
