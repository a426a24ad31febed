//! Drift of one volume: finds what on the disk is not what the releases say, tells it, and puts it
//! back where the volume is configured so.
//!
//! ```text
//!   inotify --hints--> task --look (own thread)--> standing --> status, journal, source
//!   clock ---scrub--->  |                             |
//!   verify ---------->  +<-- put back (own thread) ---+   `drift = "restore"`
//! ```
//! Hints only say where to look. The scrub reads every byte of all that is held, the live release
//! first, and no faster than it should: what no hint tells and no stamp shows, it finds.

mod answer;
mod checks;
mod handle;
mod look;
mod put_back;
mod standing;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::drift::{DriftReport, Drifted};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{DRIFT_MINOR, FromAgent};
use codevol_protocol::name::{Printable, Text, VolumeName};
use codevol_protocol::release::Seq;
use codevol_protocol::status;
use codevol_protocol::story::{action, outcome};
use codevol_store::dir::DirError;
use codevol_store::journal::Event;
use codevol_store::recorder::Recorder;
use codevol_transport::Changes;
use tokio::sync::{mpsc, watch as watched};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::answer::Answered;
use self::checks::Scrub;
pub use self::handle::{Asker, DriftHandle, DriftOrder};
use self::look::{Parts, PutBack, lock};
use self::put_back::Restoring;
use self::standing::{Standing, Tick, changes};
use self::watch::{Hint, Watch};
use crate::config::DriftMode;
use crate::speaker::Speaker;
use crate::task::Order;
use crate::volume::{Found, Root, Seen};

/// How many orders may wait.
const INBOX_MAX: usize = 64;
/// More hints than these are one that says that anything may have changed.
const HINTS_MAX: usize = 1_000;
/// How long a burst of hints is waited for.
const QUIET: Duration = Duration::from_millis(200);
/// With nothing to do it looks for work all the same now and then.
const IDLE: Duration = Duration::from_secs(60);
/// When what could not be put back is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the volume's task may take to take an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the task is made of.
#[derive(Debug)]
pub struct DriftParts {
    /// The volume.
    pub volume: VolumeName,
    /// Where its root lies, for the watches.
    pub path: PathBuf,
    /// Its root.
    pub root: Arc<Mutex<Root>>,
    /// Whether what drifts is put back.
    pub mode: DriftMode,
    /// How long after a scrub the next one begins.
    pub scrub: Duration,
    /// The task that owns `current` and asks the code servers.
    pub orders: mpsc::Sender<Order>,
    /// Whom to tell.
    pub speaker: Speaker,
    /// The journal.
    pub journal: Recorder,
    /// Whom to tell when something has changed.
    pub changes: Changes,
}

/// The task: [`Self::run`] it.
#[derive(Debug)]
pub struct DriftTask {
    parts: DriftParts,
    standing: Standing,
    /// What was told last, and all of it in a list.
    told: Vec<status::Drift>,
    view: watched::Sender<Drifted>,
    inbox: mpsc::Receiver<DriftOrder>,
    /// The newest minor version that the source speaks.
    minor: u16,
    asked_rules: BTreeSet<ReleaseId>,
    hints: BTreeSet<Hint>,
    hinted: Option<Instant>,
    checking: bool,
    scrub: Scrub,
    restore: Restoring,
    jobs: JoinSet<Ended>,
    answers: JoinSet<Answered>,
    stop: CancellationToken,
}

/// What a thread has ended with.
#[derive(Debug)]
enum Ended {
    Checked(Result<Option<Parts>, DirError>),
    Scrubbed {
        of: (ReleaseId, Seq),
        began: Tick,
        seen: Seen,
        found: Result<Option<Found>, DirError>,
    },
    PutBack(Result<Vec<PutBack>, DirError>),
}

impl DriftTask {
    /// Makes the task and what it is told by.
    #[must_use]
    pub fn new(parts: DriftParts) -> (Self, DriftHandle) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let (view, seen) = watched::channel(Drifted::default());
        let handle = DriftHandle {
            inbox: sender,
            view: seen,
        };
        let scrub = Scrub::new(parts.scrub);
        let task = Self {
            parts,
            standing: Standing::default(),
            told: Vec::new(),
            view,
            inbox,
            minor: 0,
            asked_rules: BTreeSet::new(),
            hints: BTreeSet::new(),
            hinted: None,
            checking: false,
            scrub,
            restore: Restoring::default(),
            jobs: JoinSet::new(),
            answers: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        (task, handle)
    }

