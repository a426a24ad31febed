//! The screen of `codevol seal`.

use super::release;
use crate::commands::seal::Sealed;
use crate::output::units;

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(sealed: &Sealed) -> String {
    let files = usize::try_from(sealed.files).unwrap_or(usize::MAX);
    let files = units::count(files, "file", "files");
    let size = units::bytes(sealed.bytes);
    let (volume, path) = (&sealed.volume, sealed.path.display());
    let named = release(sealed.release, &sealed.id);
    let mut lines = vec![format!("Sealed   {named} of {volume}, {files} ({size})")];
    if sealed.format == "tar" {
        lines.push(format!("Wrote    {path}, a tar"));
    } else {
        lines.push(format!(
            "Wrote    {path}, an OCI image with the tree at {}",
            sealed.prefix
        ));
    }
    if let Some(base) = &sealed.base {
        lines.push(format!("Base     {base}"));
    }
    lines.push(format!("Digest   {}", sealed.digest));
    lines.push(format!(
        "Take in  codevol push {path}   on the source of another fleet"
    ));
    lines.join("\n")
}
