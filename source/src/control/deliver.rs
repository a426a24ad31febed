//! Taking in what a caller delivers: manifest and ignore rules, then the files that the source lacks.
//! Every length is checked before memory or disk is taken for it, every file against its hash; nothing of
//! it has a name before it is published.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::call::delivery::{Delivery, Lacks, chunk_bytes};
use codevol_protocol::call::{CallFailure, FailureSort, Reply};
use codevol_protocol::id::BlobId;
use codevol_protocol::limits::PROGRESS_TIMEOUT;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::path::RelPath;
use codevol_protocol::role::Role;
use codevol_store::blobs::BlobError;
use codevol_store::landing::Landing;
use codevol_transport::{CallReader, FrameError, ReplyWriter};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout, timeout_at};

use super::Desk;
use super::answer::stopping;
use crate::history::History;
use crate::publish::Delivered;

/// How many deliveries are taken in at once: each may hold a manifest in memory.
const DELIVERIES_MAX: usize = 2;
/// How long a delivery may wait for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a delivery may take, however it moves on.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How much room is left on the disk at least, in bytes.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// Bounds the deliveries that are taken in at once.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DELIVERIES_MAX)))
    }
}

impl Desk {
    /// Takes in what lies with the caller, if it may go live, and publishes it.
    pub(super) async fn deliver(
        &self,
        delivery: Delivery,
        (author, member): (Text, Option<(NodeName, Role)>),
        (reader, writer): (&mut CallReader, &mut ReplyWriter),
    ) -> Result<Reply, CallFailure> {
        let role = member.as_ref().map_or(Role::Operator, |(_, role)| *role);
        let named = delivery.push.volume.clone();
        let wait = delivery.push.wait && !delivery.push.dry_run;
        let (_, volume) = self.volume(named.clone())?;
        delivery
            .check()
            .map_err(|error| CallFailure::new(FailureSort::Usage, "delivery", error.to_string()))?;
        // Before anything is sent. Whether it still may is asked once more when it is published.
        let may = volume.publisher.may_deliver(delivery.clone(), role).await;
        if let (Err(failure), Some((node, role))) = (&may, &member)
            && failure.sort == FailureSort::Denied
        {
            self.door.note_refused(node, "push --as", *role);
        }
        may?;
        let streams = (reader, &mut *writer);
        let delivered = self
            .turns
            .take((delivery, role), &volume.history, streams)
            .await?;
        self.follow(named, wait, writer, async |volume| {
            volume.publisher.deliver(delivered, author).await
        })
        .await
    }
}

impl Turns {
    /// Takes in a delivery, which was permitted.
    async fn take(
        &self,
        (delivery, role): (Delivery, Role),
        history: &History,
        (reader, writer): (&mut CallReader, &mut ReplyWriter),
    ) -> Result<Delivered, CallFailure> {
        let busy = |_| {
            let message = "others deliver as much as the source takes at once";
            CallFailure::new(FailureSort::Unavailable, "busy", message)
                .hint("push again in a moment")
        };
        let turn = Arc::clone(&self.0).acquire_owned();
        let turn = timeout(TURN_TIMEOUT, turn).await.map_err(busy)?;
        let turn = turn.map_err(|_closed| stopping())?;
        let until = Instant::now() + DELIVERY_TIMEOUT;
        let mut inbound = Inbound { reader, until };
        let bytes = inbound.all(delivery.manifest_bytes).await?;
        let rules = inbound.all(delivery.rules_bytes).await?;
        let manifest = block_in_place(|| Manifest::decode(&bytes))
            .map_err(|error| invalid("what was announced is no tree").caused_by(&error))?;
        drop(bytes);
        if manifest.is_empty() {
            return Err(invalid("nothing was announced"));
        }
        let mut landing = Landing::default();
        let mut landing_blobs = BTreeSet::new();
        if !delivery.push.dry_run {
            let lacked = block_in_place(|| lacked(history, &manifest))?;
            for lacks in Lacks::of(&lacked) {
                let told = writer.write(&Reply::Lacks(lacks)).await;
                told.map_err(|_gone| stopping())?;
            }
            let received = block_in_place(|| receive(history, &manifest, &lacked, &mut inbound))?;
            (landing, landing_blobs) = received;
        }
        Ok(Delivered {
            delivery,
            manifest,
            rules,
            landing,
            landing_blobs,
            role,
            turn: Some(turn),
        })
    }
}

/// What a caller says after the call.
struct Inbound<'a> {
    reader: &'a mut CallReader,
    /// When all of it must be there.
    until: Instant,
}

