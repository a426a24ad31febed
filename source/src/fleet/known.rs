//! What the fleet knows of each node beyond what the rollout machine needs: for people.

use std::collections::BTreeSet;
use std::sync::Arc;

use codevol_protocol::dependency::{Environment, Reports};
use codevol_protocol::drift::Drifted;
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{
    CodeServerReport, DRIFT_MINOR, Failure, Verification, VolumeHello,
};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::rollout::Standing;
use tokio::sync::mpsc;

use super::handle::{SessionCommand, SessionId};

/// One node.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) session: Option<Session>,
    pub(super) held: BTreeSet<ReleaseId>,
    pub(super) code_servers: Vec<CodeServerReport>,
    pub(super) evidence: Option<Evidence>,
    pub(super) error: Option<Failed>,
    /// Its Python environments; those that are alike are one in memory, whoever has them.
    pub(super) environments: Vec<Arc<Environment>>,
    /// How these fit the releases that it looked at last.
    pub(super) reports: Reports,
    pub(super) last_seen_at: Option<UnixMillis>,
    /// How often it found held bytes damaged and was sent more, since it last staged a release.
    pub(super) mended: u32,
    /// What on its disk is not as released, as it said last.
    pub(super) drifted: Drifted,
}

/// The connection of a node.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The newest minor version that the node speaks.
    pub(super) minor: u16,
    pub(super) outbox: mpsc::Sender<SessionCommand>,
}

impl Session {
    pub(super) const fn new(
        id: SessionId,
        minor: u16,
        outbox: mpsc::Sender<SessionCommand>,
    ) -> Self {
        Self { id, minor, outbox }
    }
}

/// The last thing that went wrong on a node.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) release: ReleaseId,
    pub(super) step: &'static str,
    pub(super) failure: Failure,
}

impl Known {
    /// Whether a message of this session still counts: not after a newer one has replaced it.
    pub(super) fn is_session(&self, id: SessionId) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.id == id)
    }

    /// Takes in what a node says of itself when it connects.
    pub(super) fn greet(&mut self, session: Session, hello: &VolumeHello, now: UnixMillis) {
        if session.minor < DRIFT_MINOR {
            // It says nothing of that any more.
            self.drifted = Drifted::default();
        }
        self.session = Some(session);
        self.mended = 0;
        // It tells them anew; one that is too old to do so says nothing of them.
        self.environments.clear();
        self.reports = Reports::default();
        self.held = hello.held.iter().copied().collect();
        self.last_seen_at = Some(now);
        match hello
            .active
            .as_ref()
            .and_then(|active| active.verification.as_ref())
        {
            Some(verification) => self.verified(verification),
            None => self.evidence = hello.active.as_ref().map(|_| Evidence::Activated),
        }
    }

    /// Takes in a flip: what was known of the code servers was known of another release.
    pub(super) fn activated(&mut self) {
        self.code_servers.clear();
        self.evidence = Some(Evidence::Activated);
    }

    /// Takes in the end of a verification.
    pub(super) fn verified(&mut self, verification: &Verification) {
        self.code_servers.clone_from(&verification.code_servers);
        self.evidence = Some(verification.evidence);
    }

    /// Notes what went wrong with a release; nothing clears an older fault of the same release.
    pub(super) fn failed(&mut self, release: ReleaseId, step: &'static str, failure: Failure) {
        self.error = Some(Failed {
            release,
            step,
            failure,
        });
    }
}

/// Returns what the rollout machine is to make of a verification.
pub(super) fn standing(verification: Option<&Verification>) -> Standing {
    let Some(verification) = verification else {
        return Standing::Verifying;
    };
    match verification.verdict {
        Verdict::Broken => Standing::Broken,
        Verdict::Unproven => Standing::Unproven,
        // Where there is no code server to ask, the activated bytes are all there is to prove.
        Verdict::Good if verification.code_servers.is_empty() => Standing::Activated,
        Verdict::Good if verification.evidence >= Evidence::Proven => Standing::Proven,
        Verdict::Good => Standing::Good,
    }
}
