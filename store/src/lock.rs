//! One daemon a directory. The lock is the kernel's and goes with the process, however it ends; the
//! file it is on stays, and its text only says who holds it.

use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::dir::{Dir, DirError};

/// A held lock; dropping it lets go.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _file: File,
}

/// The lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("`{name}` is held by {}", .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Held {
        /// The lock's file.
        name: String,
        /// The holder, as it named itself.
        pid: Option<u32>,
    },
    /// The file of the lock cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
}

const MODE: u32 = 0o600;
const PID_BYTES_MAX: u64 = 16;

impl Lock {
    /// Takes the lock, or says at once who holds it.
    ///
    /// # Errors
    /// When another process holds it, or its file cannot be used.
    pub fn acquire(dir: &Dir, name: &str) -> Result<Self, LockError> {
        let mut file = dir.append_file(name, MODE)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    name: name.to_owned(),
                    pid: holder(&mut file),
                });
            }
            Err(errno) => return Err(DirError::io("lock", name, errno).into()),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| DirError::io("write", name, error))?;
        Ok(Self { _file: file })
    }
}

/// Reads who wrote the file last. Between another's taking the lock and its writing, that is nobody.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_pid_of_the_first() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let first = Lock::acquire(&dir, "lock").unwrap();
        let refused = Lock::acquire(&dir, "lock").unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == own));
        assert_eq!(
            refused.to_string(),
            format!("`lock` is held by process {own}")
        );
        drop(first);
        drop(Lock::acquire(&dir, "lock").unwrap());
    }

    #[test]
    fn a_lock_whose_holder_was_killed_is_free() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        drop(dir.append_file("lock", MODE).unwrap());
        let script = "exec 9>>lock; flock -n 9 || exit 1; echo $$ >lock; echo held; read wait";
        let mut holder = Command::new("sh")
            .args(["-c", script])
            .current_dir(temp.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let refused = Lock::acquire(&dir, "lock").unwrap_err();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == holder.id()));
        holder.kill().unwrap();
        holder.wait().unwrap();
        drop(Lock::acquire(&dir, "lock").unwrap());
    }
}
