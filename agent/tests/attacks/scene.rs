//! A node with a live release, the link to it, and the checks that each case ends with.

use std::collections::BTreeMap;

use codevol_peer::{VIOLATION, within};
use codevol_protocol::call::{Call, Reply};
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::message::{Failure, FromAgent, FromSource, Step};
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use crate::craft::{Crafted, Push, craft, pipes};
use crate::node::Node;
use crate::wire::{Conn, Source};

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) source: Source,
    pub(crate) node: Node,
    pub(crate) link: Conn,
    pub(crate) live: Crafted,
    /// How many lines of each outcome the journal held after the last case.
    noted: BTreeMap<String, usize>,
}

/// What came of a push.
#[derive(Debug)]
pub(crate) enum Answer {
    Staged,
    Failed(Failure),
    Missing(Vec<BlobId>),
}

pub(crate) fn files(text: &str) -> Crafted {
    files_at(1, text)
}

/// Two files, of which one changes from release to release.
pub(crate) fn files_at(seq: u64, text: &str) -> Crafted {
    craft(
        seq,
        &[("defs.py", text.as_bytes()), ("sub/kept.py", b"kept")],
    )
}

impl Scene {
    /// An agent on which r1 is live.
    pub(crate) async fn begin() -> Self {
        Self::begin_with(files("one"), tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn begin_with(first: Crafted, temp: TempDir) -> Self {
        let source = Source::bind();
        let node = Node::start(source.addr(), temp);
        let mut link = source.accept().await;
        link.greet().await;
        let mut scene = Self {
            source,
            node,
            link,
            live: first.clone(),
            noted: BTreeMap::new(),
        };
        scene.link.push(&first.push(None)).await;
        scene.goes_live(first, "the first release").await;
        scene
    }

    /// The seq of the next release.
    pub(crate) fn next(&self) -> u64 {
        self.live.record.seq.0 + 1
    }

    /// Waits for what came of a push of this release.
    pub(crate) async fn answer(&mut self, release: ReleaseId, what: &str) -> Answer {
        loop {
            let heard = self.link.hear().await;
            let heard = heard.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            match heard.unwrap_or_else(|| panic!("{what}: the stream ended")) {
                FromAgent::Report(report) if report.release == release => match report.step {
                    Step::Staged { .. } => return Answer::Staged,
                    Step::StageFailed(failure) => return Answer::Failed(failure),
                    _ => {}
                },
                FromAgent::Missing {
                    release: of, blobs, ..
                } if of == release => return Answer::Missing(blobs),
                _ => {}
            }
        }
    }

    /// Waits for a report of this release.
    pub(crate) async fn step(&mut self, release: ReleaseId, is: impl Fn(&Step) -> bool) -> Step {
        loop {
            match self.link.hear().await.unwrap().unwrap() {
                FromAgent::Report(report) if report.release == release && is(&report.step) => {
                    return report.step;
                }
                _ => {}
            }
        }
    }

    /// Whether the agent's next word is that it does not hold this release.
    pub(crate) async fn is_lacking(&mut self, release: ReleaseId) -> bool {
        match self.link.hear().await.unwrap().unwrap() {
            FromAgent::Held { added, removed, .. } => added.is_empty() && removed == [release],
            _ => false,
        }
    }

    /// Waits until a release that was pushed is staged, and has it activated.
    pub(crate) async fn goes_live(&mut self, release: Crafted, what: &str) {
        let id = release.id();
        let answer = self.answer(id, what).await;
        assert!(matches!(answer, Answer::Staged), "{what}: {answer:?}");
        self.activate(id).await;
        self.step(id, |step| matches!(step, Step::Verified(_)))
            .await;
        self.live = release;
        self.node.assert_live(&self.live, what);
    }

    pub(crate) async fn activate(&mut self, release: ReleaseId) {
        let volume = pipes();
        self.link
            .say(&FromSource::Activate { volume, release })
            .await;
    }

    /// Sends a push that the agent must refuse; returns what it says.
    pub(crate) async fn refuses(&mut self, what: &str, push: &Push) -> Failure {
        let id = push.head.release.id();
        self.link.push(push).await;
        let Answer::Failed(failure) = self.answer(id, what).await else {
            panic!("{what}: was not refused");
        };
        self.survives(what, failure.kind.as_str()).await;
        failure
    }

    /// Waits until the agent closes the link for a breach, and lets it come back.
    pub(crate) async fn closes(&mut self, what: &str) {
        assert_eq!(self.link.closed(what).await, VIOLATION, "{what}");
        self.link = self.source.accept().await;
        self.link.greet().await;
        self.survives(what, "violation").await;
    }

    /// The checks that each case ends with.
    pub(crate) async fn survives(&mut self, what: &str, outcome: &str) {
        self.noted(what, outcome, 1).await;
        self.is_unharmed(what).await;
        let next = files_at(self.next(), what);
        self.link.push(&next.push(Some(&self.live))).await;
        self.goes_live(next, what).await;
    }

    /// Waits until so many lines of this outcome came into the journal since the last case.
    pub(crate) async fn noted(&mut self, what: &str, outcome: &str, count: usize) {
        let wanted = self.noted.get(outcome).copied().unwrap_or_default() + count;
        let found = async {
            loop {
                let found = self.node.lines(outcome).len();
                if found >= wanted {
                    return found;
                }
                // The journal is written by a thread of its own.
                sleep(Duration::from_millis(2)).await;
            }
        };
        let found = within(&format!("{what}: lines `{outcome}` in the journal"), found).await;
        assert_eq!(found, wanted, "{what}: lines `{outcome}` in the journal");
        self.noted.insert(outcome.to_owned(), found);
    }

    pub(crate) async fn is_unharmed(&self, what: &str) {
        self.node.assert_live(&self.live, what);
        let health = self.node.call(&Call::Health { ready: true }).await;
        assert_eq!(health, Reply::Healthy, "{what}");
    }
}
