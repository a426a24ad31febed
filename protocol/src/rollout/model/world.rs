//! Time, and what happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use super::super::tests::beginning;
use super::super::{
    Canary, Command, Event, Frozen, Intent, Machine, OnBroken, Policy, RequireOnline, Saved,
    Standing, Wave,
};
use super::agent::{Agent, Work};
use super::books::Books;
use super::link::Greeting;
use super::queue::Queue;
use super::restore::Restore;
use super::rng::Rng;
use crate::id::ReleaseId;
use crate::name::Text;
use crate::release::{Seq, UnixMillis};

/// How many releases may be broken in a row.
const TRIES_MAX: u64 = 60;
/// Far above what a history takes.
const STEPS_MAX: u64 = 20_000;

/// What happens at some moment. A link's number is dead once the link has ended.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// The machine hears something.
    Hear(Event, Option<u64>),
    /// The source sees by an agent's greeting what its log lacks.
    Ask(Box<Greeting>),
    /// An agent is online, as it greeted.
    Greet(Box<Greeting>),
    /// An agent reads a command.
    Read(usize, Command, u64),
    /// An agent is done with staging, or with finding out how a release stands.
    Done(usize, Work, u64),
    /// The disk of an agent has taken a release, or has not.
    Synced(usize, ReleaseId),
    Collect(usize),
    LetGo(usize),
    Remove(usize),
    Enroll(usize),
    Connect(usize),
    Cut(usize),
    CrashAgent(usize),
    CrashSource,
    StartSource,
    Publish,
    Operator,
    BackUp,
    Restore,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) faulty: bool,
    pub(super) policy: Policy,
    pub(super) machine: Option<Machine>,
    pub(super) saved: Saved,
    pub(super) agents: Vec<Agent>,
    pub(super) links: u64,
    steps: u64,
    due: BTreeMap<(Instant, u64), Happening>,
    count: u64,
    /// The source's log, and the releases whose files it has.
    pub(super) log: BTreeMap<u64, ReleaseId>,
    pub(super) files: BTreeSet<ReleaseId>,
    /// The number of each release that ever was.
    pub(super) numbers: BTreeMap<ReleaseId, u64>,
    /// Other seeds meet other releases, good and broken.
    first: u64,
    pub(super) restore: Restore,
    /// Which rollout has begun and not ended.
    pub(super) running: Option<ReleaseId>,
    pub(super) books: Books,
    pub(super) queue: Queue,
    /// Which agent was told to leave which release since it was last tried anew.
    pub(super) told_back: BTreeSet<(ReleaseId, usize)>,
    /// Which agent left which release by itself since then.
    pub(super) left: BTreeSet<(ReleaseId, usize)>,
    /// When a release was last tried anew.
    pub(super) anew_at: BTreeMap<ReleaseId, Instant>,
    /// What the last `LiveMoved` said.
    pub(super) live_told: Option<ReleaseId>,
    /// How often the things happened that a history is to meet.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Kept only when a seed is played again: it is most of the work.
    pub(super) story: Option<String>,
}

pub(super) fn frozen() -> Frozen {
    Frozen {
        why: Text::default(),
        by: Text::default(),
        at: UnixMillis(0),
        by_rollback: false,
    }
}