    /// Runs until the daemon stops; so do the threads that look.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without this task drift goes unseen: however it ends, by a panic too, all end.
        let _stop = shutdown.clone().drop_guard();
        self.stop = shutdown.clone();
        let mut watch = Watch::start(&self.parts.path);
        self.hint(Hint::Current);
        loop {
            self.follow(&mut watch);
            let due = self.due();
            // Cancel-safe: each arm loses nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                order = self.inbox.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => break,
                },
                hints = watch.next() => hints.into_iter().for_each(|hint| self.hint(hint)),
                Some(ended) = self.jobs.join_next() => match ended {
                    Ok(ended) => self.ended(ended).await,
                    Err(ended) => self.broken_off(&ended),
                },
                Some(answered) = self.answers.join_next() => match answered {
                    Ok(answered) => self.answered(answered).await,
                    Err(ended) => error!(error = %ended, "a look was broken off"),
                },
                () = tokio::time::sleep_until(due) => self.work().await,
            }
        }
    }

    async fn obey(&mut self, order: DriftOrder) {
        match order {
            DriftOrder::Greeted { minor } => {
                self.minor = minor;
                self.asked_rules.clear();
                self.tell(0).await;
                self.ask_rules().await;
                // What was asked for on the link before is lost with it, and without one nothing was.
                self.try_again();
            }
            DriftOrder::Rules(text) => {
                let kept = lock(&self.parts.root).keep_rules(&text);
                match kept {
                    // What is foreign can be told only now.
                    Ok(true) => self.hint(Hint::Everything),
                    Ok(false) => {}
                    Err(cause) => self.failed("keeping ignore rules", &cause),
                }
            }
            DriftOrder::Mended => self.try_again(),
            DriftOrder::Look { depth, asker } => self.answer(depth, asker),
        }
    }

    /// Follows the release that is active now.
    fn follow(&self, watch: &mut Watch) {
        let unsure = self.hints.contains(&Hint::Current) || self.hints.contains(&Hint::Everything);
        if !unsure && watch.followed().is_some() {
            return;
        }
        let look = {
            let mut root = lock(&self.parts.root);
            root.active().and_then(|id| root.look(id))
        };
        let Some(look) = look else { return };
        watch.follow(&look.dir_name(), &look.directories());
    }

    fn hint(&mut self, hint: Hint) {
        if self.hints.len() >= HINTS_MAX {
            self.hints.retain(|hint| *hint == Hint::Current);
            self.hints.insert(Hint::Everything);
        } else {
            self.hints.insert(hint);
        }
        self.hinted.get_or_insert_with(|| Instant::now() + QUIET);
    }

    /// When there is something to do.
    fn due(&self) -> Instant {
        let check = self.hinted.filter(|_| !self.is_busy());
        let scrub = (!self.scrub.running).then_some(self.scrub.next);
        let restore = self.restore.due.filter(|_| !self.is_busy());
        let all = [check, scrub, restore, self.restore.again];
        let due = all.into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + IDLE)
    }

    /// What is put back is not looked at meanwhile: half of it would be taken for somebody else's doing.
    const fn is_busy(&self) -> bool {
        self.checking || self.restore.running
    }

    /// Does what is due.
    async fn work(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.hinted) && !self.is_busy() {
            self.check().await;
        }
        if self.scrub.next <= now && !self.scrub.running {
            self.scrub_next();
        }
        if is_due(self.restore.again) {
            self.try_again();
        }
        if is_due(self.restore.due) && !self.is_busy() {
            self.put_back().await;
        }
    }

    async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Checked(found) => {
                self.checking = false;
                match found {
                    Ok(Some(found)) if self.is_held(found.of.0) => {
                        for (top, part) in &found.parts {
                            self.standing.part(found.of, top, part);
                            self.distrust(found.of.0, part);
                        }
                    }
                    Ok(_) => {}
                    Err(cause) => self.failed("looking for drift", &cause),
                }
            }
            Ended::Scrubbed {
                of,
                began,
                seen,
                found,
            } => {
                self.scrub.running = false;
                self.scrub.seen = seen;
                match found {
                    Ok(Some(found)) => self.looked_at((of, began), &found),
                    Ok(None) => {}
                    Err(cause) => self.failed("scrubbing a release", &cause),
                }
                if self.scrub.queue.is_empty() {
                    self.scrub_later();
                } else {
                    self.scrub.next = Instant::now();
                }
            }
            Ended::PutBack(done) => {
                self.restore.running = false;
                match done {
                    Ok(done) => self.was_put_back(done).await,
                    Err(cause) => {
                        self.restore.again = Some(Instant::now() + AGAIN);
                        self.failed("putting back what drifted", &cause);
                    }
                }
            }
        }
        self.settle().await;
    }

    async fn answered(&mut self, answered: Answered) {
        if let Some(flipped) = answered.flipped {
            self.standing.current(flipped);
        }
        for (of, found) in &answered.releases {
            self.looked_at((*of, answered.began), found);
        }
        self.settle().await;
    }

    fn broken_off(&mut self, ended: &tokio::task::JoinError) {
        error!(volume = %self.parts.volume, error = %ended, "a look was broken off");
        // Whichever it was: the flags would keep it from ever running again.
        self.checking = false;
        self.restore.running = false;
        self.scrub.running = false;
        self.scrub.next = Instant::now() + AGAIN;
    }

    fn distrust(&self, id: ReleaseId, found: &Found) {
        if !found.is_empty() {
            lock(&self.parts.root).distrust(id, found);
        }
    }

    fn is_held(&self, id: ReleaseId) -> bool {
        lock(&self.parts.root).held().contains_key(&id)
    }

    /// Tells what has changed, and plans the putting back.
    async fn settle(&mut self) {
        let active = {
            let root = lock(&self.parts.root);
            self.standing.retain(|id| root.held().contains_key(&id));
            look::active(&root)
        };
        let (list, more) = self.standing.list(active);
        let drifted = Drifted::cut(list.iter().cloned(), more);
        let changes = changes(&self.told, &list);
        if *self.view.borrow() != drifted || list != self.told {
            let restored = std::mem::take(&mut self.restore.done);
            if !changes.appeared.is_empty() {
                self.note(outcome::FOUND, &changes.appeared);
                let paths = changes.appeared.count();
                warn!(volume = %self.parts.volume, paths, drift = %Printable(&changes.appeared.summary()), "the disk is not as released");
            }
            if !changes.vanished.is_empty() {
                let how = if restored > 0 {
                    outcome::RESTORED
                } else {
                    outcome::GONE
                };
                self.note(how, &changes.vanished);
                let paths = changes.vanished.count();
                info!(volume = %self.parts.volume, paths, how, "the disk is as released again");
            }
            self.told = list;
            self.view.send_replace(drifted);
            self.parts.changes.tell();
            self.tell(restored).await;
        }
        self.plan_to_put_back();
    }

    async fn tell(&self, restored: u64) {
        let report = DriftReport {
            volume: self.parts.volume.clone(),
            drifted: self.view.borrow().clone(),
            restored,
        };
        self.parts.speaker.say(FromAgent::Drift(report)).await;
    }

    /// Asks for the rules that are not here; once on each link.
    async fn ask_rules(&mut self) {
        if self.minor < DRIFT_MINOR {
            return;
        }
        let lacking = lock(&self.parts.root).lacks_rules();
        for release in lacking {
            if self.asked_rules.insert(release) {
                let volume = self.parts.volume.clone();
                let ask = FromAgent::Rules { volume, release };
                self.parts.speaker.say(ask).await;
            }
        }
    }

    fn note(&self, outcome: &'static str, what: &Drifted) {
        self.parts.journal.record(Event {
            actor: Text::cut("codevol"),
            action: action::DRIFT.into(),
            volume: Some(self.parts.volume.clone()),
            release: None,
            node: None,
            evidence: None,
            outcome: outcome.into(),
            detail: Some(Text::cut(what.summary())),
        });
    }

    fn failed(&self, during: &'static str, cause: &DirError) {
        warn!(volume = %self.parts.volume, during, error = %Chain(cause), "the disk failed");
    }
}
