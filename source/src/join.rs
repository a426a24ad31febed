//! Letting nodes in: tokens for operators, and the one call of a joining node.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Invited, Member};
use codevol_protocol::chain::Chain;
use codevol_protocol::key::PublicKey;
use codevol_protocol::message::{Join, JoinReply, REFUSED_VOLUME_MINOR, Welcome};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::story::action;
use codevol_protocol::token::{Token, TokenId, TokenSecret};
use codevol_protocol::trust::SignedTrust;
use codevol_store::recorder::Recorder;
use codevol_store::state::Document;
use codevol_transport::{CloseCode, Peer};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::bus::now;
use crate::identity::random;
use crate::journal::Line;
use crate::roster::Roster;
use crate::strangers::Strangers;

/// How long a joiner may take for its one call.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The door of a fleet: its roster, and what a new member is told.
#[derive(Debug, Clone)]
pub struct Door {
    roster: Arc<Mutex<Document<Roster>>>,
    journal: Recorder,
    facts: Arc<DoorFacts>,
    strangers: Arc<Strangers>,
}

/// What does not change while the daemon runs.
#[derive(Debug)]
pub struct DoorFacts {
    /// Where tokens send the joiner; nothing where that cannot be said.
    pub advertise: Option<String>,
    /// This source's node key.
    pub source_key: PublicKey,
    /// The operator's key.
    pub operator: PublicKey,
    /// The trust record.
    pub trust: SignedTrust,
    /// The fleet.
    pub fleet: codevol_protocol::id::FleetId,
    /// The volumes there are.
    pub volumes: Vec<VolumeName>,
}

impl Door {
    /// Makes the door.
    #[must_use]
    pub fn new(roster: Document<Roster>, journal: Recorder, facts: DoorFacts) -> Self {
        Self {
            roster: Arc::new(Mutex::new(roster)),
            journal,
            facts: Arc::new(facts),
            strangers: Arc::default(),
        }
    }

    /// Counts one who came and belongs to nobody.
    pub fn turn_away(&self, remote: SocketAddr, why: &dyn std::fmt::Display) {
        self.strangers.turned_away(remote, why);
    }

    /// Returns the name of the member that holds a key.
    #[must_use]
    pub fn name_of(&self, key: &PublicKey) -> Option<NodeName> {
        self.with(|roster| roster.get().name_of(key).cloned())
    }

