//! `codevol seal`: one release as an OCI image or a plain tar, for a host that no fleet reaches.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use codevol_protocol::call::{Call, ReleaseRef};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::marker::Marker;
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::Seq;
use serde::Serialize;

use crate::commands::Context;
use crate::config::{Config, Loaded};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::screens::seal;
use crate::sealed::base::Image;
use crate::sealed::digest::Hashed;
use crate::sealed::handed::Handed;
use crate::sealed::layout::{About, Layout};
use crate::sealed::prefix::Prefix;
use crate::sealed::tree::Tree;
use crate::sealed::workshop::Workshop;
use crate::sealed::{SealError, labels};

/// What is made in the workshop, before it is X.
const MADE: &str = "made";

/// The arguments of `seal`.
#[derive(Debug, clap::Args)]
pub struct SealArgs {
    /// The release, as `r42` or its id
    #[arg(value_name = "REL")]
    pub release: ReleaseRef,
    /// What to write: a name ending in `.tar` is a plain tar of the tree, any other the folder of an
    /// OCI image layout. Nothing may be there yet
    #[arg(short = 'o', long = "output", value_name = "X")]
    pub output: PathBuf,
    /// The image to lay the release on, one image in an OCI layout [default: none]
    #[arg(long, value_name = "LAYOUT", conflicts_with = "arch")]
    pub base: Option<PathBuf>,
    /// The folder in which the tree begins [default: /opt/dagster/app in an image, / in a tar]
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<Prefix>,
    /// The processor that an image without a base is said to be for, by the name that images give it
    #[arg(long, value_name = "NAME", default_value = "amd64")]
    pub arch: String,
    /// The volume, where there are several
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
}

/// What was sealed, and as what.
#[derive(Debug, Serialize)]
pub struct Sealed {
    schema: &'static str,
    /// `oci` or `tar`.
    pub format: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// The volume.
    pub volume: VolumeName,
    /// The release.
    pub release: Seq,
    /// Its id.
    pub id: ReleaseId,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// Where the tree begins.
    pub prefix: String,
    /// The SHA-256 of the image's manifest, or of the tar.
    pub digest: String,
    /// The digest of the base's manifest.
    pub base: Option<String>,
}

/// Seals a release.
///
/// # Errors
/// The daemon of this host does not run or has no such release, X is there, or it cannot be written.
pub fn run(args: &SealArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let (control, loaded) = context.daemon_and_configuration()?;
    let is_tar = args.output.extension().is_some_and(|end| end == "tar");
    if is_tar && args.base.is_some() {
        return Err(CommandError::usage("a plain tar has no base")
            .hint("`--base` is for an image: give X a name that does not end in `.tar`"));
    }
    outside_of_all(loaded.as_ref(), &args.output)?;
    let prefix = match &args.prefix {
        Some(prefix) => prefix.clone(),
        None if is_tar => Prefix::of_a_tar(),
        None => Prefix::of_an_image()
            .map_err(|error| CommandError::failed("no folder").because(&error))?,
    };
    let base = args.base.as_deref().map(Image::open).transpose()?;
    // Before anything is handed over: X may be taken.
    let workshop = Workshop::open(&args.output)?;
    let call = Call::Seal {
        volume: args.volume.clone(),
        release: args.release.clone(),
    };
    let progress = context.printer.progress("sealing");
    let mut handed = Handed::ask(&control, &call)?;
    let manifest = handed.manifest.clone();
    let marker = Marker::new(handed.id, &handed.release, &manifest);
    let tree = Tree {
        marker: &marker,
        manifest: &manifest,
        prefix: &prefix,
        hides_below: base.is_some(),
    };
    let made = workshop.path(MADE);
    let written = if is_tar {
        write_tar(&made, &tree, &mut handed)
    } else {
        let about = About {
            base: base.as_ref(),
            labels: labels::of(&marker, &handed.release.fleet, &prefix),
            architecture: &args.arch,
        };
        write_layout(made, &tree, &about, &mut handed)
    };
    let digest = written.map_err(|error| match error {
        SealError::Stream(error) => handed.why(&error),
        error => error.into(),
    })?;
    handed.go_on()?;
    workshop.finish(MADE)?;
    drop(progress);
    let sealed = Sealed {
        schema: "codevol.seal/1",
        format: if is_tar { "tar" } else { "oci" },
        path: args.output.clone(),
        volume: marker.volume,
        release: marker.seq,
        id: marker.id,
        files: marker.files,
        bytes: marker.bytes,
        prefix: prefix.to_string(),
        digest,
        base: base.map(|base| base.digest.to_string()),
    };
    if context.printer.is_json() {
        context.printer.json(&sealed)?;
    } else {
        context.printer.line(seal::render(&sealed))?;
    }
    Ok(ExitStatus::Done)
}

fn write_tar(path: &Path, tree: &Tree<'_>, handed: &mut Handed) -> Result<String, SealError> {
    let mut out = Hashed::new(BufWriter::new(File::create(path)?));
    tree.write(&mut out, handed)?;
    out.flush()?;
    let (file, digest, _) = out.finish();
    let file = file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(digest.to_string())
}

fn write_layout(
    folder: PathBuf,
    tree: &Tree<'_>,
    about: &About<'_>,
    handed: &mut Handed,
) -> Result<String, SealError> {
    if let Some(path) = tree.unfit_for_a_layer() {
        return Err(SealError::Whiteout(path.clone()));
    }
    let layout = Layout::create(folder)?;
    if let Some(base) = about.base {
        let mut go_on = || {
            handed
                .go_on()
                .map_err(|error| SealError::Ended(Box::new(error)))
        };
        layout.copy(base, &mut go_on)?;
    }
    let (digest, _) = layout.write(tree, handed, about)?;
    Ok(digest.to_string())
}

/// Refuses an X that a watcher would publish, or that an agent would find foreign.
fn outside_of_all(loaded: Option<&Loaded>, output: &Path) -> Result<(), CommandError> {
    let folders: Vec<PathBuf> = match loaded.map(|loaded| &loaded.config) {
        Some(Config::Source(config)) => config.volumes.iter().map(|v| v.path.clone()).collect(),
        Some(Config::Agent(config)) => config.volumes.iter().map(|v| v.root.clone()).collect(),
        Some(Config::Operator(_)) | None => Vec::new(),
    };
    let absolute = super::init::absolute(output)?;
    let parent = absolute.parent().unwrap_or_else(|| Path::new("/"));
    let parent = parent.canonicalize().map_err(|error| {
        let parent = parent.display();
        CommandError::environment(format!("cannot use the folder `{parent}`")).because(&error)
    })?;
    for folder in folders {
        let folder = folder.canonicalize().unwrap_or(folder);
        if parent.starts_with(&folder) {
            let (output, folder) = (output.display(), folder.display());
            return Err(CommandError::usage(format!(
                "`{output}` lies in the volume's folder `{folder}`"
            ))
            .hint("seal it elsewhere: there it would be a part of the tree"));
        }
    }
    Ok(())
}
