//! Asks a daemon: one call, and what it answers. This machine's own over its control socket, the source
//! also over the network, as a member of the fleet.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_protocol::call::{Call, CallFailure, FailureSort, Reply};
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_transport::{CallReader, FrameError, FrameReader, FrameWriter, Link, ReplyWriter};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{Config, Loaded, Role};
use crate::error::{CommandError, in_words};
use crate::exit::ExitStatus;
use crate::remote::{self, Remote};

/// How long the daemon may take to accept a connection and a call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the daemon may take for an answer that needs no work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take for one that needs a look at the whole tree.
pub const SCAN_TIMEOUT: Duration = Duration::from_secs(900);

/// A daemon that can be asked.
#[derive(Debug, Clone)]
pub struct Control {
    role: Role,
    way: Way,
}

/// How it is reached.
#[derive(Debug, Clone)]
enum Way {
    /// By its control socket.
    Socket {
        path: PathBuf,
        /// The command that starts the daemon.
        start: String,
    },
    /// Over the network.
    Remote(Box<Remote>),
}

impl Control {
    /// Returns the daemon that a configuration describes: an operator's machine has none, and asks the
    /// source.
    ///
    /// # Errors
    /// The key of an operator's machine cannot be used.
    pub fn new(loaded: &Loaded) -> Result<Self, CommandError> {
        let (role, socket) = match &loaded.config {
            Config::Source(config) => (Role::Source, &config.control_socket),
            Config::Agent(config) => (Role::Agent, &config.control_socket),
            Config::Operator(config) => return Ok(Self::of_member(Remote::of_operator(config)?)),
        };
        let start = format!("codevol -C {} {role}", loaded.path.display());
        Ok(Self::of_socket(role, socket, start))
    }

    /// Returns the source, asked as a member of the fleet.
    #[must_use]
    pub fn of_member(remote: Remote) -> Self {
        Self {
            role: Role::Source,
            way: Way::Remote(Box::new(remote)),
        }
    }

    fn of_socket(role: Role, path: &Path, start: String) -> Self {
        let path = path.to_path_buf();
        Self {
            role,
            way: Way::Socket { path, start },
        }
    }

    /// Returns which daemon it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Asks, and waits for the one reply.
    ///
    /// # Errors
    /// The daemon cannot be reached, or it did not do what was asked.
    pub fn ask(&self, call: &Call) -> Result<Reply, CommandError> {
        self.ask_within(call, ANSWER_TIMEOUT)
    }

    /// Asks what may take the daemon so long.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_within(&self, call: &Call, limit: Duration) -> Result<Reply, CommandError> {
        block_on(self.ask_now(call, limit))?
    }

    /// Asks within a runtime.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_now(&self, call: &Call, limit: Duration) -> Result<Reply, CommandError> {
        let mut replies = self.begin(call).await?;
        let reply = replies.next(Instant::now() + limit).await;
        replies.hang_up().await;
        reply
    }

    /// Asks; the replies come one by one.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub async fn begin(&self, call: &Call) -> Result<Replies, CommandError> {
        let (path, start) = match &self.way {
            Way::Socket { path, start } => (path, start),
            Way::Remote(remote) => {
                let called = remote.call(call).await?;
                return Ok(Replies {
                    reader: called.reader.boxed(),
                    control: self.clone(),
                    writer: called.writer.boxed(),
                    link: Some(called.link),
                });
            }
        };
        let connect = timeout(CONNECT_TIMEOUT, UnixStream::connect(path));
        let stream = connect
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.not_reached((path, start), &error))?;
        let (reader, writer) = stream.into_split();
        let mut writer = FrameWriter::new(writer, CONTROL_FRAME_BYTES_MAX);
        match timeout(CONNECT_TIMEOUT, writer.write(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(error @ FrameError::TooLong { .. })) => {
                return Err(CommandError::usage("the call is too long").because(&error));
            }
            Ok(Err(error)) => return Err(self.silent().because(&error)),
            Err(_elapsed) => return Err(self.silent()),
        }
        Ok(Replies {
            reader: FrameReader::new(reader, CONTROL_FRAME_BYTES_MAX).boxed(),
            control: self.clone(),
            writer: writer.boxed(),
            link: None,
        })
    }

    fn not_reached(&self, (socket, start): (&Path, &str), error: &io::Error) -> CommandError {
        let (role, socket) = (self.role, socket.display());
        if error.kind() == io::ErrorKind::PermissionDenied {
            return CommandError::not_permitted(format!(
                "this user may not use the {role}'s control socket `{socket}`"
            ))
            .because(error)
            .hint(format!(
                "run it as the user that runs the {role}, or with `sudo`"
            ));
        }
        CommandError::unreachable(format!(
            "the {role} does not run: nothing answers at `{socket}`"
        ))
        .because(error)
        .hint(format!("`{start}` starts it"))
    }

    fn silent(&self) -> CommandError {
        let role = self.role;
        CommandError::unreachable(format!("the {role} took the call, but did not answer"))
            .hint("it may be stopping: ask again, and look at its log")
    }

    /// Says that the daemon's reply does not fit the call: it is another version of it.
    #[must_use]
    pub fn unexpected(&self) -> CommandError {
        let role = self.role;
        CommandError::failed(format!("the {role} answered something else than was asked")).hint(
            format!("is the {role} that runs of the same version? restart it"),
        )
    }
}

