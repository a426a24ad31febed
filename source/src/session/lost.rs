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
        let head = volume.history.head().map_or(Seq(0), |head| head.seq());
        let Some((newest, record)) = newest(context, told).filter(|(seq, _)| *seq > head) else {
            continue;
        };
        let mut records = Vec::new();
        if hello.minor >= RECORDS_MINOR {
            let (volume, above) = (told.volume.clone(), head);
            let ask = FromSource::Records { volume, above };
            writer.write(&ask).await?;
            records = answer(told, reader, (&mut *judge, &mut early)).await?;
        }
        records.push(record);
        let lost = Lost {
            newest,
            records: believed(context, told, (head, newest), records),
            active: told.active.as_ref().map(|active| active.release),
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
    let verified = context.believed.verify_release(&record, &told.volume);
    Some((verified.ok()?.release().seq, record))
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

/// Returns those records that are lacking and signed by one of our publishers, oldest first.
fn believed(
    context: &SessionContext,
    told: &VolumeHello,
    (head, newest): (Seq, Seq),
    records: Vec<SignedRelease>,
) -> Vec<SignedRelease> {
    let mut believed = BTreeMap::new();
    for record in records {
        match context.believed.verify_release(&record, &told.volume) {
            Ok(verified) => {
                let seq = verified.release().seq;
                if seq > head && seq <= newest {
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
