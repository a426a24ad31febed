//! One connection of a member that makes calls: each of its streams is one call, answered as those over
//! the control socket are.
//!
//! Nothing of it outlives the connection: a caller that is gone, or whose key was revoked, is answered no
//! more. What it asked for and what was begun goes on, as when a command is interrupted.

use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::call::{Call, CallFailure, FailureSort, Opening, Reply};
use codevol_protocol::codec;
use codevol_protocol::message::MINOR;
use codevol_protocol::name::{NodeName, Text};
use codevol_protocol::role::Role;
use codevol_transport::{Caller, FrameError, Link, LinkReader, LinkWriter};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::control::Desk;
use crate::session::SessionError;

/// How many calls of one connection are answered at once; a few more wait in the transport.
const CALLS_MAX: usize = 4;
/// How many calls of all connections are answered at once; one more is told so.
const PLACES: usize = 64;
/// How long a caller may take to say what it wants.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be open without a call.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds the calls of all connections.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

/// A member that makes calls.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name: the author of what it asks for.
    pub name: NodeName,
    /// What it may do.
    pub role: Role,
}

/// Answers the calls of one connection until it ends, is idle, or `stop` is cancelled.
///
/// # Errors
/// When the peer broke a rule.
pub async fn serve(
    desk: &Desk,
    link: &Link,
    member: &Member,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    // Dropped with this function, and with it all that is being answered.
    let mut calls: JoinSet<Result<(), SessionError>> = JoinSet::new();
    let mut idle_until = Instant::now() + IDLE_TIMEOUT;
    loop {
        // Cancel-safe: `accept_control` and `join_next` lose nothing when dropped.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = calls.join_next() => {
                idle_until = Instant::now() + IDLE_TIMEOUT;
                match ended {
                    Ok(answered) => heard(answered)?,
                    Err(ended) => error!(node = %member.name, error = %ended, "a call was broken off"),
                }
            }
            stream = link.accept_control(), if calls.len() < CALLS_MAX => {
                // The peer ends a connection when it wants no more.
                let Ok(stream) = stream else { return Ok(()) };
                calls.spawn(answer(desk.clone(), stream, member.clone()));
            }
            () = sleep_until(idle_until), if calls.is_empty() => return Ok(()),
        }
    }
}

/// A caller that went away is no breach of anything.
fn heard(answered: Result<(), SessionError>) -> Result<(), SessionError> {
    match answered {
        Err(error) if error.violation().is_some() => Err(error),
        Err(error) => {
            debug!(%error, "caller went away");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn answer(
    desk: Desk,
    (mut writer, mut reader): (LinkWriter, LinkReader),
    member: Member,
) -> Result<(), SessionError> {
    let said = timeout(CALL_TIMEOUT, hear(&mut reader)).await;
    let said = said.or(Err(SessionError::Silent(CALL_TIMEOUT)))??;
    let place = Arc::clone(&desk.places.0).try_acquire_owned();
    match (said, place) {
        (Said::Call(call), Ok(place)) => {
            let author = Text::cut(member.name.as_str());
            let role = (member.name, member.role);
            let caller = Caller::member(author, role, (reader, writer), place);
            desk.answer(call, caller).await?;
        }
        (Said::Unknown, _) => {
            let failure = CallFailure::new(
                FailureSort::Usage,
                "too-old",
                "the source is older than this codevol, and does not know this call",
            );
            let failure = failure.hint("update codevol on the source's host");
            writer.write(&Reply::Failed(failure)).await?;
        }
        (Said::Call(_), Err(_)) => {
            let message = "the source answers as many calls as it may";
            let failure = CallFailure::new(FailureSort::Unavailable, "busy", message);
            let failure = failure.hint("ask again in a moment");
            writer.write(&Reply::Failed(failure)).await?;
        }
        (Said::Nothing, _) => {}
    }
    Ok(())
}

/// What a stream begins with.
enum Said {
    Call(Call),
    /// A call of a newer version than ours.
    Unknown,
    /// It was closed again.
    Nothing,
}

async fn hear(reader: &mut LinkReader) -> Result<Said, FrameError> {
    let Some(opening) = reader.read::<Opening>().await? else {
        return Ok(Said::Nothing);
    };
    let Some(bytes) = reader.read_bytes().await? else {
        return Ok(Said::Nothing);
    };
    match codec::decode(&bytes) {
        Ok(call) => Ok(Said::Call(call)),
        Err(_) if opening.minor > MINOR => Ok(Said::Unknown),
        Err(error) => Err(error.into()),
    }
}
