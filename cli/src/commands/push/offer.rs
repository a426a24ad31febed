//! What is published from this machine: a folder, a sealed release, or one file that takes a place in
//! the tree.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use codevol_protocol::call::delivery::{Delivery, Lacks, chunk_bytes};
use codevol_protocol::call::{Push, PushPlan, Reply};
use codevol_protocol::id::BlobId;
use codevol_protocol::limits::FILE_BYTES_MAX;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::name::Text;
use codevol_protocol::path::RelPath;
use codevol_protocol::status::Skipped;
use codevol_source::git::Asker;
use codevol_source::rules::Rules;
use codevol_source::scan::Scanner;
use rustix::fs::OFlags;
use tokio::time::Instant;

use crate::control::{Replies, SCAN_TIMEOUT, block_on};
use crate::error::CommandError;
use crate::output::progress::Progress;
use crate::output::units;
use crate::sealed::open::Sealed;

/// How often a folder that changes while it is read is read again.
const LOOKS_MAX: usize = 5;

/// Files that are to be published.
#[derive(Debug)]
pub(in crate::commands) struct Offer {
    /// What the source is told of them.
    pub(in crate::commands) delivery: Delivery,
    /// What the folder holds and cannot be carried.
    skipped: Vec<Skipped>,
    /// How long it took to look at all of it.
    hashed_ms: u64,
    manifest: Manifest,
    encoded: Vec<u8>,
    rules: Vec<u8>,
    files: Files,
}

/// Where the files lie.
#[derive(Debug)]
enum Files {
    Folder(Box<Scanner>),
    One(PathBuf),
    Sealed(Box<Sealed>),
}

