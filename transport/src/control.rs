//! Control sockets: how an operator on the same host reaches a daemon, one call a connection. Who
//! may connect is the socket's mode and the caller's uid; the author of what is done is the
//! caller's user name. What a call means, the daemon knows. And [`Caller`], which is also whoever calls
//! over a link.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::role::Role;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};
use serde::de::DeserializeOwned;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::frame::{FrameError, FrameReader, FrameWriter, Inlet, Outlet};
use crate::link::{LinkReader, LinkWriter};

/// How many callers are served at once; one more is turned away.
const CALLERS_MAX: usize = 64;
/// How long to wait when the system gives no more descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
/// How long an answer may still take once the daemon stops.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a caller may take to say what it wants.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
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

/// Someone who has called, and waits for the answer.
#[derive(Debug)]
pub struct Caller {
    /// The caller's name: of the user, on this host, or of the member.
    pub author: Text,
    /// Which member it is, and what that one may do; nothing for a user of this host who may use the
    /// control socket, and with it make every call.
    pub member: Option<(NodeName, Role)>,
    /// What the caller says after the call.
    pub reader: CallReader,
    /// What the caller hears.
    pub writer: ReplyWriter,
    _place: OwnedSemaphorePermit,
}

/// Reads what a caller says, whichever way it came.
pub type CallReader = FrameReader<Box<dyn Inlet>>;
/// Writes what a caller hears, whichever way it came.
pub type ReplyWriter = FrameWriter<Box<dyn Outlet>>;

impl Caller {
    /// Makes the caller that a member is, of the stream by which it called. `place` counts it.
    #[must_use]
    pub fn member(
        author: Text,
        member: (NodeName, Role),
        (reader, writer): (LinkReader, LinkWriter),
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            author,
            member: Some(member),
            reader: reader.boxed(),
            writer: writer.boxed(),
            _place: place,
        }
    }
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

    /// Answers each call in a task of its own until the daemon stops. Who has not called by then sees
    /// its connection end. A call that is being answered is answered to its end: whoever answers heeds
    /// the stop, and says why it breaks off.
    pub async fn serve<Call, Answer, Answered>(
        self,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        answer: Answer,
    ) where
        Call: DeserializeOwned + Send + 'static,
        Answer: Fn(Call, Caller) -> Answered + Clone + Send + 'static,
        Answered: Future<Output = Result<(), FrameError>> + Send + 'static,
    {
        loop {
            // Cancel-safe: `accept` loses no caller when dropped.
            let caller = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            tasks.spawn(answer_one(caller, (shutdown.clone(), answer.clone())));
        }
    }

    /// Waits for the next caller that may call. Cancel-safe.
    async fn accept(&self) -> Caller {
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
                warn!("control socket turned a caller away: it serves as many as it may");
                continue;
            };
            match author(&stream) {
                Some(author) => {
                    let (reader, writer) = framed(stream);
                    return Caller {
                        author,
                        member: None,
                        reader: reader.boxed(),
                        writer: writer.boxed(),
                        _place: place,
                    };
                }
                None => warn!("control socket refused another user's process"),
            }
        }
    }
}

async fn answer_one<Call: DeserializeOwned, Answered>(
    mut caller: Caller,
    (stop, answer): (CancellationToken, impl Fn(Call, Caller) -> Answered),
) where
    Answered: Future<Output = Result<(), FrameError>>,
{
    let call = tokio::select! {
        // Cancel-safe: who has not said what it wants is owed nothing.
        () = stop.cancelled() => return,
        call = timeout(CALL_TIMEOUT, caller.reader.read()) => call,
    };
    let answered = match call {
        Ok(Ok(Some(call))) => tokio::select! {
            // What is dropped is only the answer, to a caller that does not take it.
            () = last_moment(&stop) => return debug!("caller does not take its answer"),
            answered = answer(call, caller) => answered,
        },
        // It looked whether somebody listens, and left.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => return debug!("caller says nothing"),
    };
    if let Err(error) = answered {
        debug!(error = %Chain(&error), "caller went away");
    }
}

async fn last_moment(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_ANSWER_TIMEOUT).await;
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
        let tasks = TaskTracker::new();
        let serving = listener.serve(tasks, CancellationToken::new(), plus_one);
        tokio::select! {
            () = serving => unreachable!("nothing stops it"),
            answer = ask(&path, 7) => assert_eq!(answer, Some((8, user_name(geteuid())))),
        }
    }

    #[tokio::test]
    async fn a_caller_that_says_nothing_does_not_hold_up_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = ControlListener::bind(&path).unwrap();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(listener.serve(tasks.clone(), shutdown.clone(), plus_one));
        let silent = connect(&path).await.unwrap();
        // Callers are taken in their order: whoever called before was taken, too.
        assert!(ask(&path, 7).await.is_some());
        shutdown.cancel();
        tasks.close();
        timeout(CALL_TIMEOUT / 2, tasks.wait()).await.unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn whoever_is_being_answered_at_the_stop_hears_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = ControlListener::bind(&path).unwrap();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let stopped = shutdown.clone();
        let answer = move |_: u32, mut caller: Caller| {
            let stopped = stopped.clone();
            async move {
                caller.writer.write(&(0_u32, &caller.author)).await?;
                stopped.cancelled().await;
                caller.writer.write(&(1_u32, &caller.author)).await
            }
        };
        tasks.spawn(listener.serve(tasks.clone(), shutdown.clone(), answer));
        let (mut reader, mut writer) = connect(&path).await.unwrap();
        writer.write(&7_u32).await.unwrap();
        let mut heard = Vec::new();
        while let Ok(Some((word, _))) = reader.read::<(u32, Text)>().await {
            shutdown.cancel();
            heard.push(word);
        }
        assert_eq!(heard, [0, 1]);
        tasks.close();
        timeout(CALL_TIMEOUT / 2, tasks.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn one_caller_too_many_is_turned_away_until_another_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = ControlListener::bind(&path).unwrap();
        // It is answered for as long as it listens.
        async fn answer(_: u32, mut caller: Caller) -> Result<(), FrameError> {
            caller.writer.write(&0_u32).await?;
            caller.reader.read::<u32>().await.map(drop)
        }
        let serving = listener.serve(TaskTracker::new(), CancellationToken::new(), answer);
        let called = async || {
            let (mut reader, mut writer) = connect(&path).await.unwrap();
            // Who is turned away may hear of it here, or below.
            let written = writer.write(&7_u32).await;
            let answer = reader.read::<u32>().await;
            let is_answered = written.is_ok() && matches!(answer, Ok(Some(0)));
            is_answered.then_some((reader, writer))
        };
        let filled = async {
            let mut callers = Vec::new();
            for _ in 0..CALLERS_MAX {
                callers.push(called().await.expect("there is a place"));
            }
            assert!(called().await.is_none());
            callers.pop();
            // The place is free when the daemon has seen that.
            while called().await.is_none() {}
        };
        tokio::select! {
            () = serving => unreachable!("nothing stops it"),
            filled = timeout(CALL_TIMEOUT, filled) => filled.unwrap(),
        }
    }

    async fn plus_one(call: u32, mut caller: Caller) -> Result<(), FrameError> {
        caller.writer.write(&(call + 1, &caller.author)).await
    }

    async fn ask(path: &Path, call: u32) -> Option<(u32, Text)> {
        let (mut reader, mut writer) = connect(path).await.unwrap();
        writer.write(&call).await.unwrap();
        reader.read().await.unwrap()
    }
}
