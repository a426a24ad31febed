//! Has something rolled out, and follows that to its end: the part that `push`, `rollback` and
//! `retry` share.

use std::time::Duration;

use codevol_protocol::call::{Call, PushPlan, Reply};
use codevol_protocol::release::Seq;
use codevol_protocol::status::{Event, EventKind, NodeState, NodeStatus, Outcome, OutcomeKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, timeout};

use crate::commands::Context;
use crate::commands::push::offer::Offer;
use crate::control::{Control, Replies, SCAN_TIMEOUT, block_on};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::progress::Progress;
use crate::output::units;
use crate::screens::rollout::{self, Rollout};
use crate::screens::{self, failure, plan};

/// How often what goes on is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);
/// How much longer than the source we wait for the end, so that it is the source that says it.
const GRACE: Duration = Duration::from_secs(10);
/// How long the state may take to be told once the wait has ended badly.
const STATE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is to be rolled out.
#[derive(Debug)]
pub(in crate::commands) struct Wanted {
    /// The call.
    pub call: Call,
    /// Whether the end is waited for.
    pub wait: bool,
    /// How it is undone.
    pub undo: Undo,
}

/// What the last line of a success names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Undo {
    /// The way back.
    Rollback,
    /// The way out of the freeze that a rollback leaves.
    Thaw,
}

/// Makes the call, and shows what comes of it.
///
/// # Errors
/// Nothing was published, or, where a person listens, its end is not known.
pub(in crate::commands) fn follow(
    control: &Control,
    wanted: Wanted,
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    follow_with(control, (wanted, None), context)
}

/// Makes the call, sends what it offers, and shows what comes of it.
///
/// # Errors
/// As [`follow`].
pub(in crate::commands) fn follow_with(
    control: &Control,
    (wanted, offer): (Wanted, Option<&Offer>),
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    block_on(async {
        let begun = Instant::now();
        // Taken over before the call is made: from then on there is something to say.
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
        let progress = context.printer.progress("publishing");
        let mut replies = control.begin(&wanted.call).await?;
        let sent = send(offer, &mut replies, (&mut interrupt, &progress)).await;
        let published = match sent {
            Ok(()) => publish(control, &mut replies, &mut interrupt).await,
            Err(error) => Err(error),
        };
        drop(progress);
        let plan = match published {
            Ok(plan) => offer.map_or_else(|| plan.clone(), |offer| offer.seen_in(plan.clone())),
            Err(error) => {
                replies.hang_up().await;
                return Err(error);
            }
        };
        let following = Following {
            control,
            context,
            plan: &plan,
            undo: wanted.undo,
            begun,
        };
        let ended = match plan.release.as_ref().filter(|_| wanted.wait) {
            Some(release) => {
                let replies = (&mut replies, &mut interrupt);
                following.to_the_end(replies, release.seq).await
            }
            None => following.no_further(),
        };
        replies.hang_up().await;
        ended
    })?
}

/// Sends what is offered. Nothing is published before all of it is there.
async fn send(
    offer: Option<&Offer>,
    replies: &mut Replies,
    (interrupt, progress): (&mut Signal, &Progress),
) -> Result<(), CommandError> {
    let Some(offer) = offer else { return Ok(()) };
    // Cancel-safe: whichever arm is dropped, the call is given up with the other's end.
    tokio::select! {
        sent = offer.send(replies, progress) => match sent {
            Err(error) if replies.is_lost(&error) => Err(CommandError {
                message: format!("{}: nothing was published", error.message),
                ..error
            }),
            sent => sent,
        },
        _ = interrupt.recv() => {
            let message = "interrupted before all files were sent: nothing was published";
            Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message))
        }
    }
}

async fn publish(
    control: &Control,
    replies: &mut Replies,
    interrupt: &mut Signal,
) -> Result<PushPlan, CommandError> {
    // Cancel-safe: whichever arm is dropped, the call is given up with the other's end.
    let reply = tokio::select! {
        reply = replies.next(Instant::now() + SCAN_TIMEOUT) => match reply {
            // The answer was lost, and with it whether there was one.
            Err(error) if replies.is_lost(&error) => return Err(unanswered(error)),
            reply => reply?,
        },
        _ = interrupt.recv() => {
            let message = "interrupted before the source answered: it may publish yet";
            return Err(CommandError::new(ExitStatus::Interrupted, "interrupted", message)
                .hint("`codevol log` shows whether it did"));
        }
    };
    let Reply::Plan(plan) = reply else {
        return Err(control.unexpected());
    };
    Ok(*plan)
}

