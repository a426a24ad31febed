//! A source whose log and state are put back from a backup, and what it then takes in: as the daemon
//! does it, and what must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Event, Saved, Standing};
use super::link::Greeting;
use super::queue::Queue;
use super::world::{World, frozen};
use crate::id::ReleaseId;
use crate::name::NodeName;
use crate::release::Seq;

#[derive(Debug, Clone)]
struct Backup {
    log: BTreeMap<u64, ReleaseId>,
    files: BTreeSet<ReleaseId>,
    saved: Saved,
}

#[derive(Debug, Default)]
pub(super) struct Restore {
    backup: Option<Backup>,
    /// Which agents were not heard since.
    pub(super) unheard: BTreeSet<usize>,
    /// It was said that the state is a backup: nobody publishes or thaws before all were heard.
    pub(super) by_the_book: bool,
    /// Nobody has thawed the volume since.
    pub(super) pending: bool,
    pub(super) happened: bool,
    /// What was known to be broken when the backup was made.
    broken_then: BTreeSet<ReleaseId>,
    /// What became live because a node runs it.
    pub(super) followed: BTreeSet<ReleaseId>,
    /// What a person asked for since.
    pub(super) wanted: BTreeSet<ReleaseId>,
    /// Whom a person has moved since, or held then.
    pub(super) moved_by_hand: BTreeSet<usize>,
}

impl Restore {
    /// Whether a person who does as told publishes and thaws.
    pub(super) fn may_go_on(&self) -> bool {
        !self.pending || !self.by_the_book || self.unheard.is_empty()
    }
}

impl World {
    pub(super) fn back_up(&mut self) {
        self.restore.backup = Some(Backup {
            log: self.log.clone(),
            files: self.files.clone(),
            saved: self.saved.clone(),
        });
    }

    pub(super) fn restore_backup(&mut self) {
        let Some(backup) = self.restore.backup.clone() else {
            return;
        };
        self.crash_source();
        self.note(format_args!("restored: {backup:?}"));
        self.saw("restored");
        self.log = backup.log;
        self.files = backup.files;
        self.saved = backup.saved;
        let known = self.saved.quarantined.iter().map(|q| q.release);
        self.restore.broken_then = known.collect();
        self.restore.happened = true;
        self.restore.pending = true;
        self.restore.by_the_book = !self.rng.one_in(4);
        let enrolled = |number: &usize| self.agents[*number].enrolled;
        self.restore.unheard = (0..self.agents.len()).filter(enrolled).collect();
        self.restore.followed.clear();
        let held = |number: &usize| self.agents[*number].hold.is_some();
        self.restore.moved_by_hand = (0..self.agents.len()).filter(held).collect();
        self.restore.wanted.clear();
        if self.restore.by_the_book {
            self.saved.put_back(frozen());
        }
        self.told_back.clear();
        self.books.forget(&self.saved);
        self.queue = Queue::of(&self.saved);
    }

    /// Takes in what an agent knows and the log lacks.
    pub(super) fn ask_for_lost(&mut self, greeting: &Greeting) {
        let lost = greeting.records.iter();
        let lost = lost.filter(|(seq, _)| !self.log.contains_key(*seq));
        let lost: Vec<(u64, ReleaseId)> = lost.map(|(seq, release)| (*seq, *release)).collect();
        let Some((newest, _)) = lost.last().copied() else {
            return;
        };
        // What it knows of the middle alone only fills a gap.
        if newest > self.head() {
            self.saw("behind");
            self.tell(Event::Behind {
                newest: Seq(newest),
            });
            if self.saved.frozen.is_none() {
                self.tell(Event::Freeze(frozen()));
            }
            self.drain();
        } else {
            self.saw("a gap is filled");
        }
        if self.machine.is_none() {
            self.saw("crash before it took in");
            return;
        }
        self.log.extend(lost);
        if self.faulty && self.rng.one_in(10) {
            self.saw("crash when it had taken in");
            self.crash_source();
        }
    }

    /// What an agent runs was live.
    pub(super) fn take_in(&mut self, node: &NodeName, runs: (ReleaseId, Standing)) {
        let held = self.is_held(node);
        let Some(machine) = &mut self.machine else {
            return;
        };
        let (live, waiting) = (machine.live(), machine.saved().waiting.clone());
        machine.take_in(node, runs, |release| {
            let mut log = self.log.iter();
            let found = log.find(|(_, logged)| **logged == release);
            found.map(|(seq, _)| Seq(*seq))
        });
        self.restore.followed.extend((!held).then_some(runs.0));
        self.queue.goes_past(&waiting, &machine.saved().waiting);
        if machine.live() != live {
            self.saw("live follows");
        }
    }

    pub(super) fn greet(&mut self, greeting: Greeting) {
        self.tell_hold(&greeting.hold);
        if let Event::Online {
            node,
            active: Some(release),
            standing,
            ..
        } = &greeting.online
        {
            self.take_in(node, (*release, *standing));
        }
        self.restore.unheard.remove(&greeting.number);
        self.hear(greeting.online);
    }

    /// The number of the next release is none that anybody knows who was heard.
    pub(super) fn check_number(&self, seq: u64) {
        for (number, agent) in self.agents.iter().enumerate() {
            let heard = agent.enrolled && !self.restore.unheard.contains(&number);
            let known = agent.known.contains_key(&seq);
            assert!(!heard || !known, "{} knows another r{seq}", agent.name);
        }
    }

    /// After a restore nobody is led to something older than what runs well there, unless that was found
    /// broken since, or a person wants it so.
    pub(super) fn check_not_back(&self, node: &NodeName, to: ReleaseId) {
        let number = self.agents.iter().position(|agent| agent.name == *node);
        let heard = &self.books.heard[node];
        let Some((from, _)) = heard.stands.filter(|_| heard.runs_well()) else {
            return;
        };
        let is_logged = self.log.values().any(|logged| *logged == from);
        assert!(is_logged || !self.restore.by_the_book, "not taken in");
        if !is_logged {
            // The source had published another one by that number before it heard of this one.
            return;
        }
        let since = |release: &ReleaseId| {
            let then = self.restore.broken_then.contains(release);
            !then || self.restore.wanted.contains(release)
        };
        let mut broken = self
            .saved
            .quarantined
            .iter()
            .map(|q| q.release)
            .filter(since);
        let wanted = self.restore.wanted.contains(&to);
        let by_hand = number.is_some_and(|number| self.restore.moved_by_hand.contains(&number));
        let may = wanted || by_hand || broken.any(|release| release == from);
        let back = self.numbers[&to] < self.numbers[&from];
        assert!(may || !back, "{node} is led back from what it runs well");
    }
}
