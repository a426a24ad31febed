//! Frames on a stream of bytes: a length (u32, little-endian), then that many bytes. Used on the
//! streams of a link and on control sockets alike.
//!
//! Every length is checked before memory is taken for it, and memory grows as bytes arrive, not as
//! they are promised. A frame that has begun must move on; between frames a reader waits for ever.

use std::fmt;
use std::io;

use codevol_protocol::codec::{self, DecodeError};
use codevol_protocol::limits::{PROGRESS_BYTES_PER_SECOND_MIN, PROGRESS_TIMEOUT};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout_at};

use crate::close::{CloseCode, CloseReason};

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended in the middle of a frame.
    #[error("stream ended in the middle of a frame")]
    Truncated,
    /// A frame of no bytes: nothing of ours is encoded as that.
    #[error("frame is empty")]
    Empty,
    /// A frame that is longer than this stream allows.
    #[error("frame of {bytes} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// How long it says it is.
        bytes: u64,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A frame that was begun does not move on.
    #[error("frame was begun, but does not move on")]
    Slow,
    /// The bytes of a frame are not what they should be.
    #[error("frame does not decode")]
    Decode(#[from] DecodeError),
    /// The peer gave the stream up: the sender reset it, or the receiver stopped it.
    #[error("peer gave the stream up")]
    Reset,
    /// An earlier write was abandoned in the middle of a frame, so no other can follow.
    #[error("an earlier frame was not written whole")]
    Torn,
    /// The link ended.
    #[error("link ended")]
    Closed(#[source] CloseReason),
    /// The socket failed.
    #[error("stream failed")]
    Io(#[source] io::Error),
}

impl FrameError {
    /// Returns the code to close the link with, where the peer broke a rule. A length that is
    /// wrong on the writing side is this side's own fault, and never gets as far as the wire.
    #[must_use]
    pub const fn violation(&self) -> Option<CloseCode> {
        match self {
            Self::Truncated | Self::Empty | Self::TooLong { .. } | Self::Slow | Self::Decode(_) => {
                Some(CloseCode::Violation)
            }
            Self::Reset | Self::Torn | Self::Closed(_) | Self::Io(_) => None,
        }
    }

    /// Returns whether a new connection can help without a person doing something first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Truncated | Self::Slow | Self::Reset | Self::Torn | Self::Io(_) => true,
            Self::Closed(reason) => reason.is_retryable(),
            Self::Empty | Self::TooLong { .. } | Self::Decode(_) => false,
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        // quinn hides what happened to its stream inside an `io::Error`.
        let inner = error.get_ref();
        let lost = if let Some(read) = inner.and_then(|e| e.downcast_ref::<quinn::ReadError>()) {
            match read {
                quinn::ReadError::Reset(_) => return Self::Reset,
                quinn::ReadError::ConnectionLost(lost) => Some(lost.clone()),
                quinn::ReadError::ClosedStream
                | quinn::ReadError::IllegalOrderedRead
                | quinn::ReadError::ZeroRttRejected => None,
            }
        } else if let Some(write) = inner.and_then(|e| e.downcast_ref::<quinn::WriteError>()) {
            match write {
                quinn::WriteError::Stopped(_) => return Self::Reset,
                quinn::WriteError::ConnectionLost(lost) => Some(lost.clone()),
                quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => None,
            }
        } else {
            None
        };
        match lost {
            Some(lost) => Self::Closed(lost.into()),
            None => Self::Io(error),
        }
    }
}

/// Where frames come from.
pub trait Inlet: AsyncRead + fmt::Debug + Send + Unpin {}
impl<T: AsyncRead + fmt::Debug + Send + Unpin> Inlet for T {}

/// Where frames go.
pub trait Outlet: AsyncWrite + fmt::Debug + Send + Unpin {}
impl<T: AsyncWrite + fmt::Debug + Send + Unpin> Outlet for T {}

/// Reads frames out of a stream of bytes.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    bytes_max: usize,
    /// The length of the frame that is being read, once it is known.
    length: Option<usize>,
    /// As much of the length, then of the frame, as has arrived.
    buffer: Vec<u8>,
    /// How the frame that is being read moves on; nothing between frames.
    progress: Option<Progress>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `bytes_max` bytes.
    pub const fn new(stream: R, bytes_max: usize) -> Self {
        Self {
            stream,
            bytes_max,
            length: None,
            buffer: Vec::new(),
            progress: None,
        }
    }

    /// Returns the reader as one that does not say what it reads from.
    #[must_use]
    pub fn boxed(self) -> FrameReader<Box<dyn Inlet>>
    where
        R: Inlet + 'static,
    {
        FrameReader {
            stream: Box::new(self.stream),
            bytes_max: self.bytes_max,
            length: self.length,
            buffer: self.buffer,
            progress: self.progress,
        }
    }

    /// Reads one message; nothing where the stream ended between two frames.
    ///
    /// Cancel-safe, as [`Self::read_bytes`] is.
    ///
    /// # Errors
    /// When no whole frame comes, or it is no encoding of a `T`.
    pub async fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        match self.read_bytes().await? {
            Some(bytes) => Ok(Some(codec::decode(&bytes)?)),
            None => Ok(None),
        }
    }

    /// Reads the bytes of one frame; nothing where the stream ended between two frames.
    ///
    /// Cancel-safe: what has arrived of a frame stays in the reader, and the next call goes on
    /// from there. The clock of a frame that has begun runs on between two calls, but bytes that
    /// are there already are read before it is looked at.
    ///
    /// # Errors
    /// When no whole frame comes.
    pub async fn read_bytes(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                if !self.fill(HEADER_BYTES).await? {
                    return Ok(None);
                }
                let length = self.parse_length()?;
                self.buffer.clear();
                *self.length.insert(length)
            }
        };
        self.fill(length).await?;
        self.length = None;
        self.progress = None;
        Ok(Some(std::mem::take(&mut self.buffer)))
    }

    /// Reads until `wanted` bytes are in the buffer; false where the stream ended before the frame
    /// began.
    async fn fill(&mut self, wanted: usize) -> Result<bool, FrameError> {
        while let Some(missing @ 1..) = wanted.checked_sub(self.buffer.len()) {
            if self.buffer.len() == self.buffer.capacity() {
                let growth = self.buffer.len().max(GROWTH_BYTES_MIN);
                self.buffer.reserve(missing.min(growth));
            }
            let mut rest = (&mut self.stream).take(missing as u64);
            // Cancel-safe: `read_buf` has put nothing into the buffer when it is dropped.
            let read = rest.read_buf(&mut self.buffer);
            let bytes = match self.progress {
                Some(progress) => timeout_at(progress.deadline(), read)
                    .await
                    .or(Err(FrameError::Slow))??,
                None => read.await?,
            };
            match (bytes, &mut self.progress) {
                (0, Some(_)) => return Err(FrameError::Truncated),
                (0, None) => return Ok(false),
                (_, Some(progress)) => progress.advance(bytes),
                (_, None) => self.progress.insert(Progress::begin()).advance(bytes),
            }
        }
        Ok(true)
    }

    fn parse_length(&self) -> Result<usize, FrameError> {
        let header = self.buffer.first_chunk().copied().unwrap_or_default();
        let length = u32::from_le_bytes(header);
        match usize::try_from(length) {
            Ok(0) => Err(FrameError::Empty),
            Ok(bytes) if bytes <= self.bytes_max => Ok(bytes),
            Ok(_) | Err(_) => Err(FrameError::TooLong {
                bytes: length.into(),
                bytes_max: self.bytes_max,
            }),
        }
    }
}