/// The source took the call, and did not get to say what it did.
fn unanswered(error: CommandError) -> CommandError {
    CommandError {
        hint: Some(format!(
            "{}whether it was published, `codevol log` shows",
            error
                .hint
                .map_or_else(String::new, |hint| format!("{hint}; "))
        )),
        ..error
    }
}

/// A release that is published, and whoever wants to know how it fares.
struct Following<'a> {
    control: &'a Control,
    context: &'a Context,
    plan: &'a PushPlan,
    undo: Undo,
    begun: Instant,
}

impl Following<'_> {
    /// The end is not waited for.
    fn no_further(&self) -> Result<ExitStatus, CommandError> {
        let printer = &self.context.printer;
        if !printer.is_json() {
            printer.line(plan::published(self.plan))?;
            return Ok(ExitStatus::Done);
        }
        let release = self.plan.release.as_ref();
        printer.json(&Event {
            event: EventKind::ReleasePublished,
            at: release.map_or_else(screens::now, |release| release.created_at),
            volume: self.plan.volume.clone(),
            release: release.map(|release| release.seq),
            node: None,
            elapsed_ms: None,
            bytes: None,
            evidence: None,
            wave: None,
            error: None,
        })?;
        Ok(ExitStatus::Done)
    }

    async fn to_the_end(
        &self,
        replies: (&mut Replies, &mut Signal),
        seq: Seq,
    ) -> Result<ExitStatus, CommandError> {
        let printer = &self.context.printer;
        let limit = Duration::from_millis(self.plan.deadline_ms);
        if !printer.is_json() {
            printer.line(plan::published(self.plan))?;
        }
        if self.plan.nodes > 0 {
            let nodes = usize::try_from(self.plan.nodes).unwrap_or(usize::MAX);
            let nodes = units::count(nodes, "node", "nodes");
            let limit = units::elapsed(limit);
            printer.note(format_args!("Waiting  up to {limit} for {nodes}"));
        }
        let mut rollout = Rollout::new(seq);
        let ended = self.watch(replies, &mut rollout, limit + GRACE).await;
        match ended {
            Ok(outcome) => self.ended(&rollout, &outcome),
            Err(error) => self.unfinished(error, seq).await,
        }
    }

    async fn watch(
        &self,
        (replies, interrupt): (&mut Replies, &mut Signal),
        rollout: &mut Rollout,
        limit: Duration,
    ) -> Result<Outcome, CommandError> {
        let until = Instant::now() + limit;
        let progress = self.context.printer.progress("rolling out");
        let mut redraw = interval(REDRAW);
        loop {
            // Cancel-safe: a reply that has begun stays in `replies`, and the others lose nothing.
            tokio::select! {
                reply = replies.next(until) => {
                    let reply = reply?;
                    if let Reply::Outcome(outcome) = reply {
                        return Ok(*outcome);
                    }
                    let Reply::Event(event) = reply else {
                        return Err(self.control.unexpected());
                    };
                    self.happened(&event, rollout, &progress)?;
                }
                _ = redraw.tick() => progress.picture(|| rollout.going_on(screens::now())),
                _ = interrupt.recv() => return Err(interrupted(rollout)),
            }
        }
    }

    fn happened(
        &self,
        event: &Event,
        rollout: &mut Rollout,
        progress: &Progress,
    ) -> Result<(), CommandError> {
        rollout.take(event);
        if self.context.printer.is_json() {
            return self.context.printer.json(event);
        }
        progress.line(&rollout::event_line(event));
        Ok(())
    }

    fn ended(&self, rollout: &Rollout, outcome: &Outcome) -> Result<ExitStatus, CommandError> {
        let printer = &self.context.printer;
        let exit = exit_of(outcome);
        if printer.is_json() {
            printer.json(outcome)?;
            return Ok(exit);
        }
        if let Some(table) = rollout.ended(outcome) {
            printer.line(format_args!("\n{table}\n"))?;
        }
        for warning in &outcome.warnings {
            printer.warning(rollout::warning(warning));
        }
        if outcome.event == OutcomeKind::Failed {
            let report = failure::report(rollout, outcome, printer.is_verbose());
            printer.error(&report);
            printer.note(format_args!("log:  codevol log {}", outcome.release));
            return Ok(exit);
        }
        let done = rollout::done(rollout.release(), outcome, self.begun.elapsed());
        printer.line(done)?;
        printer.line(match self.undo {
            Undo::Rollback => "Undo:  codevol rollback",
            Undo::Thaw => "The volume is frozen: `codevol thaw` lets new releases go live again",
        })?;
        Ok(exit)
    }

    /// The release is published, but its end was not seen. A script is told how things stand, in
    /// the line that it waits for; that there was an error stands on standard error.
    async fn unfinished(&self, error: CommandError, seq: Seq) -> Result<ExitStatus, CommandError> {
        let hint = match error.exit {
            ExitStatus::Unreachable => {
                Some("the source goes on with it when it is back; `codevol status` shows how far")
            }
            ExitStatus::NotPermitted => {
                Some("it goes on all the same; `codevol status` on another machine shows how far")
            }
            _ => None,
        };
        let error = match hint {
            Some(hint) => CommandError {
                message: format!("{seq} is published, but its rollout can be followed no longer"),
                causes: [vec![error.message], error.causes].concat(),
                hint: Some(hint.to_owned()),
                ..error
            },
            None => error,
        };
        if !self.context.printer.is_json() {
            return Err(error);
        }
        self.context.printer.warning(&error.message);
        self.context.printer.json(&self.outcome_so_far(seq).await)?;
        Ok(error.exit)
    }

    /// Returns how things stand, as far as the source still says so.
    async fn outcome_so_far(&self, seq: Seq) -> Outcome {
        let asked = async {
            let mut replies = self.control.begin(&Call::Status).await.ok()?;
            match replies.next(Instant::now() + STATE_TIMEOUT).await {
                Ok(Reply::Status(status)) => {
                    replies.hang_up().await;
                    let mut volumes = status.volumes.into_iter();
                    volumes.find(|volume| volume.name == self.plan.volume)
                }
                Ok(_) | Err(_) => None,
            }
        };
        let volume = timeout(STATE_TIMEOUT, asked).await.ok().flatten();
        let live = volume.as_ref().and_then(|volume| volume.live);
        let nodes: Vec<NodeStatus> = volume.map(|volume| volume.nodes).unwrap_or_default();
        let held = nodes.iter().filter(|node| node.held.is_some());
        Outcome {
            event: if live == Some(seq) {
                OutcomeKind::Done
            } else {
                OutcomeKind::Failed
            },
            at: screens::now(),
            volume: self.plan.volume.clone(),
            release: seq,
            live,
            returned: false,
            wave: None,
            waves: None,
            held: held.map(|node| node.name.clone()).collect(),
            nodes: nodes
                .into_iter()
                .map(|node| (node.name, node.state))
                .collect(),
            warnings: Vec::new(),
            error: None,
        }
    }
}

