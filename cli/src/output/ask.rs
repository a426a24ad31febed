//! Waits for a person's answer, or for Ctrl-C. Once a command has taken over the interrupt it never
//! ends the process by itself again: who reads an answer has to listen for both.

use std::io;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::control::block_on;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// Reads one line of standard input.
///
/// # Errors
/// The person interrupted it, or it cannot be read.
pub(super) fn line() -> Result<String, CommandError> {
    let (told, answer) = oneshot::channel();
    // Whoever waits may have been interrupted; a read that nobody ends then ends with the process.
    thread::spawn(move || {
        let mut line = String::new();
        drop(told.send(io::stdin().read_line(&mut line).map(|_bytes| line)));
    });
    block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
        // Cancel-safe: what is dropped is only waiting.
        tokio::select! {
            read = answer => read
                .unwrap_or_else(|_dropped| Err(io::ErrorKind::UnexpectedEof.into()))
                .map_err(|error| CommandError::failed("cannot read the answer").because(&error)),
            _ = interrupt.recv() => {
                let message = "interrupted: nothing was done";
                Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message))
            }
        }
    })?
}
