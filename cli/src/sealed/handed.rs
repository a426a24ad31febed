//! A release as a daemon of this host hands it over: its record, its manifest, and then the bytes of its
//! files, in the manifest's order.

use std::io::{self, Read};
use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::MANIFEST_BYTES_MAX;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::release::Release;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::control::{Control, Replies};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// How long the daemon may take for the next piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A release that is being handed over. Read, it gives the bytes of the files.
pub(crate) struct Handed {
    pub(crate) id: ReleaseId,
    pub(crate) release: Release,
    pub(crate) manifest: Manifest,
    pieces: Pieces,
}

struct Pieces {
    runtime: Runtime,
    interrupt: Signal,
    replies: Replies,
    control: Control,
    /// What has come and was not read yet.
    piece: io::Cursor<Vec<u8>>,
    /// Why no more comes.
    failure: Option<CommandError>,
}

impl Handed {
    /// Asks for a release, and checks that its manifest is the one that it names.
    ///
    /// # Errors
    /// The daemon does not run, or has no such release.
    pub(crate) fn ask(control: &Control, call: &Call) -> Result<Self, CommandError> {
        let failed = |error| CommandError::failed("cannot start").because(&error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let begun = runtime.block_on(async {
            let interrupt = signal(SignalKind::interrupt())
                .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
            let mut replies = control.begin(call).await?;
            let first = replies.next(Instant::now() + PIECE_TIMEOUT).await?;
            let Reply::Sealing(signed) = first else {
                return Err(control.unexpected());
            };
            Ok((interrupt, replies, signed))
        });
        let (interrupt, replies, signed) = begun?;
        let mut pieces = Pieces {
            runtime,
            interrupt,
            replies,
            control: control.clone(),
            piece: io::Cursor::default(),
            failure: None,
        };
        let other = || CommandError::failed("the daemon handed over another release than it names");
        let release = signed.read().map_err(|error| other().because(&error))?;
        // The record was checked against the limit.
        let length = release.manifest_bytes.min(MANIFEST_BYTES_MAX);
        let mut bytes = Vec::new();
        let read = (&mut pieces).take(length).read_to_end(&mut bytes);
        read.map_err(|error| pieces.why(&error))?;
        let manifest = Manifest::decode(&bytes).map_err(|error| other().because(&error))?;
        let admitted = release.admits(&manifest);
        admitted.map_err(|error| other().because(&error))?;
        Ok(Self {
            id: signed.id(),
            release,
            manifest,
            pieces,
        })
    }

    /// Says why reading failed.
    pub(crate) fn why(&mut self, error: &io::Error) -> CommandError {
        self.pieces.why(error)
    }

    /// Fails where a person has interrupted.
    pub(crate) fn go_on(&mut self) -> Result<(), CommandError> {
        let Pieces {
            runtime, interrupt, ..
        } = &mut self.pieces;
        runtime.block_on(async {
            // Cancel-safe: it only looks.
            tokio::select! {
                biased;
                _ = interrupt.recv() => Err(interrupted()),
                () = std::future::ready(()) => Ok(()),
            }
        })
    }
}

impl Read for Handed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pieces.read(buffer)
    }
}

impl Pieces {
    fn next(&mut self) -> Result<Option<Vec<u8>>, CommandError> {
        let Self {
            runtime,
            interrupt,
            replies,
            control,
            ..
        } = self;
        let reply = runtime.block_on(async {
            // Cancel-safe: a reply that has begun stays in `replies`.
            tokio::select! {
                biased;
                _ = interrupt.recv() => Err(interrupted()),
                reply = replies.next(Instant::now() + PIECE_TIMEOUT) => reply,
            }
        });
        match reply? {
            Reply::Piece(piece) => Ok(Some(piece)),
            Reply::Done(_) => Ok(None),
            _ => Err(control.unexpected()),
        }
    }

    fn why(&mut self, error: &io::Error) -> CommandError {
        self.failure
            .take()
            .unwrap_or_else(|| CommandError::failed("cannot read the release").because(error))
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.next() {
                Ok(Some(piece)) => self.piece = io::Cursor::new(piece),
                Ok(None) => return Ok(0),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(io::Error::other("it was not handed over whole"));
                }
            }
        }
    }
}

fn interrupted() -> CommandError {
    let message = "interrupted: nothing was sealed";
    CommandError::new(ExitStatus::Interrupted, "interrupted", message)
}
