//! The agents: what they do with what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::{Command, Event, Standing};
use super::world::{Happening, World};
use crate::hold::Hold;
use crate::id::ReleaseId;
use crate::name::NodeName;

#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Stage(ReleaseId),
    Verify(ReleaseId),
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) name: NodeName,
    /// It has no code server.
    pub(super) bare: bool,
    /// It goes back by itself, unasked, from what it was told to activate and finds broken.
    pub(super) returns_itself: bool,
    pub(super) link: Option<u64>,
    /// It is a member.
    pub(super) enrolled: bool,
    pub(super) held: BTreeSet<ReleaseId>,
    /// What it ever staged, since it joined.
    pub(super) staged: BTreeSet<ReleaseId>,
    /// What it staged and has said so, and is not on its disk yet.
    pub(super) undurable: BTreeSet<ReleaseId>,
    /// The records that it ever took, by their numbers.
    pub(super) known: BTreeMap<u64, ReleaseId>,
    pub(super) active: Option<ReleaseId>,
    pub(super) was: Option<ReleaseId>,
    /// `active` was put back: it does not go back from there by itself.
    pub(super) put_back: bool,
    pub(super) standing: Standing,
    /// A person holds it.
    pub(super) hold: Option<Hold>,
    /// What it found broken and left by itself, where the source may not know.
    pub(super) left: Option<ReleaseId>,
    /// Grows with each activation and crash: what began before counts no more.
    pub(super) turn: u64,
    /// When the last message of a link arrives, each way: messages keep their order.
    pub(super) read_at: Instant,
    pub(super) heard_at: Instant,
}

impl Agent {
    pub(super) fn new(number: u64, bare: bool, returns_itself: bool, now: Instant) -> Self {
        Self {
            name: format!("n{number}").parse().unwrap(),
            bare,
            returns_itself,
            link: None,
            enrolled: true,
            held: BTreeSet::new(),
            staged: BTreeSet::new(),
            undurable: BTreeSet::new(),
            known: BTreeMap::new(),
            active: None,
            was: None,
            put_back: false,
            standing: Standing::Unproven,
            hold: None,
            left: None,
            turn: 0,
            read_at: now,
            heard_at: now,
        }
    }
}

/// How a release turns out on a node: the same each time, so that a history can settle.
pub(super) fn truth(number: usize, agent: &Agent, release: ReleaseId) -> Standing {
    if agent.bare {
        return Standing::Activated;
    }
    let [quality, by_node, ..] = *release.as_bytes();
    let lot = (usize::from(by_node) >> (number % 8)) & 1;
    match (quality % 8, lot) {
        (0, _) | (1, 1) => Standing::Broken,
        (2, 1) => Standing::Unproven,
        (3, 1) => Standing::Good,
        _ => Standing::Proven,
    }
}

impl World {
    /// An agent does as it is told.
    pub(super) fn read(&mut self, number: usize, command: Command) {
        let node = self.agents[number].name.clone();
        // The source knew where it was.
        self.agents[number].left = None;
        match command {
            // The source has no files to send, and nothing arrives.
            Command::Push(release) if !self.files.contains(&release) => self.saw("no files"),
            Command::Push(release) if !self.takes(number, release) => {
                self.saw("another release has its number");
                let retryable = false;
                let failed = Event::StepFailed {
                    node,
                    release,
                    retryable,
                };
                self.report(number, failed);
            }
            Command::Push(release) if self.faulty && self.rng.one_in(12) => {
                let retryable = !self.rng.one_in(4);
                let failed = Event::StepFailed {
                    node,
                    release,
                    retryable,
                };
                self.report(number, failed);
            }
            Command::Push(release) => {
                let turn = self.agents[number].turn;
                let slow = if self.faulty && self.rng.one_in(10) {
                    50_000
                } else {
                    1_500
                };
                self.soon(slow, Happening::Done(number, Work::Stage(release), turn));
                self.report(number, Event::Progress { node });
            }
            Command::Activate(release) | Command::Return(release)
                if self.agents[number].hold.is_some() =>
            {
                self.saw("asked while held");
                let retryable = false;
                let failed = Event::StepFailed {
                    node,
                    release,
                    retryable,
                };
                self.report(number, failed);
            }
            Command::Activate(release) | Command::Return(release)
                if !self.is_on_disk(number, release) =>
            {
                self.saw("asked for what is gone");
                self.lacks(number, release);
            }
            Command::Activate(release) => {
                self.activate(number, release);
                self.agents[number].put_back = false;
                self.report(number, Event::Activated { node, release });
            }
            Command::Return(to) => {
                self.check_told_once(number, to);
                self.go_back(number, to);
                let turn = self.agents[number].turn;
                self.soon(500, Happening::Done(number, Work::Verify(to), turn));
            }
            Command::Cancel(_) => {}
        }
    }

