//! Drives a verification: look, ask for a reload, look again over fresh connections until the
//! judge has settled or the time is over.

use std::time::Duration;

use codevol_protocol::evidence::CodeServerKind;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::client::{CALL_TIMEOUT, CallError, Client};
use super::judge::{self, Facts, Judgement, Reload, Since};
use super::observe::{self, Answer, Observation};
use super::{CodeServer, Expected, Memory, Verified};
use crate::config::CodeServerConfig;
use crate::dependencies::Said;

/// What was seen before the reload, and how that ended.
struct Start {
    kind: CodeServerKind,
    since: Since,
    reload: Reload,
    before: Answer,
    load_ms: Option<u64>,
}

/// What a look showed.
struct Seen {
    judgement: Judgement,
    server_id: Option<String>,
    python: Option<Said>,
}

impl Seen {
    fn nothing(kind: CodeServerKind, error: &CallError) -> Self {
        Self {
            judgement: judge::unasked(kind, error),
            server_id: None,
            python: None,
        }
    }
}

impl CodeServer {
    /// Makes the code server load the release, and finds out what it serves. Ends within
    /// `verify_timeout` and a short grace; at once where nobody listens.
    ///
    /// What ran when it first looked after a flip is remembered, so that a process that is started
    /// later counts as begun after the flip. When this future is dropped a reload may go on.
    pub async fn verify(&mut self, expected: &Expected) -> Verified {
        let deadline = Instant::now() + self.config.verify_timeout;
        loop {
            let (seen, load_ms) = match self.start(expected, deadline).await {
                Ok(start) => {
                    let seen = look(&self.config, expected, &start, deadline).await;
                    (seen, start.load_ms)
                }
                Err(error) => (Seen::nothing(self.config.kind, &error), None),
            };
            if seen.judgement.settled || !pause(deadline).await {
                return self.verified(seen, load_ms);
            }
        }
    }