/// What the daemon answers to one call. Dropped, it hangs up.
pub struct Replies {
    reader: CallReader,
    control: Control,
    /// What follows the call. Kept open: the daemon must not take its end for ours.
    writer: ReplyWriter,
    link: Option<Link>,
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl Replies {
    /// Waits for the next reply.
    ///
    /// Cancel-safe, as [`FrameReader::read`] is.
    ///
    /// # Errors
    /// None comes until then, or the daemon did not do what was asked.
    pub async fn next(&mut self, until: Instant) -> Result<Reply, CommandError> {
        match timeout_at(until, self.reader.read()).await {
            Ok(Ok(Some(Reply::Failed(failure)))) => Err(failure.into()),
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) | Err(_) => Err(self.control.silent()),
            Ok(Err(error @ FrameError::Decode(_))) => {
                Err(self.control.unexpected().because(&error))
            }
            Ok(Err(error)) if self.link.is_some() => Err(remote::lost(&error)),
            Ok(Err(error)) => Err(self.control.silent().because(&error)),
        }
    }

    /// Whether a failure to hear the next reply leaves open what the daemon did: the connection ended,
    /// by which alone it would have said so.
    #[must_use]
    pub fn is_lost(&self, error: &CommandError) -> bool {
        let exit = error.exit;
        let ended = self
            .link
            .as_ref()
            .is_some_and(|link| link.close_reason().is_some());
        ended && matches!(exit, ExitStatus::Unreachable | ExitStatus::NotPermitted)
    }

    /// Says more after the call, as bytes.
    ///
    /// # Errors
    /// The daemon takes no more; why not, where it says so.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        let Err(error) = self.writer.write_bytes(bytes).await else {
            return Ok(());
        };
        // Whoever refuses says why, and listens no more.
        match self.next(Instant::now() + CONNECT_TIMEOUT).await {
            Err(failure) => Err(failure),
            Ok(_) => Err(self.unexpected().because(&error)),
        }
    }

    /// Says that what the daemon said does not fit the call.
    #[must_use]
    pub fn unexpected(&self) -> CommandError {
        self.control.unexpected()
    }

    /// Hangs up, and has a source that is elsewhere notice that at once.
    pub async fn hang_up(self) {
        if let Some(link) = &self.link {
            remote::hang_up(link).await;
        }
    }
}

/// Runs a future to its end on this thread.
///
/// # Errors
/// The system gives what a runtime needs to nobody any more.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed("cannot start").because(&error))?;
    Ok(runtime.block_on(future))
}

impl From<CallFailure> for CommandError {
    fn from(failure: CallFailure) -> Self {
        let exit = match failure.sort {
            FailureSort::Failed => ExitStatus::Failed,
            FailureSort::Usage => ExitStatus::Usage,
            FailureSort::Refused => ExitStatus::Refused,
            FailureSort::Unavailable => ExitStatus::Unreachable,
            FailureSort::Denied => ExitStatus::NotPermitted,
            FailureSort::Configuration => ExitStatus::Invalid,
        };
        Self {
            exit,
            kind: String::from(failure.kind).into(),
            message: failure.message.into(),
            causes: failure
                .causes
                .iter()
                .map(|cause| in_words(cause.as_str()))
                .collect(),
            hint: failure.hint.map(String::from),
            details: None,
        }
    }
}

#[cfg(test)]
mod tests;
