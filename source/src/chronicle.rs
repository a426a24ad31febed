//! What the journal tells: the story of one release, what ran where at a moment. What its lines mean
//! is the protocol's to say.

use std::path::PathBuf;
use std::sync::Arc;

use codevol_protocol::audit::Audit;
use codevol_protocol::call::{CallFailure, FailureSort, LogEntry, ReleaseRef};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::{NodeName, VolumeName};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::story::{AtTime, Clock, Fact, Standing, Story, Teller};
use codevol_store::dir::DirError;
use codevol_store::journal::{Found, Line, Reader};
use codevol_store::recorder::Recorder;
use codevol_store::state_dir::StateDir;

use crate::volume::Volume;

/// The source's journal, to be read beside the thread that writes it.
#[derive(Debug, Clone)]
pub struct Chronicle {
    journal: PathBuf,
    reader: Arc<Reader>,
    recorder: Recorder,
}

impl Chronicle {
    /// Reads the journal of a STATE.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn open(state: &StateDir) -> Result<Self, DirError> {
        Ok(Self {
            journal: state.journal_path(),
            reader: Arc::new(state.journal_reader()?),
            recorder: state.journal().clone(),
        })
    }

    /// Tells the whole story of a release. Blocks.
    ///
    /// # Errors
    /// When there is no such release, or the journal cannot be read or is damaged.
    pub fn story(
        &self,
        (name, volume): (&VolumeName, &Volume),
        named: &ReleaseRef,
    ) -> Result<Story, CallFailure> {
        let release = volume.history.find(named).ok_or_else(|| {
            not_found(format!("there is no release {named}"))
                .hint("`codevol log` lists the releases")
        })?;
        let seq_of = |id: ReleaseId| volume.history.by_id(id).map(|release| release.seq());
        let mut teller = Teller::new(name.clone(), release.id(), seq_of);
        let found = self.read(|fact| teller.take(fact))?;
        let (steps, steps_cut) = teller.finish();
        Ok(Story {
            entry: LogEntry {
                release: volume.history.status(&release),
                result: volume.result_of(&release),
            },
            steps,
            steps_cut,
            journal_first: found.first,
        })
    }

    /// Tells what ran where at a moment, on one node where it is named. Blocks.
    ///
    /// # Errors
    /// When the journal begins later, cannot be read or is damaged, or nothing is known of that node.
    pub fn at(
        &self,
        (name, volume): (&VolumeName, &Volume),
        time: UnixMillis,
        node: Option<&NodeName>,
    ) -> Result<AtTime, CallFailure> {
        let mut clock = Clock::new(time);
        let mut began_at = None;
        self.read(|fact| {
            began_at.get_or_insert(fact.at);
            clock.take(fact.line, fact.at);
        })?;
        let Some(last) = clock.last() else {
            let began = began_at.map_or_else(String::new, |at| format!(": it begins at {at}"));
            return Err(not_found(format!(
                "the journal does not go back to {time}{began}"
            )));
        };
        let mut standing = Standing::new(name.clone());
        let found = self.read(|fact| {
            if fact.line <= last {
                standing.take(fact);
            }
        })?;
        let seq_of = |id: ReleaseId| volume.history.by_id(id).map(|release| release.seq());
        let mut at = standing.finish(&clock, node, seq_of);
        at.journal_first = found.first;
        match node {
            Some(node) if at.nodes.is_empty() => Err(not_found(format!(
                "the journal does not say what `{node}` ran at {time}"
            ))
            .hint("`codevol node ls` lists the members")),
            Some(_) | None => Ok(at),
        }
    }

    /// Checks all that was recorded before the call. Blocks.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn audit(&self) -> Result<Audit, CallFailure> {
        self.recorder.wait();
        self.reader.audit(&self.journal).map_err(|error| {
            CallFailure::new(FailureSort::Failed, "journal", "cannot read the journal")
                .caused_by(&error)
        })
    }

    /// Hands out each line that was recorded before the call.
    fn read(&self, mut take: impl FnMut(&Fact<'_>)) -> Result<Found, CallFailure> {
        self.recorder.wait();
        let read = self.reader.read(|line: Line| take(&fact(&line)));
        read.map_err(|error| {
            CallFailure::new(FailureSort::Failed, "journal", "cannot read the journal")
                .caused_by(&error)
                .hint("`codevol audit verify` checks all of it")
        })
    }
}

fn fact(line: &Line) -> Fact<'_> {
    let event = &line.event;
    Fact {
        line: line.seq,
        at: UnixMillis(u64::try_from(line.at.as_millisecond()).unwrap_or_default()),
        actor: &event.actor,
        action: &event.action,
        volume: event.volume.as_ref(),
        release: event.release,
        node: event.node.as_ref(),
        evidence: event.evidence,
        outcome: &event.outcome,
        detail: event.detail.as_ref(),
    }
}

fn not_found(message: String) -> CallFailure {
    CallFailure::new(FailureSort::Refused, "not-found", message)
}
