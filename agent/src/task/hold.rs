//! What a person asks of this node, here or at the source: to go to a release that it holds and stay
//! there, or to go on. Each step is as in any activation. That it is held is durable before it moves.

use codevol_protocol::call::{CallFailure, FailureSort, ReleaseRef};
use codevol_protocol::chain::Chain;
use codevol_protocol::hold::{
    AskedAt, Hold, HoldAnswer, HoldOrder, NodeRollback, Thawed, WentBack,
};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::limits::HOLD_TEXT_BYTES_MAX;
use codevol_protocol::message::{Failure, FromAgent, Step, Verification};
use codevol_protocol::name::Text;
use codevol_protocol::release::Seq;
use codevol_store::journal::Event;
use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tracing::{info, warn};

use super::verifying::Purpose;
use super::{VolumeTask, now};
use crate::hold::Kept;

/// Who hears what came of it.
#[derive(Debug)]
pub enum ReplyTo {
    /// A caller on this host.
    Caller(oneshot::Sender<HoldAnswer>),
    /// The source, which asked by this number.
    Source(u64),
}

impl ReplyTo {
    const fn asked_at(&self) -> AskedAt {
        match self {
            Self::Caller(_) => AskedAt::Node,
            Self::Source(_) => AskedAt::Source,
        }
    }
}

/// A rollback of which nobody knows yet whether it stays.
#[derive(Debug)]
pub(super) struct GoingBack {
    from: Option<ReleaseId>,
    to: ReleaseId,
    /// What held this node before: it does again, if the release is broken.
    before: Option<Hold>,
    /// What is wrong with the release, once that is known.
    broken: Option<Verification>,
    /// Whoever waits for the end.
    reply_to: Option<ReplyTo>,
}

impl VolumeTask {
    /// Does as a person wants, and answers.
    pub(super) async fn take_order(&mut self, order: HoldOrder, reply_to: ReplyTo) {
        match order {
            HoldOrder::Rollback(wanted) => self.roll_back(wanted, reply_to).await,
            HoldOrder::Thaw { why, by } => {
                let answer = self.thaw(why, by).await;
                self.answer(reply_to, answer).await;
            }
        }
    }

    async fn roll_back(&mut self, wanted: NodeRollback, reply_to: ReplyTo) {
        let wait = wanted.wait;
        let begun = self.begin_rollback(wanted, reply_to.asked_at()).await;
        let mut going = match begun {
            Ok(going) => going,
            Err(failure) => return self.answer(reply_to, HoldAnswer::Failed(failure)).await,
        };
        if wait {
            going.reply_to = Some(reply_to);
        } else {
            let went = self.went(&going, None, None);
            self.answer(reply_to, went).await;
        }
        if let Some(earlier) = self.going_back.replace(going) {
            self.give_way(earlier).await;
        }
        // Where nothing moved, what is known already is the end.
        if let (Some(active), Some(found)) = (self.active(), self.verification.clone()) {
            self.end_rollback(active, &found).await;
        }
    }

    /// Goes to the release and is held there; what its code servers make of it is found out.
    async fn begin_rollback(
        &mut self,
        wanted: NodeRollback,
        asked_at: AskedAt,
    ) -> Result<GoingBack, CallFailure> {
        let (seq, to) = self.target(wanted.to.as_ref())?;
        let from = self.active();
        if self.newer().contains(&to)
            && let Some(failure) = self.refusal(to).await
        {
            let message = format!("{seq} is not activated here: {}", failure.message);
            let refused = CallFailure::new(FailureSort::Refused, "dependencies", message);
            return Err(match failure.hint {
                Some(hint) => refused.hint(hint),
                None => refused,
            });
        }
        let hold = Hold {
            release: to,
            seq,
            why: cut(wanted.why, "rolled back by hand"),
            by: cut(wanted.by, "somebody"),
            at: now(),
            asked_at,
        };
        let before = self.kept.get().hold.clone();
        self.hold(Some(hold.clone()), None).await?;
        let moved = match from {
            Some(from) if from == to => Ok(None),
            _ => self.flip_to(to).map(Some),
        };
        match moved {
            Ok(flipped) => {
                self.record_word("rollback", &hold.by, (Some(to), &hold.why));
                info!(volume = %self.volume, release = %seq, by = %hold.by, "a person holds this node here");
                if let Some(elapsed_us) = flipped {
                    self.report(to, Step::Activated { elapsed_us }).await;
                    self.verify(to, Purpose::Activated);
                }
                Ok(GoingBack {
                    from,
                    to,
                    before,
                    broken: None,
                    reply_to: None,
                })
            }
            Err(failure) => {
                self.hold(before, None).await?;
                let message = format!("cannot activate {seq}: {}", failure.message);
                let kind = failure.kind.as_str();
                Err(CallFailure::new(FailureSort::Failed, kind, message)
                    .hint("nothing was changed; `codevol doctor` looks at this host"))
            }
        }
    }

