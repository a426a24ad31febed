//! `codevol status --watch`: the daemon tells how everything stands each time that it has changed. On a
//! terminal the screen is drawn anew; elsewhere each state is printed, and a script gets it as a
//! document on a line of its own.

use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::release::UnixMillis;
use codevol_protocol::status::Status;
use codevol_transport::watch::SILENCE_MAX;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::commands::Context;
use crate::control::{Control, Replies, block_on};
use crate::error::CommandError;
use crate::exit::ExitStatus;
use crate::output::live::Live;
use crate::screens::{self, status};

/// How long the daemon may be silent: longer than it is where nothing changes.
const SILENCE: Duration = SILENCE_MAX.saturating_mul(3);
/// How often a screen is drawn on which nothing has changed but the time.
const TICK: Duration = Duration::from_secs(1);

/// Shows how everything stands until Ctrl-C, or until nobody reads any more.
pub(super) fn run(control: &Control, context: &Context) -> Result<ExitStatus, CommandError> {
    block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| CommandError::failed("cannot handle signals").because(&error))?;
        let mut replies = control.begin(&Call::Watch).await?;
        let ended = show(control, (&mut replies, &mut interrupt), context).await;
        replies.hang_up().await;
        ended
    })?
}

async fn show(
    control: &Control,
    (replies, interrupt): (&mut Replies, &mut Signal),
    context: &Context,
) -> Result<ExitStatus, CommandError> {
    let mut shown = Shown::new(context);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: a reply that has begun stays in `replies`, and the others lose nothing.
        let is_read = tokio::select! {
            reply = replies.next(Instant::now() + SILENCE) => match reply {
                Ok(Reply::Status(status)) => shown.show(*status)?,
                Ok(Reply::Unchanged) => true,
                Ok(_) => return Err(control.unexpected()),
                Err(error) => return Err(shown.ended(control, error)),
            },
            _ = tick.tick() => shown.show_time()?,
            _ = interrupt.recv() => return Ok(ExitStatus::Interrupted),
        };
        if !is_read {
            return Ok(ExitStatus::Done);
        }
    }
}

/// What was shown so far.
struct Shown<'a> {
    context: &'a Context,
    live: Option<Live>,
    status: Option<Status>,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            live: context.printer.live(),
            status: None,
        }
    }

    /// Returns why it does not go on.
    fn ended(&self, control: &Control, error: CommandError) -> CommandError {
        let has_told = self.status.is_some();
        if !has_told || error.exit != ExitStatus::Unreachable {
            return error;
        }
        let role = control.role();
        CommandError::unreachable(format!("the {role} tells no more"))
            .cause(error.message)
            .hint("what was shown last may not hold any more; `codevol status` asks anew")
    }

    /// Shows a state, and says whether anybody reads it.
    fn show(&mut self, status: Status) -> Result<bool, CommandError> {
        let printer = &self.context.printer;
        let is_first = self.status.is_none();
        let status = self.status.insert(status);
        if printer.is_json() {
            return printer.json_to_reader(status);
        }
        if self.live.is_some() {
            return self.show_time();
        }
        let now = screens::now();
        let screen = status::render(status, now);
        if is_first {
            return printer.line_to_reader(screen);
        }
        printer.line_to_reader(format_args!("\n--- {now}\n{screen}"))
    }

    /// Draws the screen as of this moment, where it can be drawn.
    fn show_time(&mut self) -> Result<bool, CommandError> {
        if let (Some(live), Some(status)) = (&mut self.live, &mut self.status) {
            let now = screens::now();
            still_seen(status, now);
            live.draw(&status::render(status, now))?;
        }
        Ok(true)
    }
}

/// Whoever is connected is heard now, whenever that was said: that it has ended would be a change.
fn still_seen(status: &mut Status, now: UnixMillis) {
    let nodes = status.volumes.iter_mut().flat_map(|v| &mut v.nodes);
    for node in nodes.filter(|node| node.state.is_connected()) {
        node.last_seen_at = Some(now);
    }
}
