//! The verdict on a verification: pure, from what was seen before and after the reload.

use codevol_protocol::evidence::{CodeServerKind, CodeServerState, Evidence, Verdict};
use codevol_protocol::name::Text;
use tonic::Code;

use super::client::CallError;
use super::observe::{Answer, ErrorInfo, Listing, Observation, Origin};
use super::traceback::{self, LoadFailure};

/// All that a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The name of the directory of the release that is to be served.
    pub(super) release_dir: &'a str,
    /// What kind it was before this verification, as configured or guessed.
    pub(super) kind: CodeServerKind,
    /// Which processes began after the flip.
    pub(super) since: &'a Since,
    /// How the reload ended.
    pub(super) reload: Reload,
    /// What was seen before the reload.
    pub(super) before: &'a Answer,
    /// What was seen after it, over fresh connections.
    pub(super) after: &'a [Observation],
}

/// Which processes are known to have begun after the flip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// The one with this id: it was proven for this release.
    Known(String),
    /// Each but the one with this id, which answered after the flip; `None`: whatever ran then
    /// has ended.
    After(Option<String>),
    /// None is.
    Unknown,
}

/// How a `ReloadCode` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// It was not asked for.
    Skipped,
    /// It was answered, with whatever status: the new process was started, or could not be.
    Answered,
    /// It was not answered in time.
    Hung,
    /// The connection broke.
    Lost,
}

/// What the facts show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The verdict.
    pub(super) verdict: Verdict,
    /// The strongest evidence the code server itself gives.
    pub(super) evidence: Option<Evidence>,
    /// How it stands.
    pub(super) state: CodeServerState,
    /// What kind it is.
    pub(super) kind: CodeServerKind,
    /// What it said went wrong.
    pub(super) error: Option<LoadFailure>,
    /// What is the matter, and what mends it.
    pub(super) advice: Option<Text>,
    /// Whether asking again cannot change it.
    pub(super) settled: bool,
}

impl Since {
    fn covers(&self, server_id: &str) -> bool {
        match self {
            Self::Known(known) => known == server_id,
            Self::After(stale) => stale.as_deref() != Some(server_id),
            Self::Unknown => false,
        }
    }
}

/// Judges.
pub(super) fn judge(facts: &Facts<'_>) -> Judgement {
    let Some(last) = facts.after.last() else {
        return unproven(facts.kind, "it was not asked").wait();
    };
    let unanswered = |o: &Observation| match &o.server_id {
        Ok(_) => false,
        // The parent answers for a child that is dead.
        Err(CallError::Status(code, _)) => passing(*code),
        Err(CallError::NotReached(_) | CallError::Lost(_) | CallError::Deadline) => true,
    };
    if facts.after.iter().any(unanswered) {
        return unproven(facts.kind, "it does not say which process answers").wait();
    }
    let changes = facts
        .after
        .windows(2)
        .filter(|pair| pair.first().map(id_of) != pair.last().map(id_of));
    match changes.count() {
        0 => {}
        // A reload that someone else asked for, or a process that ended.
        1 => return unproven(facts.kind, "its server id changed meanwhile").wait(),
        _ => return unproven(facts.kind, TWO_SERVERS),
    }
    let id = id_of(last);
    if facts.reload == Reload::Hung {
        return hung(facts, &last.answer, id);
    }
    let kind_of = |o: &Observation| std::mem::discriminant(&o.answer);
    if facts.after.iter().any(|o| kind_of(o) != kind_of(last)) {
        return unproven(facts.kind, "its answers change from call to call").wait();
    }
    match &last.answer {
        Answer::Listed(listing) => listed(facts, listing, id),
        Answer::LoadError(error) => load_error(facts, error, id),
        Answer::Failed(error) => failed(facts, error),
    }
}

/// Returns the judgement on a server that could not be asked. Only one that answers is waited for.
pub(super) fn unasked(kind: CodeServerKind, error: &CallError) -> Judgement {
    match error {
        CallError::NotReached(why) => unproven(kind, &format!("cannot connect to it: {why}")),
        CallError::Lost(_) | CallError::Deadline | CallError::Status(..) => {
            unproven(kind, &format!("it does not answer: {error}")).wait()
        }
    }
}