impl Inbound<'_> {
    /// Reads something of a known length; memory grows as it arrives.
    async fn all(&mut self, bytes: u64) -> Result<Vec<u8>, CallFailure> {
        let mut read = Vec::new();
        let mut left = bytes;
        while left > 0 {
            let chunk = self.chunk(left).await.map_err(|error| cut_short(&error))?;
            left -= chunk.len() as u64;
            read.extend(chunk);
        }
        Ok(read)
    }

    /// Reads the next chunk of something of which so much is left.
    async fn chunk(&mut self, left: u64) -> Result<Vec<u8>, FrameError> {
        let until = self.until.min(Instant::now() + PROGRESS_TIMEOUT);
        let read = timeout_at(until, self.reader.read_bytes()).await;
        let chunk = read.or(Err(FrameError::Slow))??;
        let chunk = chunk.ok_or(FrameError::Truncated)?;
        if chunk.len() == chunk_bytes(left) {
            Ok(chunk)
        } else {
            let (came, due) = (chunk.len(), chunk_bytes(left));
            let why = format!("a chunk of {came} bytes came where one of {due} was due");
            Err(FrameError::Io(io::Error::other(why)))
        }
    }
}

/// Returns which entries are files that the source lacks, each content once; checks that there is room
/// for them.
fn lacked(history: &History, manifest: &Manifest) -> Result<Vec<u32>, CallFailure> {
    let failed = |error: &BlobError| {
        CallFailure::new(
            FailureSort::Failed,
            "io",
            "the source cannot read its files",
        )
        .caused_by(error)
    };
    let mut seen = BTreeSet::new();
    let mut lacked = Vec::new();
    let mut bytes: u64 = 0;
    for (place, (_, entry)) in (0_u32..).zip(manifest.entries()) {
        let Some(blob) = entry.blob() else { continue };
        if seen.insert(blob) && !history.blobs().has(blob).map_err(|error| failed(&error))? {
            lacked.push(place);
            bytes = bytes.saturating_add(entry.size());
        }
    }
    let free = history
        .blobs()
        .free_bytes()
        .map_err(|error| failed(&error))?;
    if bytes > free.saturating_sub(FREE_BYTES_MIN) {
        let message = format!("the source has no room for {bytes} bytes: {free} are free");
        return Err(CallFailure::new(FailureSort::Failed, "no-space", message)
            .hint("make room on the source's disk, where its state folder lies"));
    }
    Ok(lacked)
}

/// Receives the files that are lacked.
fn receive(
    history: &History,
    manifest: &Manifest,
    lacked: &[u32],
    inbound: &mut Inbound<'_>,
) -> Result<(Landing, BTreeSet<BlobId>), CallFailure> {
    let mut blobs = BTreeSet::new();
    let mut batch = history.blobs().batch();
    for place in lacked {
        let entry = usize::try_from(*place).ok();
        let entry = entry.and_then(|place| manifest.entries().get(place));
        let Some((path, Entry::File { blob, size, .. })) = entry else {
            continue;
        };
        let mut file = Incoming {
            inbound,
            chunk: Vec::new(),
            read: 0,
            left: *size,
        };
        let put = batch.put_expected(&mut file, *blob);
        put.map_err(|error| not_received(path, error))?;
        blobs.insert(*blob);
    }
    let mut landing = Landing::default();
    batch.land(&mut landing);
    Ok((landing, blobs))
}

fn not_received(path: &RelPath, error: BlobError) -> CallFailure {
    match error {
        BlobError::Read(error) => match error.downcast::<FrameError>() {
            Ok(error) => cut_short(&error),
            Err(error) => CallFailure::new(FailureSort::Failed, "io", "a file did not arrive")
                .caused_by(&error),
        },
        error @ BlobError::Other { .. } => {
            let message = format!("`{path}` is not what was announced: it changed meanwhile");
            CallFailure::new(FailureSort::Failed, "changed", message)
                .caused_by(&error)
                .hint("push again")
        }
        error => {
            let message = format!("the source cannot keep `{path}`");
            CallFailure::new(FailureSort::Failed, "io", message).caused_by(&error)
        }
    }
}

fn invalid(message: &str) -> CallFailure {
    CallFailure::new(FailureSort::Usage, "delivery", message)
}

fn cut_short(error: &FrameError) -> CallFailure {
    let message = "the delivery was cut short: nothing was published";
    CallFailure::new(FailureSort::Unavailable, "delivery", message).caused_by(error)
}

/// One file on its way, read by whoever keeps it.
struct Incoming<'a, 'i> {
    inbound: &'a mut Inbound<'i>,
    chunk: Vec<u8>,
    read: usize,
    left: u64,
}

impl Read for Incoming<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            let next = Handle::current().block_on(self.inbound.chunk(self.left));
            self.chunk = next.map_err(io::Error::other)?;
            self.left -= self.chunk.len() as u64;
            self.read = 0;
        }
        let mut rest = self.chunk.get(self.read..).unwrap_or_default();
        let read = Read::read(&mut rest, into)?;
        self.read += read;
        Ok(read)
    }
}
