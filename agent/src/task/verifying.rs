//! The verification that runs, or the next one that is due: at most one at a time.

use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::id::ReleaseId;
use codevol_protocol::message::Verification;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::code_server::CodeServer;
use crate::dependencies::Said;
use crate::evidence::{self, Aim, Proven};

/// How soon an unproven release is looked at again; doubles up to the second.
const SOON: Duration = Duration::from_millis(500);
const SOON_MAX: Duration = Duration::from_secs(5);

/// Why a verification runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The release was just activated.
    Activated,
    /// The node just went back to it.
    Returned,
    /// To know whether what was found still holds.
    Check,
}

/// What a verification found, and what the code servers said of their Python, by address.
pub(super) type Found = (
    ReleaseId,
    Purpose,
    (Verification, Proven, Vec<(String, Said)>),
);

/// Runs verifications one at a time; a newer one ends the one before it.
#[derive(Debug)]
pub(super) struct Verifying {
    servers: Arc<Mutex<Vec<CodeServer>>>,
    /// The one that runs, and such as were ended and are not gone yet.
    running: JoinSet<Found>,
    purpose: Option<Purpose>,
    last: Option<Aim>,
    due: Option<Instant>,
    soon: Duration,
}

impl Verifying {
    pub(super) fn new(servers: Vec<CodeServer>) -> Self {
        Self {
            servers: Arc::new(Mutex::new(servers)),
            running: JoinSet::new(),
            purpose: None,
            last: None,
            due: None,
            soon: SOON,
        }
    }

    /// Starts at once.
    pub(super) fn start(&mut self, aim: Aim, purpose: Purpose) {
        self.running.abort_all();
        self.purpose = Some(purpose);
        if purpose != Purpose::Check {
            self.soon = SOON;
        }
        self.due = None;
        self.last = Some(aim.clone());
        let servers = self.servers.clone();
        self.running.spawn(async move {
            let mut servers = servers.lock().await;
            (
                aim.release,
                purpose,
                evidence::verify(&mut servers, &aim).await,
            )
        });
    }

    /// Returns why one runs; nothing where none does.
    pub(super) const fn purpose(&self) -> Option<Purpose> {
        self.purpose
    }

    /// Checks the same again, later.
    pub(super) fn again_in(&mut self, delay: Duration) {
        self.due = Some(Instant::now() + delay);
    }

    /// Checks the same again soon, less soon each time.
    pub(super) fn again_soon(&mut self) {
        self.again_in(self.soon);
        self.soon = (self.soon * 2).min(SOON_MAX);
    }

    /// Waits for the end of the next verification. Cancel-safe: what runs goes on.
    pub(super) async fn next(&mut self) -> Found {
        loop {
            match self.running.join_next().await {
                Some(Ok(found)) => {
                    // One that had ended before it could be ended has a successor.
                    if self.running.is_empty() {
                        self.purpose = None;
                    }
                    if let Some(last) = self.last.as_mut().filter(|last| last.release == found.0) {
                        last.known.clone_from(&found.2.1.servers);
                    }
                    return found;
                }
                Some(Err(ended)) => {
                    // One that failed is tried again; one that was ended has a successor.
                    if ended.is_panic() {
                        self.purpose = None;
                        self.again_in(SOON_MAX);
                    }
                    continue;
                }
                None => {}
            }
            match self.due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
            if let Some(aim) = self.last.clone() {
                self.start(aim, Purpose::Check);
            }
        }
    }
}