    /// Returns the release that is meant: the named one, else the newest before the active one that was
    /// active here and is not known to be broken.
    fn target(&self, named: Option<&ReleaseRef>) -> Result<(Seq, ReleaseId), CallFailure> {
        let refused = |kind, message| CallFailure::new(FailureSort::Refused, kind, message);
        let root = self.lock();
        let mut held: Vec<(Seq, ReleaseId)> = root
            .held()
            .values()
            .map(|held| (held.release().seq, held.id()))
            .collect();
        held.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        if let Some(named) = named {
            let mut found = held.iter().filter(|(seq, id)| named.names(*seq, id));
            let all: Vec<String> = held.iter().map(|(seq, _)| seq.to_string()).collect();
            return match (found.next(), found.next()) {
                (Some(found), None) => Ok(*found),
                (Some(_), Some(_)) => Err(refused(
                    "ambiguous",
                    format!("`{named}` names several of the releases that this node holds"),
                )
                .hint("write more of its id")),
                (None, _) => {
                    let message = format!("this node does not hold {named}: nothing was changed");
                    Err(refused("not-held", message).hint(format!("it holds {}", all.join(", "))))
                }
            };
        }
        let earlier = root.earlier();
        let broken = &self.kept.get().broken;
        let (broken, whole): (Vec<_>, Vec<_>) =
            earlier.into_iter().partition(|(_, id)| broken.contains(id));
        match (whole.first(), broken.first()) {
            (Some(found), _) => Ok(*found),
            (None, Some((seq, _))) => Err(refused(
                "quarantined",
                format!("{seq}, which was active here before, was found broken"),
            )
            .hint(format!("`codevol rollback {seq}` goes there all the same"))),
            (None, None) => Err(refused(
                "not-held",
                "no earlier release that was active here is held any more".to_owned(),
            )
            .hint(
                "`codevol log` on this host lists what it holds; `codevol rollback REL` names one",
            )),
        }
    }

    async fn thaw(&mut self, why: Text, by: Text) -> HoldAnswer {
        let Some(was) = self.kept.get().hold.clone() else {
            return HoldAnswer::Thawed(None);
        };
        let thawed = Thawed {
            why: cut(why, ""),
            by: cut(by, "somebody"),
            at: now(),
        };
        self.record_word("thaw", &thawed.by, (Some(was.release), &thawed.why));
        info!(volume = %self.volume, by = %thawed.by, "this node goes with the others again");
        if let Some(going) = &mut self.going_back {
            going.before = None;
        }
        match self.hold(None, Some(thawed)).await {
            Ok(()) => HoldAnswer::Thawed(Some(was)),
            Err(failure) => HoldAnswer::Failed(failure),
        }
    }

    /// Makes it durable whether this node is held, and tells the source.
    async fn hold(
        &mut self,
        hold: Option<Hold>,
        thawed: Option<Thawed>,
    ) -> Result<(), CallFailure> {
        let broken = self.kept.get().broken.clone();
        let kept = Kept {
            hold,
            thawed,
            broken,
        };
        let saved = block_in_place(|| self.kept.replace(kept));
        saved.map_err(|cause| {
            let message = "it cannot be made durable that this node is held: nothing was changed";
            CallFailure::new(FailureSort::Failed, "io", message).caused_by(&cause)
        })?;
        let report = self.kept.get().report(self.volume.clone());
        self.speaker.say(FromAgent::Hold(report)).await;
        Ok(())
    }

    /// Returns why nothing is activated that the source wants, where a person holds this node.
    pub(super) fn held_back(&self) -> Option<Failure> {
        let hold = self.kept.get().hold.as_ref()?;
        let message = format!("held on {} by {}: {}", hold.seq, hold.by, hold.why);
        let mut failure = Failure::new("held", message);
        failure.retryable = false;
        failure.hint = Some(Text::cut(
            "`codevol thaw` on that host, or `thaw --node`, ends it",
        ));
        Some(failure)
    }

