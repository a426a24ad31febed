//! Secret keys in files: one line of text, readable by the owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use codevol_protocol::key::SecretKey;
use data_encoding::BASE32_NOPAD;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// A key file cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system or the random source refused.
    #[error("cannot {action} key file `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others than the owner can get at the file.
    #[error("key file `{path}` has mode {mode:04o}, so others can get at it: `chmod 600 {path}`")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("`{path}` is no codevol secret key")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a new key and keeps it at `path`, where nothing may be yet. The file appears whole or not
/// at all, and survives a power cut once this returns.
///
/// # Errors
/// When the path is taken, or the file cannot be written.
pub fn create(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |action| {
        move |source| KeyFileError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| io::Error::other(error.to_string()))
        .map_err(failed("draw random bytes for"))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    // A name that only a crash of an earlier try can have left behind.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("clear the way for")(error));
        }
        Ok(()) | Err(_) => {}
    }
    write_new(&unfinished, &seed).map_err(failed("write"))?;
    // A link, unlike a rename, does not replace what is there.
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished).map_err(failed("clean up after"))?;
    linked.map_err(failed("create"))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("make durable"))?;
    Ok(SecretKey::from_seed(&seed))
}

fn write_new(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(KEY_MODE)
        .open(path)?;
    // The umask may have taken the owner's own bits away.
    file.set_permissions(fs::Permissions::from_mode(KEY_MODE))?;
    let digits = Zeroizing::new(BASE32_NOPAD.encode(seed));
    let line = Zeroizing::new(format!(
        "{PREFIX}{}\n",
        Zeroizing::new(digits.to_ascii_lowercase()).as_str()
    ));
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Reads the key that is kept at `path`.
///
/// # Errors
/// When it cannot be read, holds no key, or others than its owner can get at it.
pub fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    // Not to be held up by a pipe that someone put there.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let not_a_key = || KeyFileError::NotAKey {
        path: path.to_owned(),
    };
    if !metadata.is_file() {
        return Err(not_a_key());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
    file.take(FILE_BYTES_MAX as u64)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let seed = parse(&text).ok_or_else(not_a_key)?;
    Ok(SecretKey::from_seed(&seed))
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.trim_ascii_end().strip_prefix(PREFIX.as_bytes())?;
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let digits = Zeroizing::new(digits.to_ascii_uppercase());
    let bytes = Zeroizing::new(BASE32_NOPAD.decode(&digits).ok()?);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

const PREFIX: &str = "ed25519-secret:";
const KEY_MODE: u32 = 0o600;
/// More than any key file is long.
const FILE_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
