//! Another key for a member, without a new token: it announces one over a connection that its old key
//! opened, both are its own until it has dialled by the new one, and then the old one is nobody's.

use codevol_protocol::key::PublicKey;
use codevol_protocol::name::NodeName;

use super::{Member, Roster};

/// Why a member does not get another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateRefused {
    /// It is no member, or by another key.
    #[error("this connection's key is not the node's own any more")]
    NotItsKey,
    /// The key is somebody's.
    #[error("that key is enrolled already")]
    KeyTaken,
}

impl Member {
    /// Whether a key is its own, or is to be.
    pub(super) fn has(&self, key: &PublicKey) -> bool {
        self.key == *key || self.next.as_ref() == Some(key)
    }
}

impl Roster {
    /// Takes in the key that a member is to have, who speaks by `current`. One that it announced before
    /// and did not use is forgotten.
    ///
    /// # Errors
    /// When the member speaks by another key than its own, or the new one is somebody's.
    pub fn announce(
        &mut self,
        name: &NodeName,
        current: &PublicKey,
        next: PublicKey,
    ) -> Result<(), RotateRefused> {
        if self.by_key(&next).is_some_and(|(holder, _)| holder != name) {
            return Err(RotateRefused::KeyTaken);
        }
        let member = self.members.get_mut(name);
        let member = member.filter(|member| member.key == *current);
        let member = member.ok_or(RotateRefused::NotItsKey)?;
        if member.key == next {
            return Err(RotateRefused::KeyTaken);
        }
        member.next = Some(next);
        Ok(())
    }

    /// Takes note that a member has dialled by this key, and returns the one that is revoked by that. A
    /// token by which the old one joined lets nobody in any more.
    pub fn used(&mut self, key: &PublicKey) -> Option<PublicKey> {
        let found = self
            .members
            .iter_mut()
            .find(|(_, member)| member.next.as_ref() == Some(key));
        let (name, member) = found?;
        let old = std::mem::replace(&mut member.key, *key);
        member.next = None;
        self.invitations.retain(|invitation| {
            invitation
                .used_by
                .as_ref()
                .is_none_or(|(user, _)| user != name)
        });
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::key::SecretKey;
    use codevol_protocol::message::Join;
    use codevol_protocol::name::Text;
    use codevol_protocol::release::UnixMillis;
    use codevol_protocol::role::Role;
    use codevol_protocol::token::{TokenId, TokenSecret};

    use super::super::JoinRefused;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);
    const LATER: UnixMillis = UnixMillis(2_000);

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn join(id: u8, name: &str) -> Join {
        Join {
            minor: 0,
            token: TokenId([id; 8]),
            secret: TokenSecret([id; 16]),
            name: Some(name.parse().unwrap()),
            host: Text::default(),
            volume: None,
        }
    }

    fn holder(roster: &Roster, seed: u8) -> Option<NodeName> {
        roster.by_key(&key(seed)).map(|(name, _)| name.clone())
    }

    /// Two members, by the keys 1 and 2.
    fn roster() -> Roster {
        let mut roster = Roster::default();
        for (id, name) in [(1, "a"), (2, "b")] {
            let secret = TokenSecret([id; 16]);
            let times = (NOW, LATER);
            roster
                .invite(TokenId([id; 8]), &secret, (Role::Agent, None), times)
                .unwrap();
            roster.join(&join(id, name), key(id), NOW).unwrap();
        }
        roster
    }

    #[test]
    fn both_keys_are_the_members_until_the_new_one_is_used() {
        let mut roster = roster();
        roster.announce(&name("a"), &key(1), key(7)).unwrap();
        for seed in [1, 7] {
            assert_eq!(holder(&roster, seed), Some(name("a")));
        }
        assert_eq!(roster.used(&key(1)), None);
        // The answer was lost: it is said once more.
        roster.announce(&name("a"), &key(1), key(7)).unwrap();
        assert_eq!(roster.used(&key(7)), Some(key(1)));
        assert_eq!(roster.used(&key(7)), None);
        assert_eq!(holder(&roster, 1), None);
        assert_eq!(holder(&roster, 7), Some(name("a")));
        // Nor does the old key come back by its token, or by what it still has to say.
        assert_eq!(
            roster.join(&join(1, "a"), key(1), NOW),
            Err(JoinRefused::Unknown)
        );
        let again = roster.announce(&name("a"), &key(1), key(8));
        assert_eq!(again, Err(RotateRefused::NotItsKey));
    }

    #[test]
    fn a_key_that_was_announced_and_not_used_is_forgotten_for_the_next() {
        let mut roster = roster();
        roster.announce(&name("a"), &key(1), key(7)).unwrap();
        roster.announce(&name("a"), &key(1), key(8)).unwrap();
        assert_eq!(holder(&roster, 7), None);
        assert_eq!(roster.used(&key(8)), Some(key(1)));
    }

    #[test]
    fn nobody_gets_a_key_that_is_anothers_or_is_to_be() {
        let mut roster = roster();
        roster.announce(&name("a"), &key(1), key(7)).unwrap();
        for taken in [2, 7] {
            let refused = roster.announce(&name("b"), &key(2), key(taken));
            assert_eq!(refused, Err(RotateRefused::KeyTaken), "{taken}");
        }
        let same = roster.announce(&name("a"), &key(1), key(1));
        assert_eq!(same, Err(RotateRefused::KeyTaken));
        let unknown = roster.announce(&name("c"), &key(3), key(9));
        assert_eq!(unknown, Err(RotateRefused::NotItsKey));
        roster.remove(&name("a")).unwrap();
        assert_eq!(roster.used(&key(7)), None);
    }

    #[test]
    fn a_roster_of_an_earlier_build_is_read() {
        let roster = roster();
        let text = serde_json::to_string(&roster).unwrap();
        assert!(!text.contains("next"), "{text}");
        assert_eq!(serde_json::from_str::<Roster>(&text).unwrap(), roster);
    }
}
