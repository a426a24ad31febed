//! The task of one volume: does what the source says, one step at a time, and finds out what came
//! of it. It owns `current`; a release that it finds broken right after a flip it takes back by
//! itself, source or no source.
//!
//! ```text
//!   link --Order--> task --flip--> current
//!                     |  --verify--> code servers
//!   source <--Report--+
//! ```

mod collect;
mod dependencies;
mod found;
mod hold;
mod tidy;
mod untold;
mod verifying;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codevol_protocol::chain::Chain;
use codevol_protocol::collection::Collection;
use codevol_protocol::dependency::{DependencyReport, Environment};
use codevol_protocol::evidence::Evidence;
use codevol_protocol::hold::{Hold, HoldOrder, HoldReport};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{
    Active, Failure, FromAgent, Report, Step, Verification, VolumeHello,
};
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_store::dir::DirError;
use codevol_store::journal::Event;
use codevol_store::recorder::Recorder;
use codevol_store::register::Register;
use codevol_transport::Changes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::hold::GoingBack;
pub use self::hold::ReplyTo;
use self::tidy::Tidying;
use self::untold::Untold;
use self::verifying::{Purpose, Verifying};
use crate::code_server::CodeServer;
use crate::dependencies::Checker;
use crate::evidence::Proven;
use crate::hold::Kept;
use crate::metrics::AgentMetrics;
use crate::speaker::Speaker;
use crate::volume::{ActivateError, Root};

/// How many orders may wait.
const INBOX_MAX: usize = 256;
/// How many may wait for what a verification finds.
const LOOKERS_MAX: usize = 16;
/// What the task is told.
#[derive(Debug)]
pub enum Order {
    /// Make `current` mean this release.
    Activate(ReleaseId),
    /// Go back to this release.
    Return(ReleaseId),
    /// What the fleet is to run.
    Live(Option<(Seq, ReleaseId)>),
    /// A release was staged: what that used up is to be prepared anew.
    Tidy,
    /// Say what is held, for `Hello`.
    Describe(oneshot::Sender<VolumeHello>),
    /// Say how things stand, for people.
    Inspect(oneshot::Sender<Standing>),
    /// Ask the code servers now, and say what they loaded.
    Look(oneshot::Sender<Verification>),
    /// Files of the active release, or `current`, were put back: whatever was loaded since they
    /// drifted is to be loaded once more.
    Restored,
    /// Delete what nobody needs any more, or say what that is.
    Collect {
        /// Only say it.
        dry_run: bool,
        /// Who wants to know.
        reply: oneshot::Sender<Result<Collection, DirError>>,
    },
    /// Do as a person wants who named this node.
    Hold(HoldOrder, ReplyTo),
    /// Say whether a person holds this node.
    Held(oneshot::Sender<HoldReport>),
}

impl Order {
    /// Whether it may change how the volume stands: a question does not.
    const fn is_news(&self) -> bool {
        match self {
            // What a collection deletes, it tells itself.
            Self::Describe(_)
            | Self::Inspect(_)
            | Self::Look(_)
            | Self::Collect { .. }
            | Self::Held(_) => false,
            Self::Activate(_)
            | Self::Return(_)
            | Self::Live(_)
            | Self::Tidy
            | Self::Restored
            | Self::Hold(..) => true,
        }
    }
}

/// How a volume stands on this node.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The volume.
    pub volume: VolumeName,
    /// The release that `current` names.
    pub active: Option<ReleaseId>,
    /// What is known of it; nothing while that is found out.
    pub verification: Option<Verification>,
    /// What the fleet is to run, as the source said last.
    pub live: Option<(Seq, ReleaseId)>,
    /// The Python environments of its code servers.
    pub environments: Vec<Arc<Environment>>,
    /// How these fit the release.
    pub dependencies: Option<DependencyReport>,
    /// The last thing that went wrong: with which release, in which step.
    pub error: Option<(ReleaseId, &'static str, Failure)>,
    /// Set while a person holds this node.
    pub hold: Option<Hold>,
    /// Releases that were found broken here.
    pub broken: Vec<ReleaseId>,
}