/// Returns the id that all the observations agree on.
pub(super) fn only_server_id(observations: &[Observation]) -> Option<&str> {
    let first = id_of(observations.first()?)?;
    let agree = observations.iter().all(|o| id_of(o) == Some(first));
    agree.then_some(first)
}

fn listed(facts: &Facts<'_>, listing: &Listing, id: Option<&str>) -> Judgement {
    let fresh = id.is_some_and(|id| facts.since.covers(id));
    let kind = kind(facts, fresh);
    let origin = listing.origin();
    if origin.names(facts.release_dir) {
        return good(kind, Evidence::Proven);
    }
    if !fresh {
        return not_fresh(facts);
    }
    match origin {
        Origin::Current => good(kind, Evidence::Proven),
        Origin::Release(other) => {
            let mut broken = broken(
                kind,
                LoadFailure::plain(format!(
                    "it still serves `{other}`, not `{}`: its working directory does not go through `current`",
                    facts.release_dir
                )),
            );
            broken.advice = Some(Text::cut(START_WITH_CURRENT));
            broken
        }
        Origin::Outside => Judgement {
            evidence: Some(Evidence::Loaded),
            ..unproven(
                kind,
                &format!("it loads its code from outside the volume: {START_WITH_CURRENT}"),
            )
        },
    }
}

fn load_error(facts: &Facts<'_>, error: &ErrorInfo, id: Option<&str>) -> Judgement {
    let fresh = id.is_some_and(|id| facts.since.covers(id));
    // A process that dies while it imports leaves the id of the one before, then none; its error
    // names a socket of its own. One that cannot reload repeats what it said.
    let repeated = matches!(facts.before, Answer::LoadError(before) if **before == *error);
    let reloaded =
        facts.reload == Reload::Answered && facts.kind != CodeServerKind::ApiGrpc && !repeated;
    if !fresh && !reloaded {
        return not_fresh(facts);
    }
    let was_outside = matches!(facts.before, Answer::Listed(l) if l.origin() == Origin::Outside);
    if was_outside && !traceback::in_users_files(error) {
        return Judgement {
            error: Some(LoadFailure::fold(error)),
            ..unproven(
                kind(facts, true),
                "it loads its code from outside the volume, and that fails",
            )
        };
    }
    let mut broken = broken(kind(facts, true), LoadFailure::fold(error));
    if traceback::release_of(error).is_some_and(|name| name != facts.release_dir) {
        broken.advice = Some(Text::cut(START_WITH_CURRENT));
    } else if error.message.contains("gRPC server exited") {
        broken.advice = Some(Text::cut(LOOK_FOR_EXIT));
    } else if error.message.contains("Timed out waiting for gRPC server") {
        broken.advice = Some(Text::cut(STARTUP_TIMEOUT));
    }
    broken
}

fn failed(facts: &Facts<'_>, error: &CallError) -> Judgement {
    match error {
        CallError::Status(Code::Unimplemented, _) => unproven(
            facts.kind,
            "what answers there is no Dagster code server: it cannot list repositories",
        ),
        CallError::Status(code, text) if died(facts) => broken(
            kind(facts, true),
            LoadFailure::plain(format!(
                "its process died while it imported the code ({code:?}: {text})"
            )),
        ),
        CallError::Deadline | CallError::Status(..) | CallError::Lost(_) => {
            let why = format!("it does not say what it loaded: {error}");
            unproven(facts.kind, &why).wait()
        }
        CallError::NotReached(_) => unasked(facts.kind, error),
    }
}

/// A reload that was not answered in time.
fn hung(facts: &Facts<'_>, answer: &Answer, id: Option<&str>) -> Judgement {
    let as_before = id.is_some_and(|id| !facts.since.covers(id));
    if as_before && matches!(answer, Answer::Listed(_)) {
        return Judgement {
            state: CodeServerState::Stuck,
            ..unproven(
                facts.kind,
                "its reload hangs, most likely in an import, and it goes on serving the old \
                 definitions: restart it, and start it with `--startup-timeout 60`",
            )
        };
    }
    unproven(facts.kind, "its reload was not answered in time")
}

