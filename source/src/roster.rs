//! Who belongs to the fleet, and who is invited: the source's own table. Pure: whoever changes it
//! makes the change durable before answering anyone.

mod rotate;

use std::collections::BTreeMap;

use codevol_protocol::id::BlobId;
use codevol_protocol::key::PublicKey;
use codevol_protocol::limits::{NODES_MAX, TOKEN_TRIES_MAX};
use codevol_protocol::message::Join;
use codevol_protocol::name::{NodeName, slug};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::role::Role;
use codevol_protocol::token::{TokenId, TokenSecret};
use serde::{Deserialize, Serialize};

pub use self::rotate::RotateRefused;

/// The members and the open invitations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roster {
    members: BTreeMap<NodeName, Member>,
    invitations: Vec<Invitation>,
}

/// An enrolled node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its key.
    pub key: PublicKey,
    /// What it may do.
    pub role: Role,
    /// The key that it is to have, once it has dialled by it: until then both are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PublicKey>,
    /// When it joined.
    pub joined_at: UnixMillis,
}

/// A token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Invitation {
    id: TokenId,
    /// The hash of the secret: who reads the table cannot join by it.
    secret: BlobId,
    name: Option<NodeName>,
    /// What the node may do once it is in.
    #[serde(default = "agent")]
    role: Role,
    expires_at: UnixMillis,
    wrong_tries: u32,
    /// Who used it. The same key may repeat, should our answer have been lost.
    used_by: Option<(NodeName, PublicKey)>,
}

/// What an invitation was for that was made before there were other roles.
const fn agent() -> Role {
    Role::Agent
}

/// Why nobody joins. The joiner is told no more than that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// No such invitation.
    #[error("join token is not known here, or was used up")]
    Unknown,
    /// The secret is wrong.
    #[error("join token is wrong")]
    WrongSecret,
    /// Too many wrong secrets.
    #[error("join token was burnt by {TOKEN_TRIES_MAX} wrong tries")]
    Burnt,
    /// Too late.
    #[error("join token expired at {0}")]
    Expired(UnixMillis),
    /// Another key was faster.
    #[error("join token was used already")]
    Used,
    /// The joiner wants another name than the invitation gives.
    #[error("join token is for `{invited}`, not for `{wanted}`")]
    OtherName {
        /// What the invitation says.
        invited: NodeName,
        /// What the joiner says.
        wanted: NodeName,
    },
    /// Nothing to be made of the host's name.
    #[error("host name `{0}` makes no node name: say one with `--name`")]
    NoName(String),
    /// The name is taken.
    #[error("a node named `{0}` is enrolled already")]
    NameTaken(NodeName),
    /// The key is taken.
    #[error("this key is enrolled already, as `{0}`")]
    KeyTaken(NodeName),
    /// The fleet is full.
    #[error("the fleet has {NODES_MAX} nodes already")]
    Full,
}

