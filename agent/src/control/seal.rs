//! A release that is held here handed over whole, to whoever seals it on this host.

use std::sync::PoisonError;
use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, ReleaseRef, Reply};
use codevol_protocol::name::{Text, VolumeName};
use codevol_store::pieces::Pieces;
use codevol_transport::ReplyWriter;
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::{Desk, unavailable};

/// How long a caller may take for one piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);

impl Desk {
    /// Hands a release over, which is in use until that has ended.
    pub(super) async fn seal(
        &self,
        volume: Option<&VolumeName>,
        named: &ReleaseRef,
        writer: &mut ReplyWriter,
    ) -> Result<Reply, CallFailure> {
        let (_, linked) = self.named(volume)?;
        let root = &linked.receiver.root;
        let lent = block_in_place(|| {
            let root = root.lock().unwrap_or_else(PoisonError::into_inner);
            root.lend(|seq, id| named.names(seq, id))
        });
        let failed = |error: &dyn std::error::Error| {
            let message = format!("cannot read {named}");
            CallFailure::new(FailureSort::Failed, "io", message).caused_by(error)
        };
        let lent = lent.map_err(|error| failed(&error))?.ok_or_else(|| {
            let message = format!("this node does not hold {named}");
            CallFailure::new(FailureSort::Refused, "not-found", message)
                .hint("`codevol status --json` lists what it holds; the source may hold more")
        })?;
        let sealing = Reply::Sealing(Box::new(lent.held.signed().clone()));
        say(writer, &sealing).await?;
        let open = |path: &codevol_protocol::path::RelPath, _| lent.dir.open_file(path.as_str());
        let mut pieces = Pieces::new(lent.held.manifest(), open);
        while let Some(piece) =
            block_in_place(|| pieces.read_next()).map_err(|error| failed(&error))?
        {
            say(writer, &Reply::Piece(piece)).await?;
        }
        Ok(Reply::Done(Text::cut(format!("{named} was handed over"))))
    }
}

async fn say(writer: &mut ReplyWriter, reply: &Reply) -> Result<(), CallFailure> {
    // Nobody hears of it: whoever asked has gone, or does not listen.
    let gone = || unavailable("stopping", "the caller does not listen");
    let said = timeout(PIECE_TIMEOUT, writer.write(reply)).await;
    said.map_err(|_elapsed| gone())?.map_err(|_gone| gone())
}