/// What the task is made of.
#[derive(Debug)]
pub struct VolumeParts {
    /// The volume.
    pub volume: VolumeName,
    /// Its root.
    pub root: Arc<Mutex<Root>>,
    /// Its code servers.
    pub servers: Vec<CodeServer>,
    /// The processes that were proven.
    pub proven: Register<Proven>,
    /// What persons said, and what was broken.
    pub kept: Register<Kept>,
    /// Compares releases with the Python environments.
    pub dependencies: Checker,
    /// Whom to tell.
    pub speaker: Speaker,
    /// The journal.
    pub journal: Recorder,
    /// Where it is counted and timed.
    pub metrics: Arc<AgentMetrics>,
    /// Whom to tell when something has changed.
    pub changes: Changes,
}

/// The task: [`Self::run`] it.
#[derive(Debug)]
pub struct VolumeTask {
    volume: VolumeName,
    root: Arc<Mutex<Root>>,
    verifying: Verifying,
    tidying: Tidying,
    proven: Register<Proven>,
    kept: Register<Kept>,
    /// A rollback by a person that is not over.
    going_back: Option<GoingBack>,
    dependencies: Checker,
    speaker: Speaker,
    journal: Recorder,
    metrics: Arc<AgentMetrics>,
    changes: Changes,
    flip: u64,
    live: Option<(Seq, ReleaseId)>,
    verification: Option<Verification>,
    error: Option<(ReleaseId, &'static str, Failure)>,
    /// Releases that were taken back by themselves once: not again.
    taken_back: BTreeSet<ReleaseId>,
    untold: Untold,
    /// Who wants to hear what the next verification finds.
    lookers: Vec<oneshot::Sender<Verification>>,
    inbox: mpsc::Receiver<Order>,
}

impl VolumeTask {
    /// Makes the task and what it is told by.
    #[must_use]
    pub fn new(parts: VolumeParts) -> (Self, mpsc::Sender<Order>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let task = Self {
            volume: parts.volume,
            root: parts.root,
            verifying: Verifying::new(parts.servers),
            tidying: Tidying::default(),
            proven: parts.proven,
            kept: parts.kept,
            going_back: None,
            dependencies: parts.dependencies,
            speaker: parts.speaker,
            journal: parts.journal,
            metrics: parts.metrics,
            changes: parts.changes,
            flip: 0,
            live: None,
            verification: None,
            error: None,
            taken_back: BTreeSet::new(),
            untold: Untold::default(),
            lookers: Vec::new(),
            inbox,
        };
        (task, sender)
    }