impl Roster {
    /// Returns the members by name.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeName, Member> {
        &self.members
    }

    /// Returns the member that holds this key, and its name.
    #[must_use]
    pub fn by_key(&self, key: &PublicKey) -> Option<(&NodeName, &Member)> {
        self.members.iter().find(|(_, member)| member.has(key))
    }

    /// Returns what whoever joins by a token may do.
    #[must_use]
    pub fn role_of(&self, token: TokenId) -> Option<Role> {
        let invitation = self.invitations.iter().find(|one| one.id == token);
        invitation.map(|invitation| invitation.role)
    }

    /// Returns the names of the agents: the others hold no volume.
    pub fn agents(&self) -> impl Iterator<Item = &NodeName> {
        let agents = self.members.iter();
        agents.filter_map(|(name, member)| (member.role == Role::Agent).then_some(name))
    }

    /// Opens an invitation; those that expired are forgotten.
    ///
    /// # Errors
    /// When the name is taken or the fleet is full.
    pub fn invite(
        &mut self,
        id: TokenId,
        secret: &TokenSecret,
        (role, name): (Role, Option<NodeName>),
        (now, expires_at): (UnixMillis, UnixMillis),
    ) -> Result<(), JoinRefused> {
        self.invitations
            .retain(|invitation| invitation.expires_at > now);
        if let Some(name) = name.as_ref().filter(|name| self.members.contains_key(name)) {
            return Err(JoinRefused::NameTaken(name.clone()));
        }
        if self.members.len() + self.invitations.len() >= NODES_MAX {
            return Err(JoinRefused::Full);
        }
        let secret = BlobId::of(&secret.0);
        let (wrong_tries, used_by) = (0, None);
        self.invitations.push(Invitation {
            id,
            secret,
            name,
            role,
            expires_at,
            wrong_tries,
            used_by,
        });
        Ok(())
    }

    /// Lets a node in, or counts a wrong try. The table may have changed in both cases.
    ///
    /// # Errors
    /// When the node may not join; the error says why.
    pub fn join(
        &mut self,
        join: &Join,
        key: PublicKey,
        now: UnixMillis,
    ) -> Result<NodeName, JoinRefused> {
        let at = self
            .invitations
            .iter_mut()
            .find(|invitation| invitation.id == join.token)
            .ok_or(JoinRefused::Unknown)?;
        if at.wrong_tries >= TOKEN_TRIES_MAX {
            return Err(JoinRefused::Burnt);
        }
        if at.secret != BlobId::of(&join.secret.0) {
            at.wrong_tries += 1;
            return Err(JoinRefused::WrongSecret);
        }
        if at.expires_at <= now {
            return Err(JoinRefused::Expired(at.expires_at));
        }
        match &at.used_by {
            Some((name, user)) if *user == key && self.members.contains_key(name) => {
                return Ok(name.clone());
            }
            Some(_) => return Err(JoinRefused::Used),
            None => {}
        }
        let name = wanted_name(at.name.as_ref(), join)?;
        if self.members.contains_key(&name) {
            return Err(JoinRefused::NameTaken(name));
        }
        if let Some((holder, _)) = self.members.iter().find(|(_, member)| member.has(&key)) {
            return Err(JoinRefused::KeyTaken(holder.clone()));
        }
        at.used_by = Some((name.clone(), key));
        let role = at.role;
        self.members.insert(
            name.clone(),
            Member {
                key,
                role,
                next: None,
                joined_at: now,
            },
        );
        Ok(name)
    }

    /// Takes a member out, and with it the right to repeat its join.
    pub fn remove(&mut self, name: &NodeName) -> Option<Member> {
        self.invitations.retain(|invitation| {
            invitation
                .used_by
                .as_ref()
                .is_none_or(|(user, _)| user != name)
        });
        self.members.remove(name)
    }
}

