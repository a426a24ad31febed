//! Control sockets: how an operator on the same host reaches a daemon. Who may connect is the
//! socket's mode and the caller's uid; the author of what is done is the caller's user name.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::name::Text;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::frame::{FrameReader, FrameWriter};

/// How many callers are served at once; one more is turned away.
const CALLERS_MAX: usize = 64;
/// How long to wait when the system gives no more descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
const MODE: u32 = 0o600;

/// A control socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} control socket `{}`", path.display())]
pub struct ControlError {
    action: &'static str,
    path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Listens on a control socket. Dropped, it leaves the file behind, for the next one to replace.
#[derive(Debug)]
pub struct ControlListener {
    socket: UnixListener,
    places: Arc<Semaphore>,
}

/// Someone who may call.
#[derive(Debug)]
pub struct Caller {
    /// The caller's user name.
    pub author: Text,
    /// What the caller says.
    pub reader: FrameReader<OwnedReadHalf>,
    /// What the caller hears.
    pub writer: FrameWriter<OwnedWriteHalf>,
    _place: OwnedSemaphorePermit,
}

impl ControlListener {
    /// Binds a socket that only this user, and root, may use. One that a dead process left is
    /// replaced: the caller holds the lock of the daemon's state, so no other daemon lives.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError {
            action: "listen on",
            path: path.to_owned(),
            source,
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
        Ok(Self {
            socket,
            places: Arc::new(Semaphore::new(CALLERS_MAX)),
        })
    }

    /// Waits for the next caller that may call. Cancel-safe.
    pub async fn accept(&self) -> Caller {
        loop {
            // Cancel-safe: `accept` loses no connection when dropped, and neither does the wait.
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "control socket cannot accept");
                    tokio::time::sleep(ACCEPT_DELAY).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                continue;
            };
            match author(&stream) {
                Some(author) => {
                    let (reader, writer) = framed(stream);
                    return Caller {
                        author,
                        reader,
                        writer,
                        _place: place,
                    };
                }
                None => warn!("control socket refused another user's process"),
            }
        }
    }
}

/// Calls a daemon.
///
/// # Errors
/// When nobody listens at the path, or this user may not connect.
pub async fn connect(
    path: &Path,
) -> Result<(FrameReader<OwnedReadHalf>, FrameWriter<OwnedWriteHalf>), ControlError> {
    let stream = UnixStream::connect(path).await;
    stream.map(framed).map_err(|source| ControlError {
        action: "reach",
        path: path.to_owned(),
        source,
    })
}

fn framed(stream: UnixStream) -> (FrameReader<OwnedReadHalf>, FrameWriter<OwnedWriteHalf>) {
    let (reader, writer) = stream.into_split();
    (
        FrameReader::new(reader, CONTROL_FRAME_BYTES_MAX),
        FrameWriter::new(writer, CONTROL_FRAME_BYTES_MAX),
    )
}

/// Returns the caller's user name, where the caller is this daemon's own user or root.
fn author(stream: &UnixStream) -> Option<Text> {
    let peer = socket_peercred(stream.as_fd()).ok()?;
    (peer.uid == geteuid() || peer.uid == Uid::ROOT).then(|| user_name(peer.uid))
}

/// Looks a user up in `/etc/passwd`; who is not there is named by the number.
fn user_name(uid: Uid) -> Text {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid.as_raw())).then_some(name)
    });
    Text::cut(name.map_or_else(|| format!("uid {}", uid.as_raw()), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_system_names_it() {
        assert_eq!(user_name(Uid::ROOT).as_str(), "root");
        assert_eq!(
            user_name(Uid::from_raw(4_000_000_000)).as_str(),
            "uid 4000000000"
        );
    }

    #[tokio::test]
    async fn a_call_reaches_the_daemon_with_its_author_over_a_socket_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(ControlListener::bind(&path).unwrap());
        let listener = ControlListener::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        let call = async {
            let (mut reader, mut writer) = connect(&path).await.unwrap();
            writer.write(&7_u32).await.unwrap();
            reader.read::<u32>().await.unwrap()
        };
        let answer = async {
            let mut caller = listener.accept().await;
            assert_eq!(caller.author, user_name(geteuid()));
            let said = caller.reader.read::<u32>().await.unwrap().unwrap();
            caller.writer.write(&(said + 1)).await.unwrap();
        };
        let (heard, ()) = tokio::join!(call, answer);
        assert_eq!(heard, Some(8));
    }
}