    /// After a restart: a rollback that was cut short before the flip is done now, unless the release was
    /// left since, because it was broken.
    pub(super) fn resume_hold(&mut self) {
        let Some(hold) = self.kept.get().hold.clone() else {
            return;
        };
        let (release, active) = (hold.release, self.active());
        if active == Some(release) {
            return;
        }
        let is_broken = self.kept.get().broken.contains(&release);
        if !is_broken && self.flip_to(release).is_ok() {
            return;
        }
        warn!(volume = %self.volume, release = %hold.seq, "this node is not held any more: it had left that release, or cannot go there");
        let mut kept = self.kept.get().clone();
        kept.hold = None;
        self.keep(kept);
    }

    /// Notes that the active release is left because it is broken.
    pub(super) fn left_broken(&mut self, release: ReleaseId) {
        self.keep(self.kept.get().with_broken(release));
    }

    /// Notes that a release is good after all.
    pub(super) fn found_good(&mut self, release: ReleaseId) {
        if self.kept.get().broken.contains(&release) {
            self.keep(self.kept.get().without_broken(release));
        }
    }

    fn keep(&mut self, kept: Kept) {
        if let Err(cause) = block_in_place(|| self.kept.replace(kept)) {
            // The worst that follows: a person who names no release is led back to a broken one.
            warn!(volume = %self.volume, error = %Chain(&cause), "cannot keep what is broken");
        }
    }

    /// The release that a person wanted is broken, and this node goes back from there; says whether it
    /// was that one.
    pub(super) fn rollback_is_broken(&mut self, release: ReleaseId, found: &Verification) -> bool {
        let going = self.going_back.as_mut().filter(|going| going.to == release);
        let Some(going) = going else { return false };
        going.broken = Some(found.clone());
        true
    }

    /// A verification has ended: perhaps the last one of a rollback.
    pub(super) async fn end_rollback(&mut self, release: ReleaseId, found: &Verification) {
        let Some(mut going) = self.going_back.take() else {
            return;
        };
        if going.broken.is_none() && going.to == release {
            if let Some(reply_to) = going.reply_to.take() {
                let went = self.went(&going, Some(found.clone()), None);
                self.answer(reply_to, went).await;
            }
        } else if going.broken.is_some() && going.to != release {
            let before = going.before.take();
            // Where that fails it is still held, on a release that it has left: a restart mends it.
            if let Err(failure) = self.hold(before, None).await {
                warn!(volume = %self.volume, error = %failure, "cannot keep that this node is not held");
            }
            if let Some(reply_to) = going.reply_to.take() {
                let went = self.went(&going, going.broken.clone(), Some(found.clone()));
                self.answer(reply_to, went).await;
            }
        } else {
            self.going_back = Some(going);
        }
    }

    async fn give_way(&self, earlier: GoingBack) {
        if let Some(reply_to) = earlier.reply_to {
            let message = "somebody asked for another release before this one was verified";
            let failure = CallFailure::new(FailureSort::Failed, "superseded", message);
            let failure = failure.hint("`codevol status` shows what the node runs");
            self.answer(reply_to, HoldAnswer::Failed(failure)).await;
        }
    }

    fn went(
        &self,
        going: &GoingBack,
        found: Option<Verification>,
        returned: Option<Verification>,
    ) -> HoldAnswer {
        let root = self.lock();
        let seq = |id: ReleaseId| root.held().get(&id).map(|held| held.release().seq);
        HoldAnswer::WentBack(Box::new(WentBack {
            from: going.from.and_then(seq),
            to: seq(going.to).unwrap_or_default(),
            active: root.active().and_then(seq),
            found,
            returned,
        }))
    }

    async fn answer(&self, reply_to: ReplyTo, answer: HoldAnswer) {
        match reply_to {
            // Whoever asked may have gone.
            ReplyTo::Caller(caller) => drop(caller.send(answer)),
            ReplyTo::Source(ask) => {
                let volume = self.volume.clone();
                let say = FromAgent::HoldAnswer {
                    volume,
                    ask,
                    answer,
                };
                self.speaker.say(say).await;
            }
        }
    }

    fn record_word(
        &self,
        action: &'static str,
        by: &Text,
        (release, why): (Option<ReleaseId>, &Text),
    ) {
        self.journal.record(Event {
            actor: by.clone(),
            action: action.into(),
            volume: Some(self.volume.clone()),
            release,
            node: None,
            evidence: None,
            outcome: "done".into(),
            detail: (!why.is_empty()).then(|| why.clone()),
        });
    }
}

/// Returns what a person said, as much as is kept of it.
fn cut(said: Text, otherwise: &str) -> Text {
    if said.is_empty() {
        return Text::cut(otherwise);
    }
    let end = said.as_str().floor_char_boundary(HOLD_TEXT_BYTES_MAX);
    Text::cut(said.as_str().get(..end).unwrap_or_default())
}