fn interrupted(rollout: &Rollout) -> CommandError {
    let seq = rollout.release();
    let active: Vec<String> = rollout.activated().map(ToString::to_string).collect();
    let active = if active.is_empty() {
        "not activated anywhere yet".to_owned()
    } else {
        format!("activated on {}", active.join(", "))
    };
    CommandError::new(
        ExitStatus::Interrupted,
        "interrupted",
        format!("interrupted: {seq} is published and {active}; it goes on rolling out"),
    )
    .hint("`codevol status` shows how far it is, `codevol rollback` goes back")
}

/// Returns how a command that waited for this end ends itself.
fn exit_of(outcome: &Outcome) -> ExitStatus {
    let all_live = outcome
        .nodes
        .values()
        .all(|state| *state == NodeState::Live);
    match outcome.event {
        OutcomeKind::Failed => ExitStatus::Failed,
        OutcomeKind::Done if all_live => ExitStatus::Done,
        OutcomeKind::Done => ExitStatus::Partial,
    }
}

#[cfg(test)]
mod tests {
    use crate::screens::sample::outcome;

    use super::*;

    #[test]
    fn the_exit_status_says_how_much_of_the_fleet_is_live() {
        use NodeState::{Failed, Joining, Live, Offline, Unverified};
        let exit = |event, states: &[NodeState]| {
            let names = ["a", "b", "c"];
            let nodes: Vec<_> = names.into_iter().zip(states.iter().copied()).collect();
            exit_of(&outcome(event, 2, 2, &nodes)).code()
        };
        assert_eq!(exit(OutcomeKind::Done, &[]), 0);
        assert_eq!(exit(OutcomeKind::Done, &[Live, Live]), 0);
        for other in [Offline, Unverified, Failed, Joining] {
            assert_eq!(exit(OutcomeKind::Done, &[Live, other]), 3);
            assert_eq!(exit(OutcomeKind::Failed, &[Live, other]), 1);
        }
        assert_eq!(exit(OutcomeKind::Failed, &[Live]), 1);
    }
}
