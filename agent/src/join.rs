//! Joining a fleet: pins the source's key, shows the token, and learns what there is to know.

use std::time::Duration;

use codevol_protocol::key::SecretKey;
use codevol_protocol::message::{Join, JoinReply, MINOR, Membership, Welcome};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::token::Token;
use codevol_protocol::trust::TrustError;
use codevol_transport::{Alpn, CloseCode, CloseReason, DialError, Dialer, FrameError};
use tokio::time::timeout;

/// How long the source may take to be reached.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the source may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What a joiner wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where to dial; nothing means what the token says.
    pub source: Vec<String>,
    /// What it wants to be called.
    pub name: Option<NodeName>,
    /// What its host is called.
    pub host: Text,
    /// The volume that it wants to hold.
    pub volume: Option<VolumeName>,
}

/// What a new member is told.
#[derive(Debug, Clone)]
pub enum Joined {
    /// It is an agent.
    Agent(Box<Welcome>),
    /// It holds no volume: an operator's machine, or a publisher.
    Member(Membership),
}

/// Nobody joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The source cannot be reached, or another host answers in its place.
    #[error("cannot reach the source")]
    Dial(#[from] DialError),
    /// The link ended before there was an answer.
    #[error("the source ended the connection")]
    Closed(#[from] CloseReason),
    /// The call could not be made.
    #[error("the source did not answer")]
    Frame(#[from] FrameError),
    /// No answer in time.
    #[error("the source did not answer within {0:?}")]
    Silent(Duration),
    /// The source says no, and why.
    #[error("the source refused: {0}")]
    Refused(Text),
    /// The source says that no one volume is meant, and why.
    #[error("the source refused: {0}")]
    RefusedVolume(Text),
    /// The trust record in the answer is not signed by the operator key in the answer.
    #[error("the source sent a trust record that does not hold")]
    Trust(#[from] TrustError),
    /// The trust record does not name the source that the token pins.
    #[error("the source's trust record does not name the source's own key")]
    OtherSource,
}

impl JoinError {
    /// Whether the source said no, as opposed to not being heard.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::RefusedVolume(_) | Self::Trust(_) | Self::OtherSource => true,
            Self::Dial(error) => matches!(error, DialError::WrongKey { .. }),
            Self::Closed(_) | Self::Frame(_) | Self::Silent(_) => false,
        }
    }
}

/// Joins, and returns what is now to be pinned and where the source was reached.
///
/// # Errors
/// When the source cannot be reached, is not the pinned one, or says no.
pub async fn join(
    key: &SecretKey,
    token: &Token,
    wanted: Wanted,
) -> Result<(Joined, Vec<String>), JoinError> {
    let addresses = if wanted.source.is_empty() {
        token.source.clone()
    } else {
        wanted.source
    };
    let dialer = Dialer::new(key);
    let mut failure = None;
    for address in &addresses {
        match dialer
            .dial(address, Alpn::Join, &token.source_key, DIAL_TIMEOUT)
            .await
        {
            Ok(link) => {
                let call = Join {
                    minor: MINOR,
                    token: token.id,
                    secret: token.secret.clone(),
                    name: wanted.name.clone(),
                    host: wanted.host.clone(),
                    volume: wanted.volume.clone(),
                };
                let answered = timeout(ANSWER_TIMEOUT, ask(&link, &call)).await;
                link.close(CloseCode::Done, "");
                link.drained().await;
                let joined = answered.or(Err(JoinError::Silent(ANSWER_TIMEOUT)))??;
                if let Joined::Agent(welcome) = &joined {
                    let trust = welcome.trust.verify(&welcome.operator)?;
                    if !trust.sources.contains(&token.source_key) {
                        return Err(JoinError::OtherSource);
                    }
                }
                return Ok((joined, addresses));
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or(JoinError::Silent(DIAL_TIMEOUT), JoinError::Dial))
}

async fn ask(link: &codevol_transport::Link, call: &Join) -> Result<Joined, JoinError> {
    let (mut writer, mut reader) = link.open_control().await?;
    writer.write(call).await?;
    match reader.read::<JoinReply>().await? {
        Some(JoinReply::Welcome(welcome)) => Ok(Joined::Agent(Box::new(welcome))),
        Some(JoinReply::Member(membership)) => Ok(Joined::Member(membership)),
        Some(JoinReply::Refused(why)) => Err(JoinError::Refused(why)),
        Some(JoinReply::RefusedVolume(why)) => Err(JoinError::RefusedVolume(why)),
        None => Err(JoinError::Silent(ANSWER_TIMEOUT)),
    }
}
