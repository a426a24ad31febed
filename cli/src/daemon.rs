//! What both daemons need of the process: logs, signals, systemd's notifications, and a new life with
//! another configuration.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::commands::{Context, runtime};
use crate::config::{Config, Role, check};
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// What a stopped daemon has left to finish outside of its tasks gets this long.
const LEFTOVERS_MAX: Duration = Duration::from_secs(5);

/// A daemon, as this module runs it.
pub(crate) trait Daemon: Sized {
    /// What it runs with.
    type Config: PartialEq;
    /// Whose configuration it takes.
    const ROLE: Role;
    /// How many threads its tasks take turns on; as many as there are cores where it says nothing.
    const WORKERS: Option<usize>;

    /// Takes its own out of a configuration.
    fn config(config: Config) -> Result<Self::Config, CommandError>;

    /// Starts it, within a runtime. What the start found out, and is to stay so in its next life, it
    /// puts into the configuration.
    fn start(config: &mut Self::Config) -> Result<Self, CommandError>;

    /// Returns what it is to run with next, or why that needs another process.
    fn follow(config: &Self::Config, next: Self::Config) -> Result<Self::Config, CommandError>;

    /// Returns what stops it.
    fn stopper(&self) -> CancellationToken;

    /// Runs it until it is stopped.
    fn run(self) -> impl Future<Output = ()> + Send + 'static;
}

/// Refuses another state folder: in it lies who this daemon is.
pub(crate) fn same_state_dir(old: &Path, next: &Path) -> Result<(), CommandError> {
    if old == next {
        return Ok(());
    }
    let (old, next) = (old.display(), next.display());
    Err(CommandError::config(format!(
        "`state_dir` cannot change from `{old}` to `{next}` while the daemon runs"
    ))
    .hint("restart the daemon"))
}

/// What to do where metrics cannot be served.
pub(crate) const METRICS_HINT: &str =
    "another process may use that TCP port: `listen` below `[metrics]` names another";

/// Returns where metrics are to be served next: any port will do where none is said, and whoever reads
/// them knows the one that there is.
pub(crate) fn same_port(old: Option<SocketAddr>, next: Option<SocketAddr>) -> Option<SocketAddr> {
    let mut next = next?;
    if let Some(old) = old.filter(|old| next.port() == 0 && old.ip() == next.ip()) {
        next.set_port(old.port());
    }
    Some(next)
}

/// Where a container engine leaves its mark.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Begins to log: fields to journald under systemd, JSON in a container, text elsewhere. `RUST_LOG`
/// says how much.
pub(crate) fn log(verbose: bool) {
    let level = if verbose { "debug" } else { "info" };
    let wanted = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|wanted| !wanted.is_empty());
    let filter = match &wanted {
        Some(_) => EnvFilter::try_from_default_env(),
        None => Ok(EnvFilter::new(level)),
    };
    let (filter, unheeded) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(level), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let journald = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let container = CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists())
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match journald {
        Some(journald) => registry.with(journald).try_init(),
        None if container => registry.with(text.json()).try_init(),
        None => registry
            .with(text.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
    };
    // A second daemon in one process logs where the first one does.
    started.unwrap_or_default();
    if let Some(error) = unheeded {
        warn!(%error, "`RUST_LOG` is invalid and not heeded");
    }
}

/// What a daemon is to do next.
enum Next {
    /// It has ended by itself: it could not go on.
    Ended,
    Stop,
    Reload,
}

/// The signals that a daemon heeds. They are heard on a runtime of their own, so that none is lost
/// between two lives of the daemon.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, CommandError> {
        let failed = |error| CommandError::failed("cannot handle signals").because(&error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let [terminate, interrupt, hangup] = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ]
        .map(signal);
        drop(entered);
        Ok(Self {
            runtime,
            terminate: terminate.map_err(failed)?,
            interrupt: interrupt.map_err(failed)?,
            hangup: hangup.map_err(failed)?,
        })
    }

    /// Waits for the next signal, or for the daemon's end.
    fn next(&mut self, run: &mut JoinHandle<()>) -> Next {
        self.runtime.block_on(async {
            // Cancel-safe: all of them only wait.
            tokio::select! {
                _ = run => Next::Ended,
                _ = self.terminate.recv() => Next::Stop,
                _ = self.interrupt.recv() => Next::Stop,
                _ = self.hangup.recv() => Next::Reload,
            }
        })
    }
}