    /// Looks, and asks for a reload where one is due.
    async fn start(&mut self, expected: &Expected, deadline: Instant) -> Result<Start, CallError> {
        let mut client = Client::connect(&self.config.address, deadline).await?;
        let id = match client.server_id(deadline).await {
            Ok(id) => Some(id),
            // The parent answers for a child that is dead.
            Err(CallError::Status(code, _)) if code != Code::Unavailable => None,
            Err(error) => return Err(error),
        };
        let before = Observation::ask(&mut client, deadline).await.answer;
        let mut start = Start {
            kind: match self.config.kind {
                CodeServerKind::Auto => observe::guess_kind(&mut client, deadline).await,
                kind @ (CodeServerKind::CodeServer | CodeServerKind::ApiGrpc) => kind,
            },
            since: Since::Unknown,
            reload: Reload::Skipped,
            before,
            load_ms: None,
        };
        // While a reload may still be under way, the process that answers is about to be replaced.
        let pending = self
            .memory
            .as_ref()
            .is_some_and(|memory| memory.unanswered > 0);
        if let Some(id) = &id
            && expected.known_server_id.as_ref() == Some(id)
            && !pending
        {
            start.since = Since::Known(id.clone());
            return Ok(start);
        }
        let memory = self.remember(expected.flip, id.clone());
        start.since = Since::After(memory.stale.clone());
        if memory.unanswered >= UNANSWERED_MAX {
            // Each further one would take one more of the server's few threads.
            start.reload = Reload::Hung;
            return Ok(start);
        }
        let begun_since = id.is_some() && id != memory.stale;
        let loaded = begun_since && matches!(start.before, Answer::Listed(_));
        if expected.reload && !loaded && start.kind != CodeServerKind::ApiGrpc {
            memory.stale = id.clone();
            memory.unanswered += 1;
            start.since = Since::After(id);
            let asked_at = Instant::now();
            start.reload = reload(&mut client, deadline).await;
            match start.reload {
                Reload::Hung | Reload::Skipped => {}
                Reload::Answered => memory.unanswered = 0,
                // Nobody knows whether it was heard: the process is met anew.
                Reload::Lost => self.memory = None,
            }
            let elapsed = u64::try_from(asked_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            start.load_ms = (start.reload == Reload::Answered).then_some(elapsed);
        }
        Ok(start)
    }

    /// Returns what is remembered of this flip. A process that answers in the place of one whose
    /// reload hung may have been started before the flip: it is met anew.
    fn remember(&mut self, flip: u64, id: Option<String>) -> &mut Memory {
        let unanswered = match self.memory.take() {
            Some(kept) if kept.flip == flip && (kept.unanswered == 0 || kept.stale == id) => {
                return self.memory.insert(kept);
            }
            Some(earlier) if earlier.stale == id => earlier.unanswered,
            Some(_) | None => 0,
        };
        self.memory.insert(Memory {
            flip,
            stale: id,
            unanswered,
        })
    }

    fn verified(&self, seen: Seen, load_ms: Option<u64>) -> Verified {
        let Seen {
            judgement,
            server_id,
            python,
        } = seen;
        Verified {
            address: self.config.address.clone(),
            kind: match self.config.kind {
                CodeServerKind::Auto => judgement.kind,
                kind @ (CodeServerKind::CodeServer | CodeServerKind::ApiGrpc) => kind,
            },
            state: judgement.state,
            verdict: judgement.verdict,
            evidence: judgement.evidence,
            server_id,
            load_ms,
            error: judgement.error,
            advice: judgement.advice,
            python,
        }
    }
}

/// Looks over fresh connections until the judge has settled or a new start is needed.
async fn look(
    config: &CodeServerConfig,
    expected: &Expected,
    start: &Start,
    deadline: Instant,
) -> Seen {
    loop {
        let after = match observations(config, deadline + GRACE).await {
            Ok(after) => after,
            Err(error) => return Seen::nothing(start.kind, &error),
        };
        let judgement = judge::judge(&Facts {
            release_dir: &expected.release_dir,
            kind: start.kind,
            since: &start.since,
            reload: start.reload,
            before: &start.before,
            after: &after,
        });
        let start_anew = matches!(start.reload, Reload::Lost);
        if judgement.settled || start_anew || !pause(deadline).await {
            return Seen {
                judgement,
                server_id: judge::only_server_id(&after).map(str::to_owned),
                python: after.last().and_then(|last| last.answer.python()),
            };
        }
    }
}

/// Looks over several connections: two servers on one port share them out. Stops at the first
/// that brings nothing.
async fn observations(
    config: &CodeServerConfig,
    deadline: Instant,
) -> Result<Vec<Observation>, CallError> {
    let mut observations = Vec::with_capacity(CONNECTIONS);
    while observations.len() < CONNECTIONS {
        let observation = Observation::make(&config.address, deadline).await?;
        let silent = matches!(
            observation.answer,
            Answer::Failed(CallError::Deadline | CallError::Lost(_))
        );
        observations.push(observation);
        if silent {
            break;
        }
    }
    Ok(observations)
}

async fn reload(client: &mut Client, deadline: Instant) -> Reload {
    match client.reload_code(deadline).await {
        Err(CallError::Deadline) => Reload::Hung,
        Err(
            CallError::NotReached(_)
            | CallError::Lost(_)
            | CallError::Status(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, _),
        ) => Reload::Lost,
        // The first good reload after a crash answers `UNKNOWN`, and worked.
        Ok(()) | Err(CallError::Status(..)) => Reload::Answered,
    }
}

/// Waits before the next look; says no when the time is over.
async fn pause(deadline: Instant) -> bool {
    let next = Instant::now() + LOOK_EVERY;
    if next >= deadline {
        return false;
    }
    sleep_until(next).await;
    true
}

/// How many connections a look takes: that all of them reach the same of two servers happens once
/// in a hundred times.
const CONNECTIONS: usize = 8;
/// How many reloads may hang in one process: the second is for a request that never arrived.
const UNANSWERED_MAX: u32 = 2;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the last look may take after the time is over.
const GRACE: Duration = CALL_TIMEOUT;

#[cfg(test)]
mod tests;
