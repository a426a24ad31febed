//! The blocking half of a push: each piece is restored, verified and written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codevol_protocol::delta::{Piece, Position};
use codevol_protocol::id::BlobId;
use codevol_protocol::message::Partial;
use codevol_protocol::patch::Restorer;
use codevol_protocol::violation::Violation;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

use super::error::ReceiveError;
use crate::volume::{Root, StageError, Staging};

/// Restores and writes the pieces in the plan's order.
pub(super) struct Writer {
    pub(super) root: Arc<Mutex<Root>>,
    pub(super) start: Position,
    pub(super) missing: Vec<BlobId>,
    pub(super) restored: Arc<AtomicU64>,
    /// Told when the release has its name; it is made durable after that.
    pub(super) named: Option<oneshot::Sender<()>>,
    /// Held until nothing more is written, also where nobody waits for the thread any more.
    pub(super) partial: OwnedMutexGuard<Option<Partial>>,
}

impl Writer {
    pub(super) fn run(
        mut self,
        mut staging: Staging,
        mut queue: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), ReceiveError> {
        let written = self.write_all(&mut staging, &mut queue);
        // A plan of its own, with blobs that were asked for, is not the one to go on with.
        if self.missing.is_empty() && written.as_ref().is_err_and(ReceiveError::is_cut) {
            *self.partial = Some(Partial {
                release: staging.release().id(),
                next: staging.position(),
            });
        }
        written
    }

    fn write_all(
        &mut self,
        staging: &mut Staging,
        queue: &mut mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), ReceiveError> {
        if !self.missing.is_empty() {
            staging.ask_for(&self.missing);
        }
        let pieces: Vec<_> = staging.plan().pieces_from(self.start).collect();
        let mut dropped = None;
        let mut restorer = Restorer::default();
        for piece in pieces {
            let frame = queue.blocking_recv().ok_or(Violation::PushLength("less"))?;
            let entry = piece.position.entry;
            self.restored.fetch_add(piece.length, Ordering::Relaxed);
            // The segments after one that was wrong are of no use.
            if dropped == Some(entry) {
                continue;
            }
            // A piece that cannot be restored is no reason to stop: `finish` names all that is to
            // be sent again.
            let written = restore(staging, &piece, &frame, &mut restorer);
            match written.and_then(|plain| staging.write(piece.position, &plain)) {
                Ok(()) => {}
                Err(StageError::Missing(_) | StageError::WrongBytes(_)) => dropped = Some(entry),
                Err(error) => return Err(error.into()),
            }
        }
        if queue.blocking_recv().is_some() {
            return Err(Violation::PushLength("more").into());
        }
        let named = staging.finish(&mut self.lock())?;
        // Nobody waits where the source does not either.
        if let Some(named) = self.named.take() {
            named.send(()).unwrap_or_default();
        }
        self.lock().prepare_activation(named.release());
        named
            .make_durable()
            .map_err(|lost| self.lock().let_go(lost))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Root> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restore(
    staging: &mut Staging,
    piece: &Piece,
    frame: &[u8],
    restorer: &mut Restorer,
) -> Result<Vec<u8>, StageError> {
    let prefix = match &piece.prefix {
        Some(range) => staging.base_range(range)?,
        None => Vec::new(),
    };
    let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
    // What does not decompress is as wrong as what does not hash: no bytes are written then.
    Ok(restorer.restore(frame, &prefix, length).unwrap_or_default())
}