/// One life of a daemon, on a runtime of its own: when that is gone, so is every task and socket.
struct Life {
    runtime: Runtime,
    stopper: CancellationToken,
    run: JoinHandle<()>,
}

impl Life {
    fn start<D: Daemon>(config: &mut D::Config) -> Result<Self, CommandError> {
        let runtime = runtime(D::WORKERS)?;
        let daemon = runtime.block_on(async { D::start(config) })?;
        let stopper = daemon.stopper();
        let run = runtime.spawn(daemon.run());
        if let Some(limit) = sd_notify::watchdog_enabled() {
            runtime.spawn(feed_watchdog(limit));
        }
        Ok(Self {
            runtime,
            stopper,
            run,
        })
    }

    fn stop(self, signals: &Signals) {
        self.stopper.cancel();
        // A panic in it was logged where it happened.
        drop(signals.runtime.block_on(self.run));
        self.runtime.shutdown_timeout(LEFTOVERS_MAX);
    }
}

/// Runs a daemon until SIGTERM or SIGINT. At SIGHUP the file is read again: one with faults is reported
/// and changes nothing; with another one the daemon stops cleanly and starts anew, in this process.
///
/// # Errors
/// It cannot start.
pub(crate) fn run<D: Daemon>(context: &Context) -> Result<ExitStatus, CommandError> {
    let loaded = context.load(Some(D::ROLE))?;
    check::environment(&loaded)?;
    let mut config = D::config(loaded.config)?;
    log(context.printer.is_verbose());
    let mut signals = Signals::new()?;
    let mut life = Life::start::<D>(&mut config)?;
    tell(&[NotifyState::Ready]);
    loop {
        match signals.next(&mut life.run) {
            Next::Ended => {
                let ended = CommandError::failed("the daemon could not go on, and has stopped");
                return Err(ended.hint("its log says why"));
            }
            Next::Stop => {
                tell(&[NotifyState::Stopping]);
                life.stop(&signals);
                return Ok(ExitStatus::Done);
            }
            Next::Reload => {
                tell_reloading();
                match reread::<D>(context, &config) {
                    Ok(next) if next == config => info!("configuration is as it was"),
                    Ok(next) => {
                        life.stop(&signals);
                        life = start_anew::<D>(&mut config, next)?;
                    }
                    Err(error) => refuse("configuration is invalid: the old one stays", &error),
                }
                tell(&[NotifyState::Ready]);
            }
        }
    }
}

fn reread<D: Daemon>(context: &Context, config: &D::Config) -> Result<D::Config, CommandError> {
    let loaded = Config::load(context.config.as_deref(), &[D::ROLE])?;
    check::environment(&loaded)?;
    for warning in &loaded.warnings {
        warn!(warning, "configuration has a doubtful value");
    }
    D::follow(config, D::config(loaded.config)?)
}

/// Starts with the new configuration, or else with the old one.
fn start_anew<D: Daemon>(
    config: &mut D::Config,
    mut next: D::Config,
) -> Result<Life, CommandError> {
    match Life::start::<D>(&mut next) {
        Ok(life) => {
            info!("configuration was reloaded");
            *config = next;
            Ok(life)
        }
        Err(error) => {
            refuse(
                "cannot start with the new configuration: the old one stays",
                &error,
            );
            Life::start::<D>(config).map_err(|error| CommandError {
                // It could be started before: a supervisor is to try again.
                exit: ExitStatus::Failed,
                ..error
            })
        }
    }
}

fn refuse(what: &'static str, error: &CommandError) {
    let report = error.render();
    let report = anstream::adapter::strip_str(report.trim_end());
    error!(%report, "{what}");
}

/// Feeds systemd's watchdog as long as the daemon's runtime turns.
async fn feed_watchdog(limit: Duration) {
    let mut beat = tokio::time::interval(limit.max(Duration::from_millis(2)) / 2);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(moment) => tell(&[NotifyState::Reloading, moment]),
        Err(error) => tracing::warn!(%error, "cannot read the clock for systemd"),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