fn wanted_name(invited: Option<&NodeName>, join: &Join) -> Result<NodeName, JoinRefused> {
    match (invited, &join.name) {
        (Some(invited), Some(wanted)) if invited != wanted => Err(JoinRefused::OtherName {
            invited: invited.clone(),
            wanted: wanted.clone(),
        }),
        (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
        (None, None) => slug(join.host.as_str())
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| JoinRefused::NoName(join.host.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::key::SecretKey;
    use codevol_protocol::name::Text;

    use super::*;

    const ID: TokenId = TokenId([1; 8]);
    const NOW: UnixMillis = UnixMillis(1_000);
    const LATER: UnixMillis = UnixMillis(2_000);

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn invited(name: Option<&str>) -> Roster {
        let mut roster = Roster::default();
        let name = name.map(|name| name.parse().unwrap());
        roster
            .invite(ID, &TokenSecret([7; 16]), (Role::Agent, name), (NOW, LATER))
            .unwrap();
        roster
    }

    fn join(secret: u8, name: Option<&str>) -> Join {
        Join {
            minor: 0,
            token: ID,
            secret: TokenSecret([secret; 16]),
            name: name.map(|name| name.parse().unwrap()),
            host: Text::cut("Host_1.example"),
            volume: None,
        }
    }

    #[test]
    fn a_token_lets_one_key_in_which_may_repeat() {
        let mut roster = invited(Some("dag-01"));
        assert_eq!(roster.join(&join(7, None), key(1), NOW), Ok(name("dag-01")));
        assert_eq!(roster.join(&join(7, None), key(1), NOW), Ok(name("dag-01")));
        assert_eq!(
            roster.join(&join(7, None), key(2), NOW),
            Err(JoinRefused::Used)
        );
        let (holder, _) = roster.by_key(&key(1)).unwrap();
        assert_eq!(holder, &name("dag-01"));
    }

    #[test]
    fn a_member_may_do_what_its_invitation_says_and_only_agents_hold_the_volumes() {
        let mut roster = Roster::default();
        for (n, role) in [(1, Role::Agent), (2, Role::Operator), (3, Role::Publisher)] {
            let invited = (role, Some(name(role.as_str())));
            let (id, secret) = (TokenId([n; 8]), TokenSecret([7; 16]));
            roster.invite(id, &secret, invited, (NOW, LATER)).unwrap();
            let join = Join {
                token: id,
                ..join(7, None)
            };
            roster.join(&join, key(n), NOW).unwrap();
            assert_eq!(roster.by_key(&key(n)).unwrap().1.role, role);
        }
        assert!(roster.agents().eq([&name("agent")]));
    }

    #[test]
    fn five_wrong_tries_burn_a_token() {
        let mut roster = invited(None);
        for _ in 0..TOKEN_TRIES_MAX {
            assert_eq!(
                roster.join(&join(8, None), key(1), NOW),
                Err(JoinRefused::WrongSecret)
            );
        }
        assert_eq!(
            roster.join(&join(7, None), key(1), NOW),
            Err(JoinRefused::Burnt)
        );
    }

    #[test]
    fn an_expired_or_unknown_token_lets_nobody_in() {
        let refused = invited(None).join(&join(7, None), key(1), LATER);
        assert_eq!(refused, Err(JoinRefused::Expired(LATER)));
        let unknown = Roster::default().join(&join(7, None), key(1), NOW);
        assert_eq!(unknown, Err(JoinRefused::Unknown));
    }

    #[test]
    fn the_name_is_the_invitations_then_the_joiners_then_the_hosts() {
        let joined = |invited_as: Option<&str>, wanted: Option<&str>| {
            invited(invited_as).join(&join(7, wanted), key(1), NOW)
        };
        assert_eq!(joined(Some("a"), Some("a")), Ok(name("a")));
        assert_eq!(joined(None, Some("b")), Ok(name("b")));
        assert_eq!(joined(None, None), Ok(name("host-1-example")));
        assert!(matches!(
            joined(Some("a"), Some("b")),
            Err(JoinRefused::OtherName { .. })
        ));
    }

    #[test]
    fn names_and_keys_are_enrolled_once() {
        let mut roster = invited(Some("a"));
        roster.join(&join(7, None), key(1), NOW).unwrap();
        let again = roster.invite(
            ID,
            &TokenSecret([7; 16]),
            (Role::Agent, Some(name("a"))),
            (NOW, LATER),
        );
        assert_eq!(again, Err(JoinRefused::NameTaken(name("a"))));
        let second = TokenId([2; 8]);
        roster
            .invite(
                second,
                &TokenSecret([7; 16]),
                (Role::Agent, None),
                (NOW, LATER),
            )
            .unwrap();
        let other = Join {
            token: second,
            ..join(7, Some("b"))
        };
        assert_eq!(
            roster.join(&other, key(1), NOW),
            Err(JoinRefused::KeyTaken(name("a")))
        );
        let taken = Join {
            token: second,
            ..join(7, Some("a"))
        };
        assert_eq!(
            roster.join(&taken, key(2), NOW),
            Err(JoinRefused::NameTaken(name("a")))
        );
    }

    #[test]
    fn a_removed_node_cannot_come_back_by_its_old_token() {
        let mut roster = invited(Some("a"));
        roster.join(&join(7, None), key(1), NOW).unwrap();
        assert!(roster.remove(&name("a")).is_some());
        assert_eq!(
            roster.join(&join(7, None), key(1), NOW),
            Err(JoinRefused::Unknown)
        );
    }

    #[test]
    fn the_table_holds_no_secret() {
        let text = format!("{:?}", invited(None));
        assert!(!text.contains("7, 7, 7"), "{text}");
    }
}
