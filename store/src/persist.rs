//! One small file at a time: replaced whole, or made if absent. When a call has returned, what it
//! did survives the loss of power; when it was cut short, the old file or the new one stands there,
//! and perhaps a temporary one that [`sweep`] removes.

use std::io::{self, Write as _};

use rustix::fs;

use crate::dir::{Dir, DirError};

const TEMPORARY: &str = ".tmp-";

/// Who made the file that stands there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// This call.
    New,
    /// Somebody before it; that file is as it was.
    Exists,
}

/// Replaces a file, durably.
///
/// # Errors
/// When it cannot be written. After [`DirError::Sync`] the old or the new file stands there.
pub fn write(dir: &Dir, name: &str, mode: u32, bytes: &[u8]) -> Result<(), DirError> {
    let temporary = write_temporary(dir, mode, bytes)?;
    let renamed = dir.rename(&temporary, dir, name);
    if renamed.is_err() {
        discard(dir, &temporary);
    }
    renamed?;
    dir.sync()
}

/// Replaces a file unless it holds these bytes already; its name may not be durable yet.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn restore(dir: &Dir, path: &str, mode: u32, bytes: &[u8]) -> Result<(), DirError> {
    match dir.read(path, bytes.len() as u64) {
        Ok(held) if held == bytes => return Ok(()),
        // One of another length is damaged, too.
        Ok(_) | Err(DirError::TooLong { .. }) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    write(dir, path, mode, bytes)
}

/// Makes a file where none is, durably. Of several that try at once one wins.
///
/// # Errors
/// When it cannot be written. A file of ours that may not be durable is taken away again: it would
/// stand in the way of the next try, and pass for one that is.
pub fn create(dir: &Dir, name: &str, mode: u32, bytes: &[u8]) -> Result<Created, DirError> {
    let temporary = write_temporary(dir, mode, bytes)?;
    let linked = dir.link(&temporary, dir, name);
    discard(dir, &temporary);
    let created = created(linked)?;
    sync_created(dir, name, created)?;
    Ok(created)
}

/// Says who made a file that was to be linked to its name.
pub(crate) fn created(linked: Result<(), DirError>) -> Result<Created, DirError> {
    match linked {
        Ok(()) => Ok(Created::New),
        Err(error) if error.is_already_exists() => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

/// Makes the name durable, also of the file of another: who is told that it exists may rely on it.
pub(crate) fn sync_created(dir: &Dir, name: &str, created: Created) -> Result<(), DirError> {
    let synced = dir.sync();
    if synced.is_err() && created == Created::New {
        discard(dir, name);
    }
    synced
}

/// Takes a directory over from a process that may have been killed: removes what it did not finish, and
/// makes durable what it named. It may have died before it did so itself; what stands under its name
/// is relied on from here on, and a power cut must not take it away again.
///
/// # Errors
/// When the directory cannot be read, written or made durable.
pub fn take_over(dir: &Dir) -> Result<(), DirError> {
    sweep(dir)?;
    dir.sync()
}

/// Removes what writers that were cut short left behind; returns how many. Only where no other
/// writer is at work.
///
/// # Errors
/// When the directory cannot be read or a file not removed.
pub fn sweep(dir: &Dir) -> Result<usize, DirError> {
    let mut removed = 0;
    for (name, _) in dir.entries()? {
        if let Some(name) = name.to_str().filter(|name| is_temporary(name)) {
            dir.remove_file(name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a name is that of a file that was never finished.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Returns a name that nothing has yet, not even a leftover.
///
/// # Errors
/// When the system has no randomness.
pub fn temporary_name() -> Result<String, DirError> {
    let random = getrandom::u64()
        .map_err(|error| DirError::io("name", TEMPORARY, io::Error::other(error.to_string())))?;
    Ok(format!("{TEMPORARY}{random:016x}"))
}

fn write_temporary(dir: &Dir, mode: u32, bytes: &[u8]) -> Result<String, DirError> {
    let name = temporary_name()?;
    let mut file = dir.create_file(&name, mode)?;
    let written = file
        .write_all(bytes)
        .map_err(|error| DirError::io("write", &name, error))
        .and_then(|()| fs::fsync(&file).map_err(|errno| DirError::sync(&name, errno)));
    match written {
        Ok(()) => Ok(name),
        Err(error) => {
            discard(dir, &name);
            Err(error)
        }
    }
}

/// Removes a file that is not to count. Where that fails too, a temporary one goes with the sweep at
/// the next start.
pub(crate) fn discard(dir: &Dir, name: &str) {
    if let Err(error) = dir.remove_file(name) {
        tracing::debug!(name, %error, "file stays");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn opened() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn of_two_that_create_at_once_one_wins_and_its_bytes_stay() {
        let (_temp, dir) = opened();
        for round in 0..200 {
            let name = format!("{round}");
            let barrier = Barrier::new(2);
            let [first, second] = std::thread::scope(|scope| {
                [b"first", b"secnd"]
                    .map(|bytes| {
                        let (dir, name, barrier) = (&dir, &name, &barrier);
                        scope.spawn(move || {
                            barrier.wait();
                            create(dir, name, 0o600, bytes).unwrap()
                        })
                    })
                    .map(|thread| thread.join().unwrap())
            });
            assert_ne!(first, second, "round {round}");
            let winner: &[u8] = if first == Created::New {
                b"first"
            } else {
                b"secnd"
            };
            assert_eq!(dir.read(&name, 5).unwrap(), winner);
        }
        assert_eq!(sweep(&dir).unwrap(), 0);
    }

    #[test]
    fn a_writer_that_dies_at_any_step_leaves_the_old_or_the_new_file() {
        let (_temp, dir) = opened();
        write(&dir, "file", 0o600, b"old").unwrap();
        // Died before the bytes were whole, and before the rename.
        for bytes in [b"".as_slice(), b"ne", b"new"] {
            let mut file = dir.create_file(&temporary_name().unwrap(), 0o600).unwrap();
            file.write_all(bytes).unwrap();
        }
        assert_eq!(dir.read("file", 9).unwrap(), b"old");
        // Died between the link and the removal of the temporary name.
        let left = write_temporary(&dir, 0o600, b"made").unwrap();
        dir.link(&left, &dir, "made").unwrap();
        assert_eq!(sweep(&dir).unwrap(), 4);
        assert_eq!(dir.entries().unwrap().len(), 2);
        assert_eq!(
            create(&dir, "made", 0o600, b"later").unwrap(),
            Created::Exists
        );
        assert_eq!(dir.read("made", 9).unwrap(), b"made");
        write(&dir, "file", 0o600, b"new").unwrap();
        assert_eq!(dir.read("file", 9).unwrap(), b"new");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let (_temp, dir) = opened();
        dir.ensure_dir("taken/full", 0o700).unwrap();
        write(&dir, "taken", 0o600, b"x").unwrap_err();
        create(&dir, "no/such", 0o600, b"x").unwrap_err();
        assert_eq!(dir.entries().unwrap().len(), 1);
    }
}