fn draw_policy(rng: &mut Rng) -> Policy {
    Policy {
        canary: match rng.below(5) {
            0 | 1 => Canary::Auto,
            n => Canary::Nodes(rng.index(usize::try_from(n).unwrap() + 1)),
        },
        wave: match rng.below(4) {
            0 => Wave::All,
            1 => Wave::Percent(u8::try_from(1 + rng.below(100)).unwrap()),
            _ => Wave::Nodes(1 + rng.index(3)),
        },
        on_broken: if rng.one_in(3) {
            OnBroken::Stop
        } else {
            OnBroken::Return
        },
        require_online: if rng.one_in(4) {
            RequireOnline::All
        } else {
            RequireOnline::Any
        },
        verify_timeout: Duration::from_secs(10 + rng.below(60)),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::of(seed);
        let now = beginning();
        let agents = 1 + rng.below(6);
        let policy = draw_policy(&mut rng);
        let mut world = Self {
            rng,
            now,
            start: now,
            faulty: true,
            policy,
            machine: None,
            saved: Saved::default(),
            agents: Vec::new(),
            links: 0,
            steps: 0,
            due: BTreeMap::new(),
            count: 0,
            log: BTreeMap::new(),
            files: BTreeSet::new(),
            numbers: BTreeMap::new(),
            first: seed * 100,
            restore: Restore::default(),
            running: None,
            books: Books::default(),
            queue: Queue::default(),
            told_back: BTreeSet::new(),
            left: BTreeSet::new(),
            anew_at: BTreeMap::new(),
            live_told: None,
            seen: BTreeMap::new(),
            story: None,
        };
        let bare_fleet = world.rng.one_in(6);
        for number in 0..agents {
            let bare = bare_fleet || world.rng.one_in(5);
            let returns_itself = world.rng.one_in(2);
            let agent = Agent::new(number, bare, returns_itself, now);
            world.agents.push(agent);
        }
        world.start_source();
        world
    }

    pub(super) fn at(&mut self, at: Instant, happening: Happening) {
        self.count += 1;
        self.due.insert((at, self.count), happening);
    }

    pub(super) fn soon(&mut self, millis: u64, happening: Happening) {
        let at = self.now + self.rng.millis(millis);
        self.at(at, happening);
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        let elapsed = (self.now - self.start).as_millis();
        if let Some(story) = &mut self.story {
            writeln!(story, "{elapsed:>8} {what}").unwrap();
        }
    }

    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The operator edits the configuration; the source reads it when it starts.
    pub(super) fn edit_policy(&mut self) {
        self.policy = draw_policy(&mut self.rng);
    }

    /// The number of the newest release in the source's log.
    pub(super) fn head(&self) -> u64 {
        self.log
            .last_key_value()
            .map_or(self.first, |(seq, _)| *seq)
    }

    fn publish(&mut self) {
        if self.machine.is_none() || !self.restore.may_go_on() {
            return;
        }
        let intent = match self.rng.below(6) {
            0 => Intent::Held,
            1 | 2 => Intent::Wanted,
            _ => Intent::Watched,
        };
        self.append(intent);
    }

    fn append(&mut self, intent: Intent) {
        let seq = self.head() + 1;
        self.check_number(seq);
        let other = self.numbers.values().filter(|number| **number == seq);
        let release = ReleaseId::of(format!("{seq} {}", other.count()).as_bytes());
        self.numbers.insert(release, seq);
        self.log.insert(seq, release);
        self.files.insert(release);
        let seq = Seq(seq);
        self.hear(Event::Published {
            release,
            seq,
            intent,
        });
    }

    fn operate(&mut self) {
        let event = match self.rng.below(6) {
            4 | 5 => {
                let number = self.rng.index(self.agents.len());
                return self.hold_or_let_go(number);
            }
            0 => Event::Freeze(frozen()),
            1 | 2 if !self.restore.may_go_on() => return,
            1 | 2 => {
                self.restore.pending = false;
                Event::Thaw
            }
            _ => {
                // What is broken, and what went before: both may be asked for again.
                let broken = self.saved.quarantined.iter().map(|q| q.release);
                let lived = self.saved.lived.iter().map(|l| l.release);
                let all: Vec<ReleaseId> = broken.chain(lived).collect();
                if all.is_empty() {
                    return;
                }
                let release = all[self.rng.index(all.len())];
                self.restore.wanted.insert(release);
                Event::Retry { release }
            }
        };
        self.hear(event);
    }

    fn happen(&mut self, happening: Happening) {
        let linked = |world: &Self, link| world.agents.iter().any(|a| a.link == Some(link));
        match happening {
            Happening::Hear(event, link) => {
                if link.is_none_or(|link| linked(self, link)) {
                    if let Event::Returned { node, to, .. } = &event {
                        self.take_in(node, (*to, Standing::Verifying));
                    }
                    self.hear(event);
                }
            }
            Happening::Ask(greeting) => {
                if linked(self, greeting.link) {
                    self.ask_for_lost(&greeting);
                }
            }
            Happening::Greet(greeting) => {
                if linked(self, greeting.link) {
                    self.greet(*greeting);
                }
            }
            Happening::Read(number, command, link) => {
                if self.agents[number].link == Some(link) {
                    self.read(number, command);
                }
            }
            Happening::Done(number, work, turn) => self.done(number, work, turn),
            Happening::Synced(number, release) => self.synced(number, release),
            Happening::Collect(number) => self.collect(number),
            Happening::LetGo(number) => self.let_go(number),
            Happening::Remove(number) => self.remove(number),
            Happening::Enroll(number) => self.enroll(number),
            Happening::Connect(number) => self.connect(number),
            Happening::Cut(number) => self.cut(number),
            Happening::CrashAgent(number) => {
                self.agents[number].turn += 1;
                if self.rng.one_in(2) {
                    self.lose_power(number);
                }
                if self.agents[number].standing == Standing::Verifying
                    && let Some(release) = self.agents[number].active
                {
                    self.activate(number, release);
                }
                self.cut(number);
            }
            Happening::CrashSource => self.crash_source(),
            Happening::StartSource => self.start_source(),
            Happening::Publish => self.publish(),
            Happening::Operator => self.operate(),
            Happening::BackUp => self.back_up(),
            Happening::Restore => self.restore_backup(),
        }
    }

    /// Runs to the next happening or timeout; false when there is none before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let due = self.due.keys().next().map(|(at, _)| *at);
        let timeout = self.machine.as_ref().and_then(Machine::poll_timeout);
        let Some(at) = [due, timeout]
            .into_iter()
            .flatten()
            .min()
            .filter(|at| *at <= end)
        else {
            return false;
        };
        self.now = self.now.max(at);
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "it goes round in circles");
        self.check_it_moves();
        if timeout == Some(at) {
            self.note(format_args!("timeout"));
            let now = self.now;
            if let Some(machine) = &mut self.machine {
                machine.handle_timeout(now);
            }
            self.drain();
        } else if let Some((_, happening)) = self.due.pop_first() {
            self.happen(happening);
        }
        true
    }

    pub(super) fn run(&mut self) {
        let policy = self.policy;
        self.note(format_args!("{policy:?}"));
        let faults_end = self.now + Duration::from_secs(240);
        for _ in 0..=self.rng.below(12) {
            self.soon(200_000, Happening::Publish);
        }
        for _ in 0..9 {
            self.soon(230_000, Happening::Operator);
        }
        for _ in 0..6 {
            let number = self.rng.index(self.agents.len());
            self.soon(230_000, Happening::Cut(number));
            self.soon(230_000, Happening::CrashAgent(number));
            let number = self.rng.index(self.agents.len());
            self.soon(230_000, Happening::Collect(number));
        }
        for _ in 0..self.rng.below(3) {
            let number = self.rng.index(self.agents.len());
            self.soon(230_000, Happening::Remove(number));
        }
        for _ in 0..3 {
            self.soon(230_000, Happening::CrashSource);
        }
        if self.rng.one_in(3) {
            self.soon(150_000, Happening::BackUp);
            self.soon(230_000, Happening::Restore);
        }
        while self.step(faults_end) {}
        self.faulty = false;
        self.note(format_args!("no more faults"));
        self.now = faults_end;
        // What was refused is asked for again on a new connection only.
        for number in 0..self.agents.len() {
            self.cut(number);
            self.connect(number);
            // To collect is no fault.
            self.soon(30_000, Happening::Collect(number));
            // Nor is it to let one go.
            self.soon(90_000, Happening::LetGo(number));
        }
        let end = self.now + Duration::from_secs(3_600);
        while self.step(end) {}
        self.go_on_after_restore();
        self.check_rest();
    }

    /// The source has its files, and no agent knows another one by its number.
    fn can_go_everywhere(&self, release: ReleaseId) -> bool {
        let seq = self.numbers[&release];
        let other = |agent: &Agent| agent.known.get(&seq).is_some_and(|known| *known != release);
        self.files.contains(&release) && !self.agents.iter().any(other)
    }

    /// A person thaws what was restored, and publishes until what is live can be everywhere.
    fn go_on_after_restore(&mut self) {
        let is_stuck = |world: &Self| {
            let machine = world.machine.as_ref().expect("the source runs");
            machine
                .live()
                .is_some_and(|live| !world.can_go_everywhere(live))
        };
        for tries in 0.. {
            if !self.restore.happened || !(self.restore.pending || is_stuck(self)) {
                break;
            }
            assert!(tries < TRIES_MAX, "nothing goes live any more");
            assert!(self.restore.may_go_on(), "some were not heard");
            self.restore.pending = false;
            self.hear(Event::Thaw);
            self.append(Intent::Wanted);
            let end = self.now + Duration::from_secs(600);
            while self.step(end) {}
        }
    }
}
