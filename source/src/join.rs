//! Letting nodes in: tokens for operators, and the one call of a joining node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codevol_protocol::call::{CallFailure, FailureSort, Invited, Member};
use codevol_protocol::chain::Chain;
use codevol_protocol::key::PublicKey;
use codevol_protocol::message::{
    Join, JoinReply, Membership, REFUSED_VOLUME_MINOR, ROLES_MINOR, Welcome,
};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::role::Role;
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

/// Why nobody joins, in words for the joiner.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// No one volume is meant; the token was not used.
    #[error("{0}")]
    Volume(String),
    /// Anything else.
    #[error("{0}")]
    Join(String),
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

    /// Returns the member that holds a key, and what it may do.
    #[must_use]
    pub fn member_of(&self, key: &PublicKey) -> Option<(NodeName, Role)> {
        self.with(|roster| {
            let (name, member) = roster.get().by_key(key)?;
            Some((name.clone(), member.role))
        })
    }

    /// Returns the names of the agents.
    #[must_use]
    pub fn agents(&self) -> BTreeSet<NodeName> {
        self.with(|roster| roster.get().agents().cloned().collect())
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

    /// Makes a token for one new member; durable when this returns.
    ///
    /// # Errors
    /// When the name is taken or nobody could be sent here.
    pub fn invite(
        &self,
        (role, name): (Role, Option<NodeName>),
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
        self.change(|roster| {
            let invited = (role, name.clone());
            roster.invite(id, &secret, invited, (moment, expires_at))
        })
        .map_err(|error| failed(&error))?
        .map_err(|error| {
            CallFailure::new(FailureSort::Refused, "exists", error.to_string())
                .hint("`codevol node ls` lists the members; `codevol node rm NAME` takes one out")
        })?;
        let line = Line::new("invite").actor(author);
        self.journal.record(line.detail(role.as_str()).event());
        let token = Token {
            source: vec![advertise],
            source_key: self.facts.source_key,
            id,
            secret,
            role,
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

    /// Takes in the key that a member is to have, who speaks by `current`; durable when this returns.
    ///
    /// # Errors
    /// When it may not have it, or the roster cannot be written; the error is for the member.
    pub fn announce(
        &self,
        node: &NodeName,
        current: &PublicKey,
        next: PublicKey,
    ) -> Result<(), String> {
        let announced = self.change(|roster| roster.announce(node, current, next));
        let announced = announced.map_err(|error| unwritten(&error))?;
        let line = Line::new(action::ROTATE).node(node);
        let line = match &announced {
            Ok(()) => line.outcome("announced").detail(&next.short()),
            Err(why) => line.outcome("refused").detail(&why.to_string()),
        };
        self.journal.record(line.event());
        announced.map_err(|why| why.to_string())
    }

    /// Takes note that a member has dialled by this key: where it is one that it announced, the old one
    /// is nobody's when this returns, durably.
    ///
    /// # Errors
    /// When the roster cannot be written.
    pub fn used(&self, node: &NodeName, key: &PublicKey) -> Result<(), String> {
        let used = self.change(|roster| roster.used(key));
        if let Some(old) = used.map_err(|error| unwritten(&error))? {
            info!(%node, key = key.short(), revoked = old.short(), "node has another key");
            let detail = format!("{} in place of {}", key.short(), old.short());
            let line = Line::new(action::ROTATE).node(node).outcome("done");
            self.journal.record(line.detail(&detail).event());
        }
        Ok(())
    }

    /// Notes that a member asked for what it may not.
    pub fn note_refused(&self, node: &NodeName, call: &str, role: Role) {
        let line = Line::new("call").actor(&Text::cut(node.as_str()));
        let line = line.node(node).outcome("refused");
        let detail = format!("{call}: not for the role `{role}`");
        self.journal.record(line.detail(&detail).event());
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
        let admitted = self.admit(&join, peer.key);
        let (reply, joined) = match admitted {
            Ok((reply, node)) => {
                info!(%node, remote = %peer.remote, "node joined");
                (reply, Some(node))
            }
            Err(refused) => {
                self.turn_away(peer.remote, &refused);
                let reply = match refused {
                    Refused::Volume(why) if join.minor >= REFUSED_VOLUME_MINOR => {
                        JoinReply::RefusedVolume(Text::cut(why))
                    }
                    Refused::Volume(why) | Refused::Join(why) => JoinReply::Refused(Text::cut(why)),
                };
                (reply, None)
            }
        };
        writer.write(&reply).await?;
        writer.finish().await?;
        // The joiner closes when it has read the answer.
        peer.link.closed().await;
        Ok(joined)
    }

    fn admit(&self, join: &Join, key: PublicKey) -> Result<(JoinReply, NodeName), Refused> {
        // An unknown token is refused below, as everything else that is wrong with it.
        let role = self.with(|roster| roster.get().role_of(join.token));
        let role = role.unwrap_or(Role::Agent);
        let volume = match role {
            Role::Agent => Some(self.volume_for(join).map_err(Refused::Volume)?),
            Role::Operator | Role::Publisher if join.minor < ROLES_MINOR => {
                let why = format!("this codevol is too old to join as {role}");
                return Err(Refused::Join(why));
            }
            Role::Operator | Role::Publisher => None,
        };
        // Counted tries and used tokens are durable before anyone hears of them.
        let joined = self
            .change(|roster| roster.join(join, key, now()))
            .map_err(|error| Refused::Join(unwritten(&error)))?;
        let node = joined.map_err(|refused| Refused::Join(refused.to_string()))?;
        let line = Line::new("join").node(&node).detail(role.as_str());
        self.journal.record(line.event());
        let fleet = self.facts.fleet;
        let Some(volume) = volume else {
            let membership = Membership {
                fleet,
                node: node.clone(),
                role,
            };
            return Ok((JoinReply::Member(membership), node));
        };
        let welcome = Welcome {
            fleet,
            node: node.clone(),
            operator: self.facts.operator,
            trust: self.facts.trust.clone(),
            volume,
        };
        Ok((JoinReply::Welcome(welcome), node))
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

/// What a peer is told where the roster cannot be written.
fn unwritten(error: &codevol_store::state::StateError) -> String {
    warn!(error = %Chain(error), "roster cannot be written");
    "the source cannot write its roster".to_owned()
}
