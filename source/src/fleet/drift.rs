//! What drifts on the nodes, by their own account; and asking them to look.

use std::collections::{BTreeMap, BTreeSet};

use codevol_protocol::chain::Chain;
use codevol_protocol::drift::{Answer, Depth, DriftReport, Drifted, Looked, Pass, Word};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::RULES_SENT_BYTES_MAX;
use codevol_protocol::message::{DRIFT_MINOR, FromSource};
use codevol_protocol::name::NodeName;
use codevol_protocol::story::{action, outcome};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tracing::{info, warn};

use super::act::send;
use super::handle::SessionCommand;
use super::task::FleetTask;
use crate::journal::Line;

/// How many questions may be open at once.
const QUESTIONS_MAX: usize = 16;

/// What is to be heard of a question.
#[derive(Debug)]
pub enum Heard {
    /// A node is so far.
    Going(NodeName, Pass),
    /// A node has answered, or will not.
    Answered(NodeName, Answer, Option<Box<Looked>>),
}

/// The questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    last: u64,
    open: BTreeMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    asker: mpsc::Sender<Heard>,
    waits_for: BTreeSet<NodeName>,
}

impl Questions {
    /// Forgets those that nobody waits for any more; whether one more may be asked.
    fn has_room(&mut self) -> bool {
        self.open
            .retain(|_, question| !question.asker.is_closed() && !question.waits_for.is_empty());
        self.open.len() < QUESTIONS_MAX
    }
}

impl FleetTask {
    /// Has nodes look: this one, or every one. Each is heard of, whether it can be asked or not. When
    /// nobody is left to be heard of, the asker's channel ends.
    pub(super) async fn verify(
        &mut self,
        depth: Depth,
        only: Option<&NodeName>,
        asker: mpsc::Sender<Heard>,
    ) {
        // Where too many ask, the channel ends at once.
        if !self.questions.has_room() {
            return warn!(volume = %self.volume, "too many verifications at once");
        }
        self.questions.last += 1;
        let ask = self.questions.last;
        let mut waits_for = BTreeSet::new();
        let mut outboxes = Vec::new();
        let wanted = |node: &NodeName| only.is_none_or(|only| only == node);
        for (node, known) in self.nodes.iter().filter(|(node, _)| wanted(node)) {
            let answer = match &known.session {
                Some(session) if session.minor >= DRIFT_MINOR => {
                    outboxes.push(session.outbox.clone());
                    waits_for.insert(node.clone());
                    continue;
                }
                Some(_) => Answer::TooOld,
                None => Answer::Offline,
            };
            hear(&asker, Heard::Answered(node.clone(), answer, None)).await;
        }
        let question = Question { asker, waits_for };
        self.questions.open.insert(ask, question);
        for outbox in outboxes {
            let volume = self.volume.clone();
            let verify = FromSource::Verify { volume, ask, depth };
            send(&outbox, SessionCommand::Say(verify)).await;
        }
        self.questions.has_room();
    }

    /// Takes in what a node says to a question.
    pub(super) async fn looked(&mut self, node: &NodeName, ask: u64, word: Word) {
        let Some(question) = self.questions.open.get_mut(&ask) else {
            return;
        };
        if !question.waits_for.contains(node) {
            return;
        }
        let heard = match word {
            Word::Going(pass) => Heard::Going(node.clone(), pass),
            Word::Ended(looked) => {
                question.waits_for.remove(node);
                Heard::Answered(node.clone(), Answer::Answered, Some(looked))
            }
        };
        hear(&question.asker, heard).await;
        self.questions.has_room();
    }

    /// A node that is gone answers nothing.
    pub(super) async fn will_not_answer(&mut self, node: &NodeName) {
        for question in self.questions.open.values_mut() {
            if question.waits_for.remove(node) {
                let gone = Heard::Answered(node.clone(), Answer::Offline, None);
                hear(&question.asker, gone).await;
            }
        }
        self.questions.has_room();
    }

    /// Takes in what drifts on a node now.
    pub(super) fn drifts(&mut self, node: &NodeName, report: DriftReport) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        let DriftReport {
            drifted, restored, ..
        } = report;
        if known.drifted == drifted {
            return;
        }
        let before = std::mem::replace(&mut known.drifted, drifted.clone());
        let how = match (restored, drifted.is_empty()) {
            (0, true) => outcome::GONE,
            (0, false) => outcome::FOUND,
            (1.., _) => outcome::RESTORED,
        };
        let what: &Drifted = if how == outcome::FOUND {
            &drifted
        } else {
            &before
        };
        let line = Line::new(action::DRIFT).node(node).outcome(how);
        self.journal
            .record(line.volume(&self.volume).detail(&what.summary()).event());
        let paths = drifted.count();
        if paths > 0 {
            warn!(volume = %self.volume, %node, paths, drift = %codevol_protocol::name::Printable(&drifted.summary()), "node's disk is not as released");
        } else {
            info!(volume = %self.volume, %node, restored, "node's disk is as released again");
        }
    }

    /// Sends a node the ignore rules of a release that it holds. Where they are not kept any more, or are
    /// too long to travel, the node goes on without.
    pub(super) async fn send_rules(&self, node: &NodeName, release: ReleaseId) {
        let session = self
            .nodes
            .get(node)
            .and_then(|known| known.session.as_ref());
        let (Some(session), Some(release)) = (session, self.history.by_id(release)) else {
            return;
        };
        let blob = release.release().ignore_rules;
        match block_in_place(|| self.history.ignore_rules(blob)) {
            Ok(rules) if rules.len() <= RULES_SENT_BYTES_MAX => {
                let volume = self.volume.clone();
                let say = FromSource::Rules { volume, rules };
                send(&session.outbox, SessionCommand::Say(say)).await;
            }
            Ok(_) => warn!(volume = %self.volume, %node, "ignore rules are too long to travel"),
            Err(cause) if cause.is_not_found() => {}
            Err(cause) => {
                warn!(volume = %self.volume, error = %Chain(&cause), "ignore rules cannot be read");
            }
        }
    }
}

/// Tells the asker. One that does not take it, or has left, is not waited for.
async fn hear(asker: &mpsc::Sender<Heard>, heard: Heard) {
    match heard {
        // How far it is will be told again.
        going @ Heard::Going(..) => drop(asker.try_send(going)),
        answered @ Heard::Answered(..) => {
            drop(asker.send_timeout(answered, TAKE_TIMEOUT).await);
        }
    }
}

/// How long the fleet waits for whoever asked.
const TAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