impl Offer {
    /// Offers a folder as a whole tree, less what its ignore rules leave out.
    ///
    /// # Errors
    /// It cannot be read, or keeps changing.
    pub(in crate::commands) fn folder(dir: &Path, push: Push) -> Result<Self, CommandError> {
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            let dir = dir.display();
            CommandError::environment(format!("cannot read the folder `{dir}`")).because(error)
        };
        let began = Instant::now();
        let mut scanner = Scanner::open(dir, &[], None).map_err(|error| unreadable(&error))?;
        let mut scan = scanner.full().map_err(|error| unreadable(&error))?;
        for _ in 1..LOOKS_MAX {
            if scan.unstable.is_empty() {
                break;
            }
            scan = scanner.full().map_err(|error| unreadable(&error))?;
        }
        if let Some(path) = scan.unstable.first() {
            let message = format!("`{path}` changes each time while it is read");
            return Err(CommandError::failed(message).hint("push when nothing writes to it"));
        }
        if scan.manifest.is_empty() {
            let message = format!("`{}` holds nothing to publish", dir.display());
            return Err(CommandError::refused("empty", message)
                .hint("is it the folder of your Dagster project?"));
        }
        let skipped = scan.skipped.iter().map(|skipped| Skipped {
            path: Text::cut(&skipped.path),
            why: Text::cut(skipped.why.to_string()),
        });
        let skipped = skipped.collect();
        let hashed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let git = block_on(Asker::default().describe(dir))?.ok().flatten();
        let files = Files::Folder(Box::new(scanner));
        let mut offer = Self::new((push, git), scan.manifest, files);
        offer.delivery.whole = true;
        offer.delivery.rules_bytes = scan.rules_blob.len() as u64;
        (offer.rules, offer.skipped) = (scan.rules_blob, skipped);
        offer.hashed_ms = hashed_ms;
        Ok(offer)
    }

    /// Offers a sealed release as a whole tree. Its message says where it came from.
    ///
    /// # Errors
    /// It cannot be read, or is not what it should be.
    pub(in crate::commands) fn sealed(path: &Path, push: Push) -> Result<Self, CommandError> {
        let began = Instant::now();
        let sealed = Sealed::open(path)?;
        let marker = &sealed.marker;
        let (seq, id, volume) = (marker.seq, marker.id.short(), &marker.volume);
        let message = Text::cut(format!("sealed {seq} {id} of {volume}"));
        // Of what may stand beside its files it says nothing: what is left out everywhere.
        let rules = Rules::new(&[])
            .map_err(|error| CommandError::failed("cannot make rules").because(&error))?;
        let (git, manifest) = (marker.git.clone(), sealed.manifest.clone());
        let push = Push { message, ..push };
        let mut offer = Self::new((push, git), manifest, Files::Sealed(Box::new(sealed)));
        offer.rules = rules.canonical_text();
        offer.delivery.whole = true;
        offer.delivery.rules_bytes = offer.rules.len() as u64;
        offer.hashed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(offer)
    }

    /// Offers one file, for a place in the tree.
    ///
    /// # Errors
    /// It is no file, or cannot be read.
    pub(in crate::commands) fn file(
        place: &RelPath,
        file: &Path,
        push: Push,
    ) -> Result<Self, CommandError> {
        let unreadable = |error: &io::Error| {
            CommandError::environment(format!("cannot read `{}`", file.display())).because(error)
        };
        let mut opened = open(file).map_err(|error| unreadable(&error))?;
        let metadata = opened.metadata().map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            let message = format!("`{}` is no file", file.display());
            return Err(CommandError::usage(message)
                .hint("`--as` takes one file; `codevol push DIR` takes a folder"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            let message = format!("`{}` is larger than a file may be", file.display());
            return Err(CommandError::usage(message));
        }
        let mut hasher = blake3::Hasher::new();
        let hashed = hasher.update_reader(&mut opened);
        let size = hashed.map_err(|error| unreadable(&error))?.count();
        let entry = Entry::File {
            blob: BlobId::from(hasher.finalize()),
            size,
            executable: metadata.permissions().mode() & 0o111 != 0,
        };
        let manifest = Manifest::new(vec![(place.clone(), entry)]);
        let manifest = manifest.map_err(|error| {
            CommandError::usage(format!("`{place}` cannot be a path of a tree")).because(&error)
        })?;
        let git = block_on(Asker::default().describe_file(file))?
            .ok()
            .flatten();
        let files = Files::One(file.to_path_buf());
        Ok(Self::new((push, git), manifest, files))
    }

    fn new(
        (push, git): (Push, Option<codevol_protocol::release::Git>),
        manifest: Manifest,
        files: Files,
    ) -> Self {
        let encoded = manifest.encode();
        let delivery = Delivery {
            push,
            whole: false,
            force: false,
            host: Text::cut(rustix::system::uname().nodename().to_string_lossy()),
            git,
            manifest_bytes: encoded.len() as u64,
            rules_bytes: 0,
        };
        Self {
            delivery,
            skipped: Vec::new(),
            hashed_ms: 0,
            manifest,
            encoded,
            rules: Vec::new(),
            files,
        }
    }

    /// Returns the source's plan with what only this machine has seen.
    pub(in crate::commands) fn seen_in(&self, plan: PushPlan) -> PushPlan {
        PushPlan {
            skipped: self.skipped.clone(),
            hashed_ms: self.hashed_ms,
            ..plan
        }
    }

    /// Sends what was announced, and the files that the source lacks.
    ///
    /// # Errors
    /// The source refuses it, a file changed meanwhile, or the connection was lost.
    pub(in crate::commands) async fn send(
        &self,
        replies: &mut Replies,
        progress: &Progress,
    ) -> Result<(), CommandError> {
        for part in [&self.encoded, &self.rules] {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(chunk_bytes(rest.len() as u64));
                replies.say(chunk).await?;
                rest = more;
            }
        }
        if self.delivery.push.dry_run {
            return Ok(());
        }
        let mut lacked = Vec::new();
        loop {
            let reply = replies.next(Instant::now() + SCAN_TIMEOUT).await?;
            let Reply::Lacks(Lacks { files, more }) = reply else {
                return Err(replies.unexpected());
            };
            lacked.extend(files);
            if !more {
                break;
            }
        }
        let count = lacked.len();
        for (done, place) in lacked.into_iter().enumerate() {
            progress.picture(|| {
                let files = units::count(count, "file", "files");
                format!("sending {files}: {done} sent")
            });
            let entry = usize::try_from(place).ok();
            let entry = entry.and_then(|place| self.manifest.entries().get(place));
            let Some((path, Entry::File { size, .. })) = entry else {
                return Err(replies.unexpected());
            };
            self.send_file(path, *size, replies).await?;
        }
        Ok(())
    }

    async fn send_file(
        &self,
        path: &RelPath,
        size: u64,
        replies: &mut Replies,
    ) -> Result<(), CommandError> {
        let changed = || {
            CommandError::failed(format!(
                "`{path}` changed while it was sent; nothing was published"
            ))
            .hint("push again")
        };
        let mut file = self.open(path).map_err(|error| changed().because(&error))?;
        let mut left = size;
        let mut chunk = Vec::new();
        while left > 0 {
            chunk.resize(chunk_bytes(left), 0);
            // One that is shorter by now is not what was announced.
            let read = file.read_exact(&mut chunk);
            read.map_err(|error| changed().because(&error))?;
            replies.say(&chunk).await?;
            left -= chunk.len() as u64;
        }
        Ok(())
    }

    fn open(&self, path: &RelPath) -> io::Result<File> {
        match &self.files {
            Files::Folder(scanner) => scanner.open_file(path).map_err(io::Error::other),
            Files::One(file) => open(file),
            Files::Sealed(sealed) => sealed.open_file(path),
        }
    }
}

/// Opens a file, not to be held up by a pipe.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}