/// A process that may have begun before the flip.
fn not_fresh(facts: &Facts<'_>) -> Judgement {
    let kind = kind(facts, false);
    match (facts.reload, facts.kind) {
        (Reload::Answered, CodeServerKind::CodeServer) => unproven(
            kind,
            "its server id did not change after ReloadCode: `dagster api grpc` cannot reload, and \
             with `--fixed-server-id` no reload can be seen",
        ),
        (Reload::Answered, CodeServerKind::Auto | CodeServerKind::ApiGrpc)
        | (Reload::Skipped, CodeServerKind::ApiGrpc) => unproven(kind, CANNOT_RELOAD),
        (Reload::Skipped, CodeServerKind::Auto | CodeServerKind::CodeServer) => unproven(
            kind,
            "it has not been asked to reload since this release was activated",
        ),
        (Reload::Hung | Reload::Lost, _) => unproven(kind, "its reload was not answered").wait(),
    }
}

/// Whether the parent answers, and its child does not live to list anything.
fn died(facts: &Facts<'_>) -> bool {
    let dead = facts.after.iter().filter(|o| {
        let parent_answers = o.pings || matches!(o.server_id, Err(CallError::Status(..)));
        parent_answers
            && matches!(&o.answer, Answer::Failed(CallError::Status(code, _)) if !passing(*code))
    });
    facts.reload == Reload::Answered && dead.count() >= FAILURES_MIN
}

/// Whether a status says nothing of the code: it comes from something between, or may pass.
const fn passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

/// What kind it is: the one that changes its id is the one that reloads.
fn kind(facts: &Facts<'_>, fresh: bool) -> CodeServerKind {
    match (facts.reload, fresh) {
        (Reload::Answered, true) => CodeServerKind::CodeServer,
        (Reload::Answered, false) => CodeServerKind::ApiGrpc,
        (Reload::Skipped | Reload::Hung | Reload::Lost, _) => facts.kind,
    }
}

fn id_of(observation: &Observation) -> Option<&str> {
    observation.server_id.as_deref().ok()
}

const fn good(kind: CodeServerKind, evidence: Evidence) -> Judgement {
    Judgement {
        verdict: Verdict::Good,
        evidence: Some(evidence),
        state: CodeServerState::Good,
        kind,
        error: None,
        advice: None,
        settled: true,
    }
}

const fn broken(kind: CodeServerKind, error: LoadFailure) -> Judgement {
    Judgement {
        verdict: Verdict::Broken,
        evidence: None,
        state: CodeServerState::Broken,
        kind,
        error: Some(error),
        advice: None,
        settled: true,
    }
}

fn unproven(kind: CodeServerKind, why: &str) -> Judgement {
    Judgement {
        verdict: Verdict::Unproven,
        evidence: None,
        state: CodeServerState::Unproven,
        kind,
        error: None,
        advice: Some(Text::cut(why)),
        settled: true,
    }
}

impl Judgement {
    /// Says that another look may change it.
    fn wait(self) -> Self {
        Self {
            settled: false,
            ..self
        }
    }
}

/// How often a listing must fail before its process counts as dead.
const FAILURES_MIN: usize = 2;
pub(super) const START_WITH_CURRENT: &str = "start it with `-d ROOT/current`";
const TWO_SERVERS: &str = "its server id changes from one connection to the next: two servers share this address \
     (SO_REUSEPORT); stop one of them";
const LOOK_FOR_EXIT: &str = "its process ended while it imported the code: look for `sys.exit`, `os._exit` or a crash of a \
     native library";
const STARTUP_TIMEOUT: &str = "importing the code takes longer than its `--startup-timeout`";
pub(super) const CANNOT_RELOAD: &str =
    "`dagster api grpc` cannot reload: restart it, or run `dagster code-server start` instead";

#[cfg(test)]
mod tests;