    /// Of two releases by one number an agent takes the first.
    fn takes(&mut self, number: usize, release: ReleaseId) -> bool {
        let seq = self.numbers[&release];
        *self.agents[number].known.entry(seq).or_insert(release) == release
    }

    /// Nobody is told twice to leave a broken release. What it is told may cross its own return: then it
    /// leaves another one, which is not broken.
    fn check_told_once(&mut self, number: usize, to: ReleaseId) {
        let agent = &self.agents[number];
        let Some(from) = agent.active.filter(|from| *from != to) else {
            return;
        };
        // One that was asked for just before the release is tried anew may still come.
        let anew = self.anew_at.get(&from).copied().unwrap_or(self.start);
        if self.now > anew + Duration::from_secs(1) && self.is_known_broken(number, from) {
            let first = self.told_back.insert((from, number));
            assert!(first, "{} flaps", self.agents[number].name);
        }
    }

    /// The source has found it broken, everywhere or on this agent.
    fn is_known_broken(&self, number: usize, release: ReleaseId) -> bool {
        let alone = self.saved.broken.get(&release);
        alone.is_some_and(|nodes| nodes.contains(&self.agents[number].name))
            || self.saved.quarantined.iter().any(|q| q.release == release)
    }

    fn go_back(&mut self, number: usize, to: ReleaseId) {
        let node = self.agents[number].name.clone();
        let from = self.agents[number].active.unwrap_or(to);
        if from != to {
            self.activate(number, to);
            self.agents[number].put_back = true;
        }
        self.report(number, Event::Returned { node, from, to });
    }

    pub(super) fn activate(&mut self, number: usize, release: ReleaseId) {
        let agent = &mut self.agents[number];
        agent.was = agent.active.filter(|was| *was != release).or(agent.was);
        agent.active = Some(release);
        agent.standing = Standing::Verifying;
        agent.turn += 1;
        let turn = agent.turn;
        self.soon(3_000, Happening::Done(number, Work::Verify(release), turn));
    }

    pub(super) fn done(&mut self, number: usize, work: Work, turn: u64) {
        let agent = &mut self.agents[number];
        let node = agent.name.clone();
        match work {
            Work::Stage(release) => {
                if agent.held.insert(release) {
                    agent.staged.insert(release);
                    agent.undurable.insert(release);
                    self.soon(300, Happening::Synced(number, release));
                }
                self.report(number, Event::Staged { node, release });
            }
            Work::Verify(release) if agent.turn == turn && agent.active == Some(release) => {
                let standing = truth(number, agent, release);
                agent.standing = standing;
                let verified = Event::Verified {
                    node,
                    release,
                    standing,
                };
                self.report(number, verified);
                self.return_by_itself(number, release);
            }
            Work::Verify(_) => {}
        }
    }

    /// Once for a release, and only to what is no worse.
    fn return_by_itself(&mut self, number: usize, from: ReleaseId) {
        let agent = &self.agents[number];
        let to = agent
            .was
            .filter(|to| truth(number, agent, *to) != Standing::Broken);
        let broken = agent.standing == Standing::Broken;
        if let Some(to) = to
            && broken
            && agent.returns_itself
            && !agent.put_back
            && self.left.insert((from, number))
        {
            self.saw("returned by itself");
            self.agents[number].left = Some(from);
            self.go_back(number, to);
            // What a person wanted there alone is over.
            if self.agents[number]
                .hold
                .take_if(|h| h.release == from)
                .is_some()
            {
                self.report_hold(number);
            }
        }
    }
}
