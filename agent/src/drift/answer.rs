//! Answering who wants to know now: a look as fast as the disk goes, with word of how far it is, while
//! the code servers are asked what they loaded.

use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::drift::{Depth, Drifted, Looked, Pass, Word};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::{Failure, FromAgent, Verification};
use codevol_protocol::name::VolumeName;
use codevol_protocol::release::Seq;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::look::{self, Asked, lock};
use super::standing::Tick;
use super::{Asker, DriftTask, ORDER_TIMEOUT};
use crate::speaker::Speaker;
use crate::task::Order;
use crate::volume::{Found, Look, Pace, Progress};

/// How many may be answered at once.
const ANSWERS_MAX: usize = 4;
/// How often an asker hears how far it is.
const WORD_INTERVAL: Duration = Duration::from_secs(2);
/// How long code servers may take for a verdict.
const SERVERS_TIMEOUT: Duration = Duration::from_secs(90);
/// How long an asker may take to take a word.
const TAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found for somebody, and is true for everybody.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) began: Tick,
    /// Whether `current` was flipped, where that was looked at.
    pub(super) flipped: Option<bool>,
    pub(super) releases: Vec<((ReleaseId, Seq), Found)>,
}

impl DriftTask {
    /// Begins an answer.
    pub(super) fn answer(&mut self, depth: Depth, asker: Asker) {
        let asker = Mouth {
            asker,
            volume: self.parts.volume.clone(),
            speaker: self.parts.speaker.clone(),
        };
        let began = self.standing.begin();
        let busy = self.answers.len() >= ANSWERS_MAX;
        let looks = if busy { Vec::new() } else { self.looks(depth) };
        let root = Arc::clone(&self.parts.root);
        let orders = self.parts.orders.clone();
        let stop = self.stop.child_token();
        self.answers.spawn(async move {
            let mut answered = Answered {
                began,
                flipped: None,
                releases: Vec::new(),
            };
            if busy {
                asker
                    .say(ended(refused("busy", "it looks for others already")))
                    .await;
                return answered;
            }
            let progress = Progress::default();
            let files_all = looks.iter().map(Look::files).sum();
            let (verdict, servers) = oneshot::channel();
            let until = Instant::now() + SERVERS_TIMEOUT;
            let asks = depth != Depth::Contents;
            if asks {
                // A task that takes no order says nothing of its code servers either.
                drop(tokio::time::timeout(ORDER_TIMEOUT, orders.send(Order::Look(verdict))).await);
            } else {
                drop(verdict);
            }
            let mut pace = Pace::fast(stop.clone(), progress.clone());
            // However this ends, the look does too.
            let _stops = stop.clone().drop_guard();
            let disk =
                tokio::task::spawn_blocking(move || look::asked(&root, (&looks, depth), &mut pace));
            let both = async {
                let disk = disk.await;
                let found = timeout_at(until, servers).await;
                (disk, found.ok().and_then(Result::ok))
            };
            let (disk, verification) = asker.wait(both, (&progress, files_all), &stop).await;
            let Ok(Asked {
                flipped,
                releases,
                mut looked,
            }) = disk
            else {
                asker
                    .say(ended(refused("io", "the look was broken off")))
                    .await;
                return answered;
            };
            (looked.files, looked.bytes) = (progress.files(), progress.bytes());
            let is_silent = asks && looked.active.is_some() && verification.is_none();
            if is_silent && looked.failure.is_none() {
                let message = "its code servers were not judged in time";
                looked.failure = Some(Failure::new("code-servers", message));
            }
            looked.verification = verification;
            (answered.flipped, answered.releases) = (flipped, releases);
            asker.say(ended(looked)).await;
            answered
        });
    }

    /// Returns the releases that are to be looked at: the active one first.
    fn looks(&self, depth: Depth) -> Vec<Look> {
        let mut root = lock(&self.parts.root);
        let active = root.active();
        let others: Vec<ReleaseId> = match depth {
            Depth::Held => root.held().keys().copied().collect(),
            Depth::Active | Depth::Contents => Vec::new(),
        };
        let others = others.into_iter().filter(|id| active != Some(*id));
        let all = active.into_iter().chain(others);
        all.filter_map(|id| root.look(id)).collect()
    }
}

/// Says words to who asked.
struct Mouth {
    asker: Asker,
    volume: VolumeName,
    speaker: Speaker,
}

impl Mouth {
    async fn say(&self, word: Word) {
        match &self.asker {
            // One who has left misses nothing.
            Asker::Caller(words) => {
                drop(tokio::time::timeout(TAKE_TIMEOUT, words.send(word)).await);
            }
            Asker::Source(ask) => {
                let said = FromAgent::Looked {
                    volume: self.volume.clone(),
                    ask: *ask,
                    word,
                };
                self.speaker.say(said).await;
            }
        }
    }

    /// Whether nobody listens any more.
    fn is_gone(&self) -> bool {
        match &self.asker {
            Asker::Caller(words) => words.is_closed(),
            Asker::Source(_) => false,
        }
    }

    /// Says how far it is until it has ended.
    async fn wait<T>(
        &self,
        work: impl Future<Output = T>,
        (progress, files_all): (&Progress, u64),
        stop: &CancellationToken,
    ) -> T {
        tokio::pin!(work);
        let mut words = interval(WORD_INTERVAL);
        loop {
            // Cancel-safe: the work goes on where it was, and a tick that is lost is made up for.
            tokio::select! {
                done = &mut work => return done,
                _ = words.tick() => {
                    let files = progress.files();
                    if self.is_gone() {
                        stop.cancel();
                    }
                    self.say(Word::Going(Pass { files, files_all })).await;
                }
            }
        }
    }
}

fn ended(looked: Looked) -> Word {
    Word::Ended(Box::new(looked))
}

fn refused(kind: &str, message: &str) -> Looked {
    Looked {
        active: None,
        drifted: Drifted::default(),
        contents: Vec::new(),
        verification: None::<Verification>,
        releases: 0,
        files: 0,
        bytes: 0,
        elapsed_ms: 0,
        failure: Some(Failure::new(kind, message)),
    }
}
