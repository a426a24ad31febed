//! The agents, and the links that they are on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::{Command, Event, Standing};
use super::world::{Happening, World};
use crate::hold::{AskedAt, Hold};
use crate::id::ReleaseId;
use crate::name::{NodeName, Text};
use crate::release::{Seq, UnixMillis};

/// How long an agent must have been away for the source to hear of it at once: it does.
const RECONNECT_MS: u64 = 100;

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
    pub(super) held: BTreeSet<ReleaseId>,
    pub(super) active: Option<ReleaseId>,
    pub(super) was: Option<ReleaseId>,
    /// `active` was put back: it does not go back from there by itself.
    pub(super) put_back: bool,
    pub(super) standing: Standing,
    /// A person holds it; and what held it before, while nobody knows whether the release is broken.
    pub(super) hold: Option<Hold>,
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
            held: BTreeSet::new(),
            active: None,
            was: None,
            put_back: false,
            standing: Standing::Unproven,
            hold: None,
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
    pub(super) fn connect(&mut self, number: usize) {
        if self.machine.is_none() || self.agents[number].link.is_some() {
            return;
        }
        self.links += 1;
        let (now, link) = (self.now, self.links);
        let agent = &mut self.agents[number];
        agent.link = Some(link);
        agent.read_at = now;
        agent.heard_at = now;
        self.report_hold(number);
        let agent = &self.agents[number];
        let online = Event::Online {
            node: agent.name.clone(),
            held: agent.held.iter().copied().collect(),
            active: agent.active,
            standing: agent.standing,
        };
        self.report(number, online);
    }

    pub(super) fn cut(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        if agent.link.take().is_some() {
            let node = agent.name.clone();
            self.soon(RECONNECT_MS, Happening::Connect(number));
            self.hear(Event::Offline { node });
        }
    }

    /// Sends to the source: late, in order, sometimes twice, sometimes (with faults) never.
    fn report(&mut self, number: usize, event: Event) {
        let delay = self.rng.millis(200);
        // What is said with the greeting is heard once, and first.
        let greets = matches!(event, Event::Online { .. } | Event::Held { .. });
        let lost = self.faulty && self.rng.one_in(40) && !greets;
        let twice = self.rng.one_in(10) && !greets;
        let Some(link) = self.agents[number].link.filter(|_| !lost) else {
            return;
        };
        let at = self.agents[number].heard_at.max(self.now + delay);
        self.agents[number].heard_at = at;
        for _ in 0..=usize::from(twice) {
            self.at(at, Happening::Hear(event.clone(), Some(link)));
        }
    }

    fn report_hold(&mut self, number: usize) {
        let agent = &self.agents[number];
        let (node, hold) = (agent.name.clone(), agent.hold.clone());
        self.report(number, Event::Held { node, hold });
    }

    /// A person has an agent go to one of the releases that it holds and stay there; or lets it go on.
    pub(super) fn hold_or_let_go(&mut self, number: usize) {
        let agent = &self.agents[number];
        let held: Vec<ReleaseId> = agent.held.iter().copied().collect();
        if agent.hold.is_some() {
            self.saw("let go");
            self.agents[number].hold = None;
            self.report_hold(number);
        } else if !held.is_empty() {
            let release = held[self.rng.index(held.len())];
            self.saw("held");
            // A person's word: it may have to leave that release once more.
            self.told_back
                .retain(|(from, _, told)| (*from, *told) != (release, number));
            self.left.remove(&(release, number));
            if self.running == Some(release) {
                self.saw("held on what is rolled out");
            }
            let agent = &mut self.agents[number];
            agent.hold = Some(Hold {
                release,
                seq: Seq(0),
                why: Text::default(),
                by: Text::default(),
                at: UnixMillis(0),
                asked_at: AskedAt::Node,
            });
            let (node, moves) = (agent.name.clone(), agent.active != Some(release));
            self.report_hold(number);
            if moves {
                self.activate(number, release);
                self.agents[number].put_back = false;
                self.report(number, Event::Activated { node, release });
            }
        }
    }

    /// An agent does as it is told.
    pub(super) fn read(&mut self, number: usize, command: Command) {
        let node = self.agents[number].name.clone();
        match command {
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
            Command::Activate(release) => {
                assert!(self.agents[number].held.contains(&release));
                self.activate(number, release);
                self.agents[number].put_back = false;
                self.report(number, Event::Activated { node, release });
            }
            Command::Return(to) => {
                assert!(self.agents[number].held.contains(&to));
                self.check_told_once(number, to);
                self.go_back(number, to);
                let turn = self.agents[number].turn;
                self.soon(500, Happening::Done(number, Work::Verify(to), turn));
            }
            Command::Cancel(_) => {}
        }
    }

    /// Nobody is told twice to leave a release for the same other one.
    fn check_told_once(&mut self, number: usize, to: ReleaseId) {
        let agent = &self.agents[number];
        let Some(from) = agent.active.filter(|from| *from != to) else {
            return;
        };
        // One that was asked for just before the release is tried anew may still come.
        let anew = self.anew_at.get(&from).copied().unwrap_or(self.start);
        if self.now > anew + Duration::from_secs(1) {
            let first = self.told_back.insert((from, to, number));
            assert!(first, "{} flaps", self.agents[number].name);
        }
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
                agent.held.insert(release);
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
