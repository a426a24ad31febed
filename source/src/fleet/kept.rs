//! What of a fleet survives a restart: what the rollout machine needs, and what only people do.

use codevol_protocol::release::UnixMillis;
use codevol_protocol::rollout::Saved;
use serde::{Deserialize, Serialize};

use crate::bus::now;

/// Where in a volume's folder it is kept.
pub(crate) const ROLLOUT: &str = "rollout";
pub(crate) const ROLLOUT_SCHEMA: &str = "codevol.rollout/1";

/// The state of a volume's fleet, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What the machine needs.
    #[serde(flatten)]
    pub saved: Saved,
    /// When the rollout that runs began; the machine has no clock.
    #[serde(default)]
    pub started_at: Option<UnixMillis>,
}

impl Kept {
    /// Returns what is to be kept next.
    pub(super) fn followed_by(&self, saved: Saved) -> Self {
        let runs = |saved: &Saved| saved.rollout.as_ref().map(|r| r.target.release);
        let same = runs(&self.saved) == runs(&saved);
        let started_at = self.started_at.filter(|_| same);
        Self {
            started_at: runs(&saved).map(|_| started_at.unwrap_or_else(now)),
            saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use codevol_protocol::id::ReleaseId;
    use codevol_protocol::rollout::{Quarantined, Rollout, Step, Waiting};

    use super::*;

    fn running(seq: u8) -> Saved {
        let release = ReleaseId::of(&[seq]);
        let node = "dag-01".parse().unwrap();
        Saved {
            rollout: Some(Rollout {
                target: Waiting {
                    release,
                    wanted: true,
                },
                waves: vec![BTreeSet::from([node])],
                refused: false,
                step: Step::Stage,
            }),
            broken: [(release, BTreeSet::new())].into(),
            ..Saved::default()
        }
    }

    #[test]
    fn a_rollout_keeps_when_it_began_and_the_next_begins_anew() {
        let mut kept = Kept::default().followed_by(running(1));
        assert!(kept.started_at.is_some());
        kept.started_at = Some(UnixMillis(7));
        let kept = kept.followed_by(running(1));
        assert_eq!(kept.started_at, Some(UnixMillis(7)));
        let next = kept.followed_by(running(2));
        assert!(next.started_at > Some(UnixMillis(7)));
        assert_eq!(kept.followed_by(Saved::default()).started_at, None);
    }

    #[test]
    fn what_an_earlier_build_kept_is_read() {
        let kept = Kept::default().followed_by(running(1));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);

        let mut saved = running(1);
        let quarantined = Quarantined {
            release: ReleaseId::of(b"q"),
            node: "dag-01".parse().unwrap(),
            stays: BTreeSet::new(),
        };
        saved.quarantined.push(quarantined);
        let text = serde_json::to_string(&saved).unwrap();
        let earlier = text.replace(r#","stays":[]"#, "");
        assert_ne!(earlier, text);
        let kept = serde_json::from_str::<Kept>(&earlier).unwrap();
        assert_eq!((kept.saved, kept.started_at), (saved, None));
    }
}