    /// Returns the members.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.with(|roster| {
            let members = roster.get().members().iter();
            members
                .map(|(name, member)| Member {
                    name: name.clone(),
                    role: member.role,
                    key: member.key,
                    joined_at: member.joined_at,
                    last_seen_at: None,
                    online: false,
                })
                .collect()
        })
    }

    /// Makes a token for one new node; durable when this returns.
    ///
    /// # Errors
    /// When the name is taken or nobody could be sent here.
    pub fn invite(
        &self,
        name: Option<NodeName>,
        ttl: Duration,
        author: &Text,
    ) -> Result<Invited, CallFailure> {
        let Some(advertise) = self.facts.advertise.clone() else {
            return Err(CallFailure::new(
                FailureSort::Configuration,
                "advertise",
                "the source listens on every address, so a token cannot say which one to dial",
            )
            .hint("set `advertise = \"HOST:PORT\"` in the source's configuration and restart it"));
        };
        let failed = |error: &dyn std::error::Error| {
            CallFailure::new(FailureSort::Failed, "invite", "no token was made").caused_by(error)
        };
        let id = TokenId(random().map_err(|error| failed(&error))?);
        let secret = TokenSecret(random().map_err(|error| failed(&error))?);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let moment = now();
        let expires_at = UnixMillis(moment.0.saturating_add(ttl_ms));
        self.change(|roster| roster.invite(id, &secret, name.clone(), (moment, expires_at)))
            .map_err(|error| failed(&error))?
            .map_err(|error| {
                CallFailure::new(FailureSort::Refused, "exists", error.to_string()).hint(
                    "`codevol node ls` lists the members; `codevol node rm NAME` takes one out",
                )
            })?;
        self.journal
            .record(Line::new("invite").actor(author).event());
        let token = Token {
            source: vec![advertise],
            source_key: self.facts.source_key,
            id,
            secret,
        };
        Ok(Invited {
            token: token.reveal(),
            name,
            expires_at,
        })
    }

    /// Takes a member out; durable when this returns.
    ///
    /// # Errors
    /// When there is none of that name, or the roster cannot be written.
    pub fn remove(&self, name: &NodeName, author: &Text) -> Result<(), CallFailure> {
        let removed = self.change(|roster| roster.remove(name)).map_err(|error| {
            CallFailure::new(FailureSort::Failed, "io", "the node was not removed")
                .caused_by(&error)
        })?;
        if removed.is_none() {
            return Err(CallFailure::new(
                FailureSort::Refused,
                "not-found",
                format!("there is no node `{name}`"),
            )
            .hint("`codevol node ls` lists the members"));
        }
        self.journal
            .record(Line::new(action::REMOVE).actor(author).node(name).event());
        Ok(())
    }

    /// Notes what an enrolled node did against the rules.
    pub fn note(&self, node: &NodeName, outcome: &'static str, detail: &str) {
        let line = Line::new("close").node(node).outcome(outcome);
        self.journal.record(line.detail(detail).event());
    }

    /// Serves one joiner, and returns the name of a new member.
    pub async fn serve(&self, peer: Peer) -> Option<NodeName> {
        match timeout(JOIN_TIMEOUT, self.answer(&peer)).await {
            Ok(Ok(joined)) => joined,
            Ok(Err(cause)) => {
                self.turn_away(peer.remote, &Chain(&cause));
                if let Some(code) = cause.violation() {
                    peer.link.close(code, "protocol violation");
                }
                None
            }
            Err(_) => {
                self.turn_away(peer.remote, &"no call came");
                peer.link.close(CloseCode::Violation, "no call came");
                None
            }
        }
    }

    async fn answer(&self, peer: &Peer) -> Result<Option<NodeName>, codevol_transport::FrameError> {
        let (mut writer, mut reader) = peer
            .link
            .accept_control()
            .await
            .map_err(codevol_transport::FrameError::Closed)?;
        let Some(join) = reader.read::<Join>().await? else {
            return Ok(None);
        };
        let admitted = self
            .volume_for(&join)
            .map_err(|why| (join.minor >= REFUSED_VOLUME_MINOR, why))
            .and_then(|volume| {
                let admitted = self.admit(&join, volume, peer.key);
                admitted.map_err(|why| (false, why))
            });
        let (reply, joined) = match admitted {
            Ok(welcome) => {
                let node = welcome.node.clone();
                info!(%node, remote = %peer.remote, "node joined");
                (JoinReply::Welcome(welcome), Some(node))
            }
            Err((is_volume, why)) => {
                self.turn_away(peer.remote, &why);
                let why = Text::cut(why);
                let refused = if is_volume {
                    JoinReply::RefusedVolume(why)
                } else {
                    JoinReply::Refused(why)
                };
                (refused, None)
            }
        };
        writer.write(&reply).await?;
        writer.finish().await?;
        // The joiner closes when it has read the answer.
        peer.link.closed().await;
        Ok(joined)
    }

    fn admit(&self, join: &Join, volume: VolumeName, key: PublicKey) -> Result<Welcome, String> {
        // Counted tries and used tokens are durable before anyone hears of them.
        let joined = self
            .change(|roster| roster.join(join, key, now()))
            .map_err(|error| {
                warn!(error = %Chain(&error), "roster cannot be written");
                "the source cannot write its roster".to_owned()
            })?;
        let node = joined.map_err(|refused| refused.to_string())?;
        self.journal.record(Line::new("join").node(&node).event());
        Ok(Welcome {
            fleet: self.facts.fleet,
            node,
            operator: self.facts.operator,
            trust: self.facts.trust.clone(),
            volume,
        })
    }

    fn volume_for(&self, join: &Join) -> Result<VolumeName, String> {
        let volumes = &self.facts.volumes;
        match (&join.volume, volumes.as_slice()) {
            (Some(wanted), _) if volumes.contains(wanted) => Ok(wanted.clone()),
            (Some(wanted), _) => Err(format!("the source has no volume `{wanted}`")),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err("the source has several volumes: say one with `--volume`".to_owned()),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Document<Roster>) -> T) -> T {
        look(&self.roster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the roster, durably where it did change, and returns what the change says.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Roster) -> T,
    ) -> Result<T, codevol_store::state::StateError> {
        block_in_place(|| {
            let mut document = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
            let mut roster = document.get().clone();
            let said = change(&mut roster);
            if roster != *document.get() {
                document.replace(roster)?;
            }
            Ok(said)
        })
    }
}
