//! Asks the source as a member of the fleet: from an operator's machine or out of CI, over a connection
//! of its own, by a node key.

use std::path::Path;
use std::time::Duration;

use codevol_protocol::call::{Call, Opening};
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::message::MINOR;
use codevol_transport::{
    Alpn, CloseCode, CloseReason, DialError, Dialer, FrameError, Link, LinkReader, LinkWriter,
    keyfile,
};

use crate::config::{Environment, OperatorConfig, host_port};
use crate::error::CommandError;
use crate::membership;

/// How long an address of the source may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of a connection may take to reach the source.
const HANG_UP_TIMEOUT: Duration = Duration::from_millis(200);

const ADDRESSES: &str = "CODEVOL_SOURCE";
const SOURCE_KEY: &str = "CODEVOL_SOURCE_KEY";
const KEY_FILE: &str = "CODEVOL_KEY_FILE";

/// The source, and as whom it is asked.
#[derive(Debug, Clone)]
pub struct Remote {
    addresses: Vec<String>,
    source_key: PublicKey,
    key: SecretKey,
}

/// A call that was made, and the connection that carries it.
#[derive(Debug)]
pub struct Called {
    /// What the source says.
    pub reader: LinkReader,
    /// What is said after the call.
    pub writer: LinkWriter,
    /// The connection.
    pub link: Link,
}

impl Remote {
    /// Returns the source of an operator's configuration.
    ///
    /// # Errors
    /// This machine did not join, or its key cannot be used.
    pub fn of_operator(config: &OperatorConfig) -> Result<Self, CommandError> {
        let state = &config.state_dir;
        let (key, membership) = membership::open(state).map_err(|error| {
            let state = state.display();
            CommandError::environment(format!("cannot use this machine's key in `{state}`"))
                .because(&error)
                .hint("`codevol join TOKEN` makes one, with a token of `codevol invite --role operator`")
        })?;
        Ok(Self {
            addresses: config.source.clone(),
            source_key: membership.source_key,
            key,
        })
    }

    /// Returns the source that the environment alone describes; nothing where it names neither the
    /// source's key nor one of ours.
    ///
    /// # Errors
    /// It leaves something out, says what is none, or the key cannot be used.
    pub fn of_environment(environment: &Environment) -> Result<Option<Self>, CommandError> {
        if environment.held(SOURCE_KEY).is_none() && environment.held(KEY_FILE).is_none() {
            return Ok(None);
        }
        let absent: Vec<String> = [ADDRESSES, SOURCE_KEY, KEY_FILE]
            .into_iter()
            .filter(|name| environment.held(name).is_none())
            .map(|name| format!("`{name}`"))
            .collect();
        let (Some(addresses), Some(source_key), Some(key_file)) = (
            environment.held(ADDRESSES),
            environment.held(SOURCE_KEY),
            environment.held(KEY_FILE),
        ) else {
            let absent = absent.join(" and ");
            let message =
                format!("the environment describes a member of a fleet, but not {absent}");
            return Err(CommandError::config(message).hint(
                "set all three, as `codevol join` printed them, or none and name a configuration with `-C FILE`",
            ));
        };
        let invalid = |name: &str, why: String| {
            CommandError::config(format!("`{name}` is not as it must be")).cause(why)
        };
        let addresses: Result<Vec<String>, String> = addresses
            .to_string_lossy()
            .split(',')
            .map(|address| host_port(address.trim()))
            .collect();
        let addresses = addresses.map_err(|why| invalid(ADDRESSES, why))?;
        let source_key = source_key.to_string_lossy();
        let source_key = source_key.trim().parse::<PublicKey>();
        let source_key = source_key.map_err(|error| invalid(SOURCE_KEY, error.to_string()))?;
        let key = keyfile::load(Path::new(key_file)).map_err(|error| {
            CommandError::environment(format!("cannot use the key file that `{KEY_FILE}` names"))
                .because(&error)
        })?;
        Ok(Some(Self {
            addresses,
            source_key,
            key,
        }))
    }

    /// Names where the source is dialled.
    #[must_use]
    pub fn place(&self) -> String {
        self.addresses.join(", ")
    }

    /// Makes a call.
    ///
    /// # Errors
    /// The source cannot be reached, or does not take the call.
    pub async fn call(&self, call: &Call) -> Result<Called, CommandError> {
        let link = self.dial().await?;
        match say(&link, call).await {
            Ok((writer, reader)) => Ok(Called {
                reader,
                writer,
                link,
            }),
            Err(error @ FrameError::TooLong { .. }) => {
                Err(CommandError::usage("the call is too long").because(&error))
            }
            Err(error) => Err(lost(&error)),
        }
    }

    async fn dial(&self) -> Result<Link, CommandError> {
        let dialer = Dialer::new(&self.key);
        let mut failures = Vec::new();
        for address in &self.addresses {
            let dialled = dialer.dial(address, Alpn::Node, &self.source_key, DIAL_TIMEOUT);
            match dialled.await {
                Ok(link) => return Ok(link),
                Err(error @ DialError::WrongKey { .. }) => {
                    let message = format!("`{address}` is not the source that this machine knows");
                    return Err(CommandError::not_permitted(message).because(&error).hint(
                        "nothing was told to it; if the source has a new key, join again with a new token",
                    ));
                }
                Err(error) => failures.push(error),
            }
        }
        let place = self.place();
        let mut failure = CommandError::unreachable(format!("cannot reach the source at {place}"));
        for error in &failures {
            failure = failure.because(error);
        }
        Err(failure
            .hint("is the source running, and does UDP to that address and port get through?"))
    }
}

async fn say(link: &Link, call: &Call) -> Result<(LinkWriter, LinkReader), FrameError> {
    let (mut writer, reader) = link.open_control().await.map_err(FrameError::Closed)?;
    writer.write(&Opening { minor: MINOR }).await?;
    writer.write(call).await?;
    Ok((writer, reader))
}

/// Ends a connection in a way that the source notices at once.
pub async fn hang_up(link: &Link) {
    link.close(CloseCode::Done, "");
    // The source finds out by itself, if later.
    let drained = tokio::time::timeout(HANG_UP_TIMEOUT, link.drained()).await;
    drained.unwrap_or_default();
}

/// Says what the end of a connection means that was still needed.
#[must_use]
pub fn lost(error: &FrameError) -> CommandError {
    let FrameError::Closed(reason) = error else {
        return CommandError::unreachable("the source broke the connection off").because(error);
    };
    match reason.code() {
        Some(CloseCode::NotEnrolled | CloseCode::Revoked) => {
            let is_revoked = reason.code() == Some(CloseCode::Revoked);
            let message = if is_revoked {
                "this machine was taken out of the fleet"
            } else {
                "this machine is no member of the fleet"
            };
            CommandError::not_permitted(message)
                .because(reason)
                .hint("`codevol invite --role operator` on the source makes a token to join with")
        }
        Some(CloseCode::NotPermitted) => {
            CommandError::not_permitted("the source does not permit this").because(reason)
        }
        Some(CloseCode::Shutdown) => {
            CommandError::unreachable("the source is stopping").because(reason)
        }
        Some(CloseCode::Busy) => {
            CommandError::unreachable("the source takes no more connections of this machine")
                .because(reason)
                .hint("other commands run with the same key: wait for one of them to end")
        }
        Some(_) | None => unreachable_by(reason),
    }
}

fn unreachable_by(reason: &CloseReason) -> CommandError {
    CommandError::unreachable("the connection to the source was lost")
        .because(reason)
        .hint("ask again: `codevol status`")
}
