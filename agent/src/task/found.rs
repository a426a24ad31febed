//! What a verification found, and what follows from it: the report, the way back, the next look.

use std::time::Duration;

use codevol_protocol::evidence::Verdict;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{Step, Verification};
use tracing::{info, warn};

use super::VolumeTask;
use super::verifying::Purpose;
use crate::evidence::Proven;

/// How often a code server that was proven is asked whether it still is the same process.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

impl VolumeTask {
    pub(super) async fn found(
        &mut self,
        (release, purpose): (ReleaseId, Purpose),
        mut verification: Verification,
        proven: Proven,
    ) {
        if let Some(failure) = &mut verification.failure {
            self.dependencies.advise(release, failure);
        }
        let changed = self
            .verification
            .as_ref()
            .is_none_or(|before| !same(before, &verification));
        self.keep_proven(proven);
        self.verification = Some(verification.clone());
        for looker in self.lookers.drain(..) {
            // Who asked may have gone.
            drop(looker.send(verification.clone()));
        }
        let looked_on_purpose = purpose != Purpose::Check;
        if looked_on_purpose {
            let elapsed = Duration::from_millis(verification.elapsed_ms);
            self.metrics.verify.observe(elapsed);
        }
        if let Some(failure) = &verification.failure
            && (changed || looked_on_purpose)
        {
            self.metrics.reload_failed(failure.kind.as_str());
        }
        match &verification.failure {
            Some(failure) => self.error = Some((release, "verify", failure.clone())),
            None if self.error.as_ref().is_some_and(|(of, ..)| *of == release) => self.error = None,
            None => {}
        }
        if changed {
            self.note_found(release, &verification);
        }
        match purpose {
            Purpose::Returned => {
                self.report(release, Step::Returned(verification.clone()))
                    .await;
            }
            Purpose::Activated => {
                self.report(release, Step::Verified(verification.clone()))
                    .await;
                if verification.verdict == Verdict::Broken && self.take_back(release) {
                    // Of what a person wanted here alone, the source need not hear it first.
                    if !self.rollback_is_broken(release, &verification) {
                        self.untold.went_back(release, verification);
                    }
                    return;
                }
            }
            Purpose::Check if changed => {
                self.report(release, Step::Verified(verification.clone()))
                    .await;
            }
            Purpose::Check => {}
        }
        if purpose != Purpose::Check {
            self.tidying.later();
        }
        self.end_rollback(release, &verification).await;
        match verification.verdict {
            Verdict::Good => {
                self.found_good(release);
                self.verifying.again_in(CHECK_INTERVAL);
            }
            Verdict::Unproven => self.verifying.again_soon(),
            Verdict::Broken => self.verifying.again_in(CHECK_INTERVAL),
        }
    }

    /// Writes down what was found.
    fn note_found(&self, release: ReleaseId, found: &Verification) {
        let outcome = match found.verdict {
            Verdict::Good => "good",
            Verdict::Unproven => "unproven",
            Verdict::Broken => "broken",
        };
        self.record("verify", release, Some(found.evidence), outcome);
        info!(
            volume = %self.volume, release = %release.short(), outcome,
            evidence = %found.evidence, elapsed_ms = found.elapsed_ms,
            "release verified"
        );
    }

    /// Puts the release before back, once for each release that was found broken. With nothing
    /// before it, the broken one stays: there is nothing better.
    fn take_back(&mut self, broken: ReleaseId) -> bool {
        let Some(previous) = self.lock().previous() else {
            return false;
        };
        if !self.taken_back.insert(broken) {
            return false;
        }
        warn!(
            volume = %self.volume, broken = %broken.short(), back_to = %previous.short(),
            "release is broken: going back"
        );
        self.left_broken(broken);
        match self.flip_to(previous) {
            Ok(_) => {
                self.verify(previous, Purpose::Returned);
                true
            }
            Err(failure) => {
                self.error = Some((previous, "return", failure));
                false
            }
        }
    }
}

/// Whether two verifications say the same, however long they took.
fn same(before: &Verification, after: &Verification) -> bool {
    let said = |verification: &Verification| {
        let servers: Vec<_> = verification
            .code_servers
            .iter()
            .map(|server| (server.state, server.server_id.clone()))
            .collect();
        (verification.verdict, verification.evidence, servers)
    };
    said(before) == said(after)
}
