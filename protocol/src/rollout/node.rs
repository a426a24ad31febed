//! One node as the machine knows it: facts, and what it was asked last.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Command, RETRY_DELAY, Standing};
use crate::id::ReleaseId;
use crate::limits::STEP_TIMEOUT;

/// What is known of a node, since it connected or until it went.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) online: bool,
    /// It has not connected since it became a member.
    pub(super) joining: bool,
    pub(super) held: BTreeSet<ReleaseId>,
    pub(super) active: Option<ReleaseId>,
    pub(super) standing: Standing,
    /// What was active before.
    pub(super) was: Option<ReleaseId>,
    /// `active` was put back there, so a verdict on it takes it no further back.
    pub(super) returned: bool,
    /// `active` is to be activated once more, and what stands is of the time before.
    pub(super) again: bool,
    /// What it refused for good on this connection.
    pub(super) refused: BTreeSet<ReleaseId>,
    pub(super) asked: Option<Asked>,
    /// Where it was asked to return to, without an answer: that finds nothing broken anew.
    pub(super) returning: Vec<ReleaseId>,
    /// When a verification without a verdict counts as unproven.
    pub(super) verify_until: Option<Instant>,
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    /// Without progress until then, it is taken for lost.
    pub(super) stalls_at: Instant,
    /// It failed, and is asked for again then.
    pub(super) again_at: Option<Instant>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            online: false,
            joining: false,
            held: BTreeSet::new(),
            active: None,
            standing: Standing::Unproven,
            was: None,
            returned: false,
            again: false,
            refused: BTreeSet::new(),
            asked: None,
            returning: Vec::new(),
            verify_until: None,
        }
    }
}

impl Node {
    /// Whether it has activated the release, in the attempt that runs.
    pub(super) fn runs(&self, release: ReleaseId) -> bool {
        self.active == Some(release) && !self.again
    }

    /// What it leaves for the release, unless it found that broken.
    pub(super) fn worth_going_back_to(&self, next: ReleaseId) -> Option<ReleaseId> {
        let left = self.active.filter(|active| *active != next);
        left.filter(|_| self.standing != Standing::Broken)
    }

    pub(super) fn holds(&self, release: ReleaseId) -> bool {
        self.held.contains(&release) && !self.refused.contains(&release)
    }

    pub(super) fn is_asked(&self, command: Command) -> bool {
        self.asked.as_ref().is_some_and(|a| a.command == command)
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(
            self.standing,
            Standing::Good | Standing::Proven | Standing::Activated
        )
    }

    /// Forgets a command that is done.
    pub(super) fn finish(&mut self, command: Command) {
        self.asked.take_if(|asked| asked.command == command);
    }

    /// Whether a return was asked for. Answers come in the order of the commands.
    pub(super) fn answers_return(&mut self, to: ReleaseId) -> bool {
        let asked = self.returning.iter().position(|asked| *asked == to);
        asked.is_some_and(|asked| self.returning.drain(..=asked).next().is_some())
    }

    pub(super) fn ask(&mut self, command: Command, now: Instant) {
        if let Command::Return(to) = command
            && self.returning.last() != Some(&to)
        {
            self.returning.push(to);
        }
        // A retry after a failure is no progress: the deadline of the first try holds.
        let stalls_at = match &self.asked {
            Some(asked) if asked.command == command => asked.stalls_at,
            _ => now + STEP_TIMEOUT,
        };
        self.asked = Some(Asked {
            command,
            stalls_at,
            again_at: None,
        });
    }

    pub(super) fn retry_later(&mut self, now: Instant) {
        if let Some(asked) = &mut self.asked {
            asked.again_at = Some(now + RETRY_DELAY);
        }
    }

    pub(super) fn progress(&mut self, verify_timeout: Duration, now: Instant) {
        if let Some(asked) = &mut self.asked {
            asked.stalls_at = now + STEP_TIMEOUT;
        }
        if let Some(until) = &mut self.verify_until {
            *until = now + verify_timeout;
        }
    }

    /// Notes what `current` names, or how it stands.
    pub(super) fn stand(&mut self, standing: Standing, verify_until: Instant) {
        self.standing = standing;
        self.verify_until = (standing == Standing::Verifying).then_some(verify_until);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.as_ref();
        let asked = asked.map(|a| a.again_at.map_or(a.stalls_at, |at| at.min(a.stalls_at)));
        [asked, self.verify_until].into_iter().flatten().min()
    }

    /// Drops what is overdue; whether a command stalled.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        if self.verify_until.take_if(|until| *until <= now).is_some() {
            self.standing = Standing::Unproven;
        }
        self.asked.take_if(|a| a.stalls_at <= now).is_some()
    }
}
