//! A release handed over whole, to whoever seals it on this host.

use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, ReleaseRef, Reply};
use codevol_protocol::name::{Text, VolumeName};
use codevol_store::pieces::Pieces;
use codevol_transport::ReplyWriter;
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::Desk;
use super::answer::stopping;

/// How long a caller may take for one piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);

impl Desk {
    /// Hands a release over. What is collected meanwhile, since nobody needs it, breaks it off.
    pub(super) async fn seal(
        &self,
        volume: Option<VolumeName>,
        named: &ReleaseRef,
        writer: &mut ReplyWriter,
    ) -> Result<Reply, CallFailure> {
        let (_, volume) = self.volume(volume)?;
        let history = &volume.history;
        let release = history.find(named).ok_or_else(|| {
            refused("not-found", format!("there is no release {named}"))
                .hint("`codevol log` lists the releases")
        })?;
        let seq = release.seq();
        let failed = |error: &dyn std::error::Error| {
            CallFailure::new(FailureSort::Failed, "io", format!("cannot read {seq}"))
                .caused_by(error)
        };
        let manifest = history.manifest(release.release().manifest);
        let manifest = manifest.map_err(|error| {
            if error.is_not_found() {
                return refused(
                    "not-kept",
                    format!("the files of {seq} are not kept any more"),
                )
                .hint("`keep` in the source's configuration says how many releases are kept");
            }
            failed(&error)
        })?;
        let sealing = Reply::Sealing(Box::new(release.signed().clone()));
        say(writer, &sealing).await?;
        let mut pieces = Pieces::new(&manifest, |_, blob| history.blobs().open_file(blob));
        while let Some(piece) =
            block_in_place(|| pieces.read_next()).map_err(|error| failed(&error))?
        {
            say(writer, &Reply::Piece(piece)).await?;
        }
        Ok(Reply::Done(Text::cut(format!("{seq} was handed over"))))
    }
}

fn refused(kind: &str, message: String) -> CallFailure {
    CallFailure::new(FailureSort::Refused, kind, message)
}

async fn say(writer: &mut ReplyWriter, reply: &Reply) -> Result<(), CallFailure> {
    let said = timeout(PIECE_TIMEOUT, writer.write(reply)).await;
    // Nobody hears of it: whoever asked has gone, or does not listen.
    said.map_err(|_elapsed| stopping())?
        .map_err(|_gone| stopping())
}
