//! The links between the agents and the source, and what is said first on them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::{Event, Standing};
use super::world::{Happening, World};
use crate::id::ReleaseId;

/// How long an agent must have been away for the source to hear of it at once: it does.
const RECONNECT_MS: u64 = 100;

/// What an agent says first: as it was when it connected.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    pub(super) number: usize,
    pub(super) link: u64,
    /// Of the releases that it holds, and of the newest that it ever took.
    pub(super) records: BTreeMap<u64, ReleaseId>,
    pub(super) hold: Event,
    pub(super) online: Event,
}

impl World {
    pub(super) fn connect(&mut self, number: usize) {
        let agent = &self.agents[number];
        if self.machine.is_none() || agent.link.is_some() || !agent.enrolled {
            return;
        }
        self.links += 1;
        let (now, link) = (self.now, self.links);
        let agent = &mut self.agents[number];
        agent.link = Some(link);
        agent.read_at = now;
        agent.heard_at = now;
        let left = agent.left.take();
        let greeting = Box::new(self.greeting(number, link, left));
        // What the log lacks is taken in before the agent counts as online: that takes a moment.
        let at = self.arrives(number);
        self.at(at, Happening::Ask(greeting.clone()));
        let at = self.arrives(number);
        self.at(at, Happening::Greet(greeting));
        if let Some(from) = left {
            self.tell_return(number, from);
        }
    }

    fn greeting(&self, number: usize, link: u64, left: Option<ReleaseId>) -> Greeting {
        let agent = &self.agents[number];
        let newest = agent.known.last_key_value().map(|(seq, _)| *seq);
        let given = |(seq, release): &(&u64, &ReleaseId)| {
            Some(**seq) == newest || agent.held.contains(*release)
        };
        let records = agent.known.iter().filter(given);
        let active = left.or(agent.active);
        let standing = left.map_or(agent.standing, |_| Standing::Broken);
        let node = agent.name.clone();
        Greeting {
            number,
            link,
            records: records.map(|(seq, release)| (*seq, *release)).collect(),
            hold: Event::Held {
                node: node.clone(),
                hold: agent.hold.clone(),
            },
            online: Event::Online {
                node,
                held: agent.held.iter().copied().collect(),
                active,
                standing,
            },
        }
    }

    /// It greeted with what it had left: the return follows.
    fn tell_return(&mut self, number: usize, from: ReleaseId) {
        self.saw("told of its return later");
        let agent = &self.agents[number];
        let (node, standing) = (agent.name.clone(), agent.standing);
        let to = agent.active.expect("it went back to something");
        let returned = Event::Returned {
            node: node.clone(),
            from,
            to,
        };
        self.report(number, returned);
        if standing != Standing::Verifying {
            let verified = Event::Verified {
                node,
                release: to,
                standing,
            };
            self.report(number, verified);
        }
    }

    pub(super) fn cut(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        if agent.link.take().is_some() {
            let node = agent.name.clone();
            self.soon(RECONNECT_MS, Happening::Connect(number));
            self.hear(Event::Offline { node });
        }
    }

    /// When the next message of an agent arrives: late, and in order.
    fn arrives(&mut self, number: usize) -> Instant {
        let soonest = self.now + self.rng.millis(200);
        let agent = &mut self.agents[number];
        agent.heard_at = agent.heard_at.max(soonest);
        agent.heard_at
    }

    /// Sends to the source: sometimes twice, sometimes (with faults) never.
    pub(super) fn report(&mut self, number: usize, event: Event) {
        let at = self.arrives(number);
        // That a node is held is said once, and is not lost on a link that lasts.
        let holds = matches!(event, Event::Held { .. });
        let lost = self.faulty && self.rng.one_in(40) && !holds;
        let twice = self.rng.one_in(10) && !holds;
        let Some(link) = self.agents[number].link.filter(|_| !lost) else {
            return;
        };
        for _ in 0..=usize::from(twice) {
            self.at(at, Happening::Hear(event.clone(), Some(link)));
        }
    }
}
