//! What a restored source has lost and an agent knows, asked for before that agent is led anywhere: else
//! it would be sent back to what was live when the backup was made.

use std::collections::BTreeMap;

use codevol_protocol::chain::Chain;
use codevol_protocol::message::{AgentHello, FromAgent, FromSource, RECORDS_MINOR, VolumeHello};
use codevol_protocol::name::NodeName;
use codevol_protocol::release::{Seq, SignedRelease};
use codevol_protocol::session::SourceSession;
use codevol_protocol::violation::Violation;
use codevol_transport::{LinkReader, LinkWriter};
use tracing::warn;

use super::{SessionContext, SessionError};
use crate::fleet::Lost;
use crate::history::History;

/// How much an agent may say before it answers.
const EARLY_MAX: usize = 64;

/// Takes in what each volume's log lacks, and returns what the agent said of other things meanwhile.
pub(super) async fn take_in(
    context: &SessionContext,
    (hello, node): (&AgentHello, &NodeName),
    (writer, reader): (&mut LinkWriter, &mut LinkReader),
    judge: &mut SourceSession,
) -> Result<Vec<FromAgent>, SessionError> {
    let mut early = Vec::new();
    for told in &hello.volumes {
        let Some(volume) = context.volumes.get(&told.volume) else {
            continue;
        };
        let history = &volume.history;
        let is_lacking = |(newest, _): &(Seq, SignedRelease)| is_lacking(history, told, *newest);
        let Some((newest, record)) = newest(context, told).filter(is_lacking) else {
            continue;
        };
        let above = history.whole_up_to();
        let mut records = Vec::new();
        if hello.minor >= RECORDS_MINOR {
            let volume = told.volume.clone();
            let ask = FromSource::Records { volume, above };
            writer.write(&ask).await?;
            records = answer(told, reader, (&mut *judge, &mut early)).await?;
        }
        records.push(record);
        let lost = Lost {
            newest,
            records: believed(context, told, newest, records),
        };
        // Where the daemon is stopping, the session ends as well.
        volume
            .fleet
            .behind(node.clone(), lost)
            .await
            .unwrap_or_default();
    }
    Ok(early)
}

/// Returns the newest record that the agent took, where one of our publishers signed it.
fn newest(context: &SessionContext, told: &VolumeHello) -> Option<(Seq, SignedRelease)> {
    let record = told.newest.clone()?;
    match context.believed.verify_release(&record, &told.volume) {
        Ok(verified) => Some((verified.release().seq, record)),
        Err(error) => {
            let release = record.id();
            warn!(volume = %told.volume, release = %release.short(), error = %Chain(&error), "the newest record of an agent is not believed");
            None
        }
    }
}

/// Reads until the agent has answered.
async fn answer(
    told: &VolumeHello,
    reader: &mut LinkReader,
    (judge, early): (&mut SourceSession, &mut Vec<FromAgent>),
) -> Result<Vec<SignedRelease>, SessionError> {
    while early.len() < EARLY_MAX {
        let message: Option<FromAgent> = reader.read().await?;
        match message.ok_or(Violation::RecordsUnsaid)? {
            message @ FromAgent::Records { .. } => {
                judge.handle(&message)?;
                if let FromAgent::Records { volume, records } = message
                    && volume == told.volume
                {
                    return Ok(records);
                }
            }
            message => early.push(message),
        }
    }
    Err(Violation::RecordsUnsaid.into())
}

/// Whether the agent knows a newer release than the log, or holds one that may fall into a gap of it.
fn is_lacking(history: &History, told: &VolumeHello, newest: Seq) -> bool {
    let head = history.head().map_or(Seq(0), |head| head.seq());
    let mut held = told.held.iter();
    newest > head || (history.whole_up_to() < head && held.any(|held| history.seq(*held).is_none()))
}

/// Returns those records that are signed by one of our publishers, oldest first.
fn believed(
    context: &SessionContext,
    told: &VolumeHello,
    newest: Seq,
    records: Vec<SignedRelease>,
) -> Vec<SignedRelease> {
    let mut believed = BTreeMap::new();
    for record in records {
        match context.believed.verify_release(&record, &told.volume) {
            Ok(verified) => {
                let seq = verified.release().seq;
                if seq <= newest {
                    believed.insert(seq, record);
                }
            }
            Err(error) => {
                let release = record.id();
                warn!(volume = %told.volume, release = %release.short(), error = %Chain(&error), "a record that an agent handed out is not believed");
            }
        }
    }
    believed.into_values().collect()
}