/// Writes frames into a stream of bytes.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    bytes_max: usize,
    /// Whether a frame was begun and not written to its end.
    torn: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames of at most `bytes_max` bytes.
    pub const fn new(stream: W, bytes_max: usize) -> Self {
        Self {
            stream,
            bytes_max,
            torn: false,
        }
    }

    /// Returns the writer as one that does not say what it writes to.
    #[must_use]
    pub fn boxed(self) -> FrameWriter<Box<dyn Outlet>>
    where
        W: Outlet + 'static,
    {
        FrameWriter {
            stream: Box::new(self.stream),
            bytes_max: self.bytes_max,
            torn: self.torn,
        }
    }

    /// Writes one message as a frame.
    ///
    /// Not cancel-safe, as [`Self::write_bytes`] is not.
    ///
    /// # Errors
    /// When the message is too long, or the peer does not take it.
    pub async fn write<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.write_bytes(&codec::encode(message)).await
    }

    /// Writes bytes as one frame; returns when the stream has taken them.
    ///
    /// Not cancel-safe: a write that is dropped leaves a torn frame, and every later one fails
    /// with [`FrameError::Torn`].
    ///
    /// # Errors
    /// When there are none or too many, or the peer does not take them.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.torn {
            return Err(FrameError::Torn);
        }
        let header = self.header(bytes.len())?;
        // The length goes out with the first bytes, so that a short frame is one packet.
        let (first, rest) = bytes
            .split_at_checked(GROWTH_BYTES_MIN)
            .unwrap_or((bytes, &[]));
        self.torn = true;
        let mut progress = Progress::begin();
        for mut part in [&*[&header[..], first].concat(), rest] {
            while !part.is_empty() {
                let written = timeout_at(progress.deadline(), self.stream.write(part))
                    .await
                    .or(Err(FrameError::Slow))??;
                if written == 0 {
                    return Err(FrameError::Io(io::ErrorKind::WriteZero.into()));
                }
                progress.advance(written);
                part = part.get(written..).unwrap_or_default();
            }
        }
        self.torn = false;
        Ok(())
    }

    /// Ends the stream after the frames written so far: the reader sees a clean end.
    ///
    /// # Errors
    /// When the stream is gone.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        if self.torn {
            return Err(FrameError::Torn);
        }
        Ok(self.stream.shutdown().await?)
    }

    /// Returns the stream itself.
    pub(crate) const fn stream(&mut self) -> &mut W {
        &mut self.stream
    }

    fn header(&self, bytes: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
        match u32::try_from(bytes) {
            Ok(0) => Err(FrameError::Empty),
            Ok(length) if bytes <= self.bytes_max => Ok(length.to_le_bytes()),
            Ok(_) | Err(_) => Err(FrameError::TooLong {
                bytes: bytes as u64,
                bytes_max: self.bytes_max,
            }),
        }
    }
}

/// How a frame moves on: neither a stop nor a trickle may go on for ever.
#[derive(Debug, Clone, Copy)]
struct Progress {
    begun: Instant,
    moved: Instant,
    bytes: u64,
}

impl Progress {
    fn begin() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            moved: now,
            bytes: 0,
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.moved = Instant::now();
        self.bytes += bytes as u64;
    }

    /// Returns when the next byte must have moved: the timeout after the last one, and no later
    /// than the slowest transfer that is still one would have it.
    fn deadline(&self) -> Instant {
        let earned = Duration::from_secs(self.bytes / PROGRESS_BYTES_PER_SECOND_MIN);
        self.moved.min(self.begun + earned) + PROGRESS_TIMEOUT
    }
}

const HEADER_BYTES: usize = size_of::<u32>();
/// A frame's memory grows at least by so much at once.
const GROWTH_BYTES_MIN: usize = 16 << 10;

#[cfg(test)]
mod tests;