    /// Runs until the daemon stops.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without this task the daemon is of no use: however it ends, by a panic too, all end.
        let _stop = shutdown.clone().drop_guard();
        self.resume_hold();
        if let Some(active) = self.active() {
            self.verify(active, Purpose::Check);
        }
        loop {
            // Cancel-safe: `recv`, `due` and `next` lose nothing when dropped.
            tokio::select! {
                () = shutdown.cancelled() => break,
                order = self.inbox.recv() => match order {
                    Some(order) => {
                        let is_news = order.is_news();
                        self.obey(order).await;
                        if is_news {
                            self.changes.tell();
                        }
                    }
                    None => break,
                },
                () = self.tidying.due() => self.tidy(),
                (release, purpose, found) = self.verifying.next() => {
                    let (verification, proven, said) = found;
                    self.dependencies.heard(said);
                    if self.active() == Some(release) {
                        self.found((release, purpose), verification, proven).await;
                    }
                    self.look_at_dependencies().await;
                    self.changes.tell();
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Activate(release) | Order::Return(release)
                if let Some(failure) = self.held_back() =>
            {
                self.report(release, Step::ActivateFailed(failure)).await;
            }
            Order::Activate(release) => {
                self.untold.asked();
                self.activate(release).await;
            }
            Order::Return(release) => {
                self.untold.asked();
                self.go_back(release).await;
            }
            Order::Live(live) => {
                self.live = live;
                if self.untold.greeted() {
                    self.tell_of_return().await;
                }
                self.look_at_dependencies().await;
            }
            Order::Tidy => self.tidying.later(),
            // Whoever asked may have gone.
            Order::Describe(reply) => drop(reply.send(self.describe())),
            Order::Inspect(reply) => drop(reply.send(self.standing())),
            Order::Look(reply) => self.look(reply),
            Order::Restored => self.load_again(),
            Order::Collect { dry_run, reply } => self.collect(dry_run, reply),
            Order::Hold(order, reply_to) => self.take_order(order, reply_to).await,
            Order::Held(reply) => {
                drop(reply.send(self.kept.get().report(self.volume.clone())));
            }
        }
    }

    /// Has the verification that runs, or one that begins now, tell what it finds.
    fn look(&mut self, reply: oneshot::Sender<Verification>) {
        self.lookers.retain(|looker| !looker.is_closed());
        if self.lookers.len() >= LOOKERS_MAX {
            return;
        }
        if let Some(active) = self.active() {
            self.lookers.push(reply);
            if self.verifying.purpose().is_none() {
                self.verify(active, Purpose::Check);
            }
        }
    }

    fn load_again(&mut self) {
        if let Some(active) = self.active() {
            info!(volume = %self.volume, release = %active.short(), "what was restored is loaded again");
            // As after a flip: no process is known to serve what now stands there.
            self.flip += 1;
            self.keep_proven(Proven::default());
            let purpose = self.verifying.purpose().unwrap_or(Purpose::Check);
            self.verify(active, purpose);
        }
    }

    async fn activate(&mut self, release: ReleaseId) {
        if let Some(failure) = self.refusal(release).await {
            self.record("activate", release, None, "dependencies");
            self.error = Some((release, "activate", failure.clone()));
            self.report(release, Step::ActivateFailed(failure)).await;
            return;
        }
        match self.flip_to(release) {
            Ok(elapsed_us) => {
                self.report(release, Step::Activated { elapsed_us }).await;
                self.verify(release, Purpose::Activated);
            }
            Err(failure) => self.not_activated(release, "activate", failure).await,
        }
    }

    /// Says that a release could not be activated; and where it is not held, that too: whoever asked
    /// thought so, and sends it once more.
    async fn not_activated(&mut self, release: ReleaseId, step: &'static str, failure: Failure) {
        self.error = Some((release, step, failure.clone()));
        self.report(release, Step::ActivateFailed(failure)).await;
        let is_held = self.lock().held().contains_key(&release);
        if !is_held {
            let said = FromAgent::Held {
                volume: self.volume.clone(),
                added: Vec::new(),
                removed: vec![release],
            };
            self.speaker.say(said).await;
        }
    }

    /// Goes back because the source says so. Where this node went back by itself already, what it
    /// found then is the answer.
    async fn go_back(&mut self, release: ReleaseId) {
        if self.active() == Some(release) {
            match &self.verification {
                Some(verification) => {
                    self.report(release, Step::Returned(verification.clone()))
                        .await;
                }
                None => self.verify(release, Purpose::Returned),
            }
            return;
        }
        let left = self.active();
        match self.flip_to(release) {
            Ok(_) => {
                if let Some(left) = left {
                    self.left_broken(left);
                }
                info!(volume = %self.volume, release = %release.short(), "went back");
                self.verify(release, Purpose::Returned);
            }
            Err(failure) => self.not_activated(release, "return", failure).await,
        }
    }

    /// Tells where this node went back to by itself. While that is verified, its end will tell.
    async fn tell_of_return(&self) {
        if let (Some(active), Some(verification)) = (self.active(), &self.verification) {
            let step = Step::Returned(verification.clone());
            self.report(active, step).await;
        }
    }

    /// Flips `current` and returns how long that took, in microseconds.
    fn flip_to(&mut self, release: ReleaseId) -> Result<u64, Failure> {
        // What has just got its name is on its way to the disk.
        let verdict = self.lock().verdict(release);
        let flipped = block_in_place(|| {
            if let Some(verdict) = verdict {
                verdict.wait();
            }
            self.lock().activate(release, now())
        });
        match flipped {
            Ok(activated) => {
                if let Some(elapsed) = activated.flip_us {
                    let elapsed_us = u64::try_from(elapsed).unwrap_or(u64::MAX);
                    self.metrics
                        .activate
                        .observe(Duration::from_micros(elapsed_us));
                    self.flip += 1;
                    self.tidying.put_off();
                    // A reload that was asked for before may still end, with whatever it found: no
                    // process is known to serve anything until it was asked after this flip.
                    self.keep_proven(Proven::default());
                    self.verification = None;
                    self.record("activate", release, None, "done");
                    info!(volume = %self.volume, release = %release.short(), "release activated");
                    return Ok(elapsed_us);
                }
                Ok(0)
            }
            Err(cause) => {
                error!(volume = %self.volume, release = %release.short(), error = %Chain(&cause), "cannot activate");
                self.record("activate", release, None, "failed");
                let mut failure = Failure::new(activate_kind(&cause), format!("{}", Chain(&cause)));
                failure.retryable = cause.is_retryable();
                Err(failure)
            }
        }
    }

    fn verify(&mut self, release: ReleaseId, purpose: Purpose) {
        let dir_name = self.lock().held().get(&release).map(|held| held.dir_name());
        let Some(dir_name) = dir_name else { return };
        let proven = self.proven.get();
        let known = if proven.release == Some(release) {
            proven.servers.clone()
        } else {
            Default::default()
        };
        let aim = crate::evidence::Aim {
            release,
            dir_name,
            flip: self.flip,
            known,
        };
        self.verifying.start(aim, purpose);
    }

    fn keep_proven(&mut self, proven: Proven) {
        if *self.proven.get() != proven
            && let Err(cause) = block_in_place(|| self.proven.replace(proven))
        {
            // Without it the worst that happens is one reload too many after a restart.
            warn!(volume = %self.volume, error = %Chain(&cause), "cannot keep what was proven");
        }
    }

    fn describe(&mut self) -> VolumeHello {
        let left = self.untold.hello();
        self.dependencies.begin_anew(self.active());
        let refused = self.refused();
        let root = self.lock();
        // A baseline is this node's own: no source knows it.
        let published = root
            .held()
            .values()
            .filter(|held| !held.release().is_baseline());
        let newest = published.max_by_key(|held| held.release().seq);
        let active = root.active();
        VolumeHello {
            volume: self.volume.clone(),
            newest: newest.map(|held| held.signed().clone()),
            // What would be refused is not offered: else the rollout would count on it.
            held: root
                .held()
                .keys()
                .filter(|held| !refused.contains(held))
                .copied()
                .collect(),
            active: left.or_else(|| {
                active.map(|release| Active {
                    release,
                    verification: self.verification.clone(),
                })
            }),
            // The receiver knows.
            partial: None,
        }
    }

    fn standing(&self) -> Standing {
        let active = self.active();
        let (environments, dependencies) = self.dependencies.standing(active);
        Standing {
            volume: self.volume.clone(),
            active,
            environments,
            dependencies,
            verification: self.verification.clone(),
            live: self.live,
            error: self.error.clone(),
            hold: self.kept.get().hold.clone(),
            broken: self.kept.get().broken.clone(),
        }
    }

    async fn report(&self, release: ReleaseId, step: Step) {
        let report = Report {
            volume: self.volume.clone(),
            release,
            step,
        };
        self.speaker.say(FromAgent::Report(report)).await;
    }

    fn record(
        &self,
        action: &'static str,
        release: ReleaseId,
        evidence: Option<Evidence>,
        outcome: &'static str,
    ) {
        self.journal.record(Event {
            actor: Text::cut("codevol"),
            action: action.into(),
            volume: Some(self.volume.clone()),
            release: Some(release),
            node: None,
            evidence,
            outcome: outcome.into(),
            detail: None,
        });
    }

    fn active(&self) -> Option<ReleaseId> {
        self.lock().active()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Root> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn activate_kind(error: &ActivateError) -> &'static str {
    match error {
        ActivateError::NotHeld(_) | ActivateError::NotDurable(_) | ActivateError::Gone(_) => "gone",
        ActivateError::Moved => "moved",
        ActivateError::Record(error) if error.is_no_space() => "no-space",
        ActivateError::Dir(error) if error.is_no_space() => "no-space",
        ActivateError::Record(_) | ActivateError::Dir(_) => "io",
    }
}

/// Returns the time of day.
pub(crate) fn now() -> UnixMillis {
    let ms = jiff::Timestamp::now().as_millisecond();
    UnixMillis(u64::try_from(ms).unwrap_or_default())
}
